# SPDX-License-Identifier: MIT
"""The recorder: every verdict into the ledger, and `main` forward where one promotes.

All checks are made on the tips that are then moved, by one atomic push without force: whoever was
slower checks again, on what the faster one left. A refusal moves nothing and is recorded too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from avo_pytest import gates, landing_rules, ledger, tip, verifying, witnessing
from avo_pytest.branches import GitError, Remote, Tips
from avo_pytest.entries import SEED, VERDICT, Entry, from_line, to_line
from avo_pytest.filing import Filing, refusal, refusal_of
from avo_pytest.landing import Proposal, Refused, landing_commit, read_proposal
from avo_pytest.ledger import BRANCH, NoLedger
from avo_pytest.outcomes import KNOWN, MAIN, PROMOTED, RECORDED, REFUSED, Outcome
from avo_pytest.promotion import decide
from avo_pytest.recording import Circumstances, under
from avo_pytest.report.generated import generated
from avo_pytest.score import Record
from avo_pytest.standing import Standing
from avo_pytest.tip import Tip
from avo_pytest.verdict import percent

__all__ = [
    "KNOWN", "MAIN", "PROMOTED", "RECORDED", "REFUSED", "Outcome", "promote", "record_refusal",
]  # fmt: skip


Look = Callable[[str], Tip]  # at a commit of main


@dataclass(frozen=True, slots=True)
class _Step:
    """What one try would do."""

    outcome: Outcome
    entries: tuple[Entry, ...] = ()
    refs: Mapping[str, str] | None = None


def promote(
    remote: Remote,
    root: Path,
    record: Record,
    *,
    proposal: str | None,
    witnesses: Sequence[Record] = (),
    role: str = gates.LOCAL,
    nonce: str = "",
    author: str = "",
    now: datetime | None = None,
) -> Outcome:
    """Record a verdict, and land its proposal where it promotes.

    `root` is the top of the repository whose code runs. Raises GitError (the remote refuses, there
    is no ledger, this code is not main's) and Damaged: then nothing was recorded.
    """
    _refuse_a_part(remote, root)
    asked = {
        "proposal": proposal, "role": role, "nonce": nonce, "author": author,
        "now": now or datetime.now(UTC),
    }  # fmt: skip
    others = tuple(_filing(remote, witness, **asked) for witness in witnesses)
    filing = replace(_filing(remote, record, **asked), witnesses=others)
    wanted = ledger.mentioning(m for one in (filing, *others) for m in one.mentioned())
    done: list[_Step] = []
    with tip.lookout(remote.repository, record.kernel) as look:

        def build(tips: Tips) -> Mapping[str, str]:
            main, book = _present(remote, tips)
            before = ledger.read(remote.repository, book, wanted)
            done[:] = [_step(remote, filing, look, main=main, before=before)]
            return _written(remote, book, before, done[0], filing.place)

        remote.transact((MAIN, BRANCH), build)
    return done[0].outcome


def record_refusal(
    remote: Remote, *, kernel: str, target: str, rule: str, text: str, author: str = "",
    device: str = "", role: str = gates.LOCAL, commit: str = "", now: datetime | None = None,
) -> Entry:  # fmt: skip
    """Record that something was refused of which there is no record. Raises GitError, Damaged."""
    entry = refusal_of(
        Refused(rule, text), kernel=kernel, target=target, author=author, device=device, role=role,
        commit=commit, now=now or datetime.now(UTC),
    )  # fmt: skip
    ledger.append(remote, [entry])
    return entry


def _filing(remote: Remote, record: Record, **asked: Any) -> Filing:
    """What pure functions make of the record, once, however often a race is lost."""
    finding = next(verifying.against_itself(record), "")
    verdict = cache(partial(decide, record))
    return Filing.of(remote.repository, record, finding=finding, verdict=verdict, **asked)


def _step(
    remote: Remote, filing: Filing, look: Look, *, main: str, before: Sequence[Entry]
) -> _Step:
    known = next((e for e in before if e.id == filing.record.run), None)
    if known is not None and known.raw.get("sha256") == filing.digest:
        text = f"{known.id} is in the ledger already"
        return _Step(Outcome(kind=KNOWN, entry=known, main=_landed(known), text=text))
    try:
        if known is not None:
            raise Refused("replay", f"run {known.id} is in the ledger and says something else")
        landing_rules.sound(filing)
        return _admitted(filing, look(main), before)
    except Refused as refused:
        entry = refusal(filing, refused, _proposal(remote, filing, main))
        outcome = Outcome(kind=REFUSED, entry=entry, rule=refused.rule, text=refused.text)
        return _Step(outcome, (entry,))


def _admitted(filing: Filing, found: Tip, before: Sequence[Entry]) -> _Step:
    """A record that may be believed. Raises Refused where it asks for more than it may have."""
    landing_rules.admit(filing, found)
    landing_rules.asked(filing, found, before)
    if filing.promotes or filing.record.mode == "measure":
        for finding in verifying.against_problem(filing.record, found.problem):
            raise Refused("problem", finding, "score it again")
    record = filing.record
    standing = Standing.of(before, record.kernel, record.target, _series(filing, found))
    if record.mode == "measure":
        version = landing_rules.seed(filing, found, standing)
        known = _circumstances(filing, found, kind=SEED, version=version, commit=found.commit)
        return _recorded(filing, under(filing.told, known), f"version {version} is on main already")
    if filing.promotes:
        return _promoted(filing, found, standing)
    told = filing.verdict(found.policy(record)).told()
    known = _circumstances(filing, found, proposal=_of(filing, found))
    return _recorded(filing, under(filing.told, known), told)


def _promoted(filing: Filing, found: Tip, standing: Standing) -> _Step:
    record, proposal = filing.record, landing_rules.land(filing, found, standing)
    witnessing.heard(filing, found.gates, found.policy(record))
    version = standing.next_version
    trailers = {
        "Avo-Version": str(version),
        "Avo-Gain": _gain(record),
        "Avo-Run": record.run,
        "Avo-Record": filing.digest,
    }
    commit = landing_commit(found.repository, found.commit, proposal, trailers)
    ref, samples, _ = filing.keep()
    known = _circumstances(filing, found, version=version, commit=commit, proposal=proposal)
    entry = under(filing.told, replace(known, stored="ref"))
    text = f"version {version} of {proposal.kernel}/{proposal.target}, {_gain(record)}"
    outcome = Outcome(kind=PROMOTED, entry=entry, main=commit, text=text)
    return _Step(outcome, (entry, *_witnesses(filing, found)), {MAIN: commit, ref: samples})


def _recorded(filing: Filing, entry: Entry, text: str) -> _Step:
    return _Step(Outcome(kind=RECORDED, entry=entry, text=text), (entry,))


def _witnesses(filing: Filing, found: Tip) -> list[Entry]:
    return [under(one.told, _circumstances(one, found)) for one in filing.witnesses]


def _circumstances(
    filing: Filing, found: Tip, *, proposal: Proposal | None = None, **known: object
) -> Circumstances:
    """What a record does not know; the device is called as the gate table calls it."""
    place = {"kernel": filing.record.kernel, "target": filing.record.target}
    asked = filing.role == gates.JUDGE
    role = gates.role_of(found.gates, **place, device=filing.device) if asked else gates.LOCAL
    base = Circumstances(
        kind=VERDICT,
        idea=proposal.idea if proposal else "",
        author=filing.author or (proposal.author.rpartition(" <")[0] if proposal else ""),
        role=role,
        device=_series(filing, found),
    )
    return replace(base, **known)  # type: ignore[arg-type]


def _series(filing: Filing, found: Tip) -> str:
    """The device's name in the ledger."""
    place = {"kernel": filing.record.kernel, "target": filing.record.target}
    return gates.called(found.gates, **place, device=filing.device)


def _of(filing: Filing, found: Tip) -> Proposal | None:
    """Who had which idea, where the commit that was named is the one that was judged."""
    try:
        if filing.proposal is None:
            return None
        proposal = read_proposal(found.repository, filing.proposal, found.commit)
    except Refused:
        return None
    return proposal if proposal.candidate == filing.candidate else None


def _proposal(remote: Remote, filing: Filing, main: str) -> Proposal | None:
    try:
        return filing.proposal and read_proposal(remote.repository, filing.proposal, main) or None
    except (Refused, GitError):
        return None


def _written(
    remote: Remote, book: str, before: Sequence[Entry], step: _Step, place: tuple[str, str]
) -> Mapping[str, str]:
    """The commits of a step; none where all of it is there."""
    known = {entry.id for entry in before}
    # as they will be read: ladders must not depend on who made them
    fresh = [from_line(to_line(e)) for e in step.entries if e.id not in known]
    if not fresh:
        return {}
    files = generated([*before, *fresh], *place)
    appended = ledger.extended(remote.repository, book, fresh, files=files)
    return {**(step.refs or {}), BRANCH: appended.commit}


def _present(remote: Remote, tips: Tips) -> tuple[str, str]:
    main, book = tips[MAIN], tips[BRANCH]
    if main is None:
        raise GitError(f"{remote.name} has no branch main")
    if book is None:
        raise NoLedger(f"there is no ledger on {remote.name} yet; make one: avo init --remote")
    return main, book


def _refuse_a_part(remote: Remote, root: Path) -> None:
    top = remote.repository.working_dir
    if top is not None and not remote.repository.bare and Path(top).resolve() != root.resolve():
        raise GitError(f"{root} is not the top of its repository, {top}: kernels/ has to be there")


def _landed(entry: Entry) -> str | None:
    return entry.commit if entry.kind == VERDICT and entry.version is not None else None


def _gain(record: Record) -> str:
    found = record.derived["verdict"]
    return f"{percent(found['gain'])} (at least {percent(found['lower'])})"
