# SPDX-License-Identifier: MIT
"""May this record be believed, and may it move `main` as it is now?

Each rule raises Refused or says nothing. Those of `admit` hold for every verdict, those of `land`
for one that moves `main`. In words: docs/promotion.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from avo_pytest import gates, policy
from avo_pytest.entries import ID, SEED, VERDICT, Entry
from avo_pytest.filing import Filing
from avo_pytest.landing import Proposal, Refused, read_proposal
from avo_pytest.policy import SIMULATED
from avo_pytest.recording import epoch_of
from avo_pytest.standing import Standing
from avo_pytest.tip import Tip, Untold

EXPIRES = timedelta(hours=6)  # after that a verdict moves nothing
FUTURE = timedelta(minutes=10)  # by which a scorer's clock may be ahead
MODES = ("screen", "confirm", "measure")
_AGAIN = "score it again"


def sound(filing: Filing) -> None:
    """What can be told from the record alone."""
    record = filing.record
    for what, name in (("kernel", record.kernel), ("target", record.target)):
        if not gates.NAME.fullmatch(name):
            raise Refused("name", f"{name!r} is no name of a {what}")
    if not ID.fullmatch(record.run) or f"{_created(filing):%Y%m%d-%H%M%S}" != record.run[:15]:
        raise Refused("record", f"run {record.run!r} did not begin at {record.created!r}")
    if record.mode not in MODES:
        raise Refused("mode", f"a record of mode {record.mode!r} is not recorded", _AGAIN)
    if "share" in record.plan:
        text = f"share {str(record.plan['share'])[:9]} of a confirm decides nothing"
        raise Refused("share", text, "`avo merge` all of its shares")
    if filing.finding:
        raise Refused(
            "record", filing.finding, "the record was altered, or made by another version"
        )


def admit(filing: Filing, tip: Tip) -> None:
    """The verdict is `main`'s own: its judge, its problem, its policy."""
    record = filing.record
    if not tip.has_problem:
        raise Refused("kernel", f"main has no problem for {record.kernel}", "add it by review")
    if record.harness != tip.harness:
        text = f"judged by harness {record.harness[:12]}, main has {tip.harness[:12]}"
        raise Refused("harness", text, "update to main and score it again")
    if tip.harness != tip.running:
        raise Untold(f"this avo is not main's ({tip.running[:12]}, main has {tip.harness[:12]})")
    if record.mode == "measure":
        return
    own = tip.policy(record)
    if policy.digest(own) != policy.digest(policy.from_dict(record.policy)):
        said = next((r.text for r in filing.verdict(own).reasons if r.rule == "policy"), "")
        raise Refused("policy", said or "it was judged under another policy", _AGAIN)
    by_main = filing.verdict(own)
    if by_main.kind != filing.claimed:
        text = f"it says {filing.claimed}, by main it is {by_main.kind}: {by_main.told()}"
        raise Refused("verdict", text, _AGAIN)


def asked(filing: Filing, tip: Tip, entries: Sequence[Entry]) -> None:
    """It answers the question that was asked, once, on the device that may answer it."""
    record = filing.record
    if filing.role == gates.JUDGE:
        if SIMULATED in (record.target, record.environment.get("device")):
            raise Refused("simulated", "a simulated device is no judge")
        role = gates.role_of(
            tip.gates, kernel=record.kernel, target=record.target, device=filing.device
        )
        if role == gates.LOCAL or (filing.promotes and role != gates.JUDGE):
            text = f"{filing.device or 'an unnamed device'} is no judge of {_place(filing)}: {role}"
            raise Refused("gate", text, "see [[tool.avo.gates]] of main's pyproject.toml")
    if record.nonce != filing.nonce and (filing.nonce or filing.role == gates.JUDGE):
        raise Refused("nonce", "the record does not answer the question that was asked", _AGAIN)
    if filing.role == gates.JUDGE and not filing.nonce:
        raise Refused("nonce", "a judge's record answers a question: --nonce", _AGAIN)
    used = [e for e in entries if record.nonce and e.identities.get("nonce") == record.nonce]
    if used := [e for e in used if e.kind in (VERDICT, SEED) and e.id not in _own(filing)]:
        raise Refused("replay", f"its nonce was used up by {used[0].id}", _AGAIN)


def land(filing: Filing, tip: Tip, standing: Standing) -> Proposal:
    """What may land on `main` as it is."""
    record = filing.record
    if record.mode != "confirm":
        raise Refused("mode", "only a confirm promotes", "--avo-mode confirm")
    age = filing.now - _created(filing)
    if not -FUTURE <= age <= EXPIRES:
        hours = f"{age.total_seconds() / 3600:.1f}"
        raise Refused("expired", f"the verdict is {hours} h old, {EXPIRES} is the limit", _AGAIN)
    if filing.proposal is None:
        raise Refused("proposal", "no commit was named that is to land", "--commit REF")
    proposal = read_proposal(tip.repository, filing.proposal, tip.commit)
    if (proposal.kernel, proposal.target) != (record.kernel, record.target):
        text = f"the commit changes {proposal.folder}, the record is about {_place(filing)}"
        raise Refused("candidate", text)
    if proposal.candidate != filing.candidate:
        text = f"the commit has {proposal.candidate[:12]}, judged was {filing.candidate[:12]}"
        raise Refused("candidate", text, "score the commit as it is: --avo-candidate REF")
    _current(filing, proposal)
    _allowed(filing, standing)
    return proposal


def _current(filing: Filing, proposal: Proposal) -> None:
    """Compared with what `main` has now; that of which there is nothing yet begins by review."""
    if not proposal.incumbent:
        text = f"main has no {proposal.folder}: a first version is a seed"
        raise Refused("seed", text, "land it by review, then `avo promote` its measurement")
    if proposal.incumbent != filing.incumbent:
        text = f"compared with {filing.incumbent[:12]}, main has {proposal.incumbent[:12]} now"
        raise Refused("stale", text, "score it against what main has now")


def _allowed(filing: Filing, standing: Standing) -> None:
    """Nothing is frozen, and by a judge the series has been audited in this epoch.

    At the desk nobody waits for an audit: what lands there is on no badge, and the first audit of
    an epoch stands for all before it, whoever came in between.
    """
    if (audit := standing.refuted) is not None:
        text = f"audit {audit.id} refuted the claims of {standing.own.series}"
        raise Refused("frozen", text, "`avo revert`, or an audit that holds")
    epoch = epoch_of(filing.record.harness)
    judged = filing.role == gates.JUDGE
    if judged and standing.own.rungs and not standing.audited(epoch):
        before = standing.own.rungs[-1].entry.epoch
        text = f"judge or problem have changed since version {standing.own.rungs[-1].version} "
        text += f"(epoch {before or 'unknown'}, now {epoch})"
        raise Refused("epoch", text, "`avo audit` first, then score it again")


def seed(filing: Filing, tip: Tip, standing: Standing) -> int:
    """The number of a first version that is on `main` already: it landed by review."""
    record = filing.record
    advice = "a verdict needs --avo-mode confirm; `avo lineage note` keeps what was learnt"
    if filing.candidate != tip.candidate(record.target) or not filing.candidate:
        raise Refused(
            "mode", "a measurement decides nothing, and this is not what main has", advice
        )
    if record.subset or not record.samples or any(not check.ok for check in record.checks):
        raise Refused("seed", "a seed is correct and measured on its whole set", _AGAIN)
    if record.target == SIMULATED and tip.policy(record).isolation != SIMULATED:
        raise Refused("simulated", "main's policy does not ask for simulated devices")
    known = standing.version_of(filing.candidate)
    if standing.own.rungs and known is not None:
        current = standing.own.rungs[-1].version
        raise Refused("seed", f"{standing.own.series} has versions up to {current}", "avo audit")
    return standing.next_version if known is None else known


def _own(filing: Filing) -> set[str]:
    return {filing.record.run, *(w.record.run for w in filing.witnesses)}


def _place(filing: Filing) -> str:
    return f"{filing.record.kernel}/{filing.record.target}"


def _created(filing: Filing) -> datetime:
    try:
        found = datetime.fromisoformat(filing.record.created)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise Refused("record", f"created: {filing.record.created!r} is no date with an offset")
    return found
