# SPDX-License-Identifier: MIT
"""An audit: what `main` has, measured against the seed, beside what its promotions claimed.

Pure but for the git objects that are read: who measures is `commands/audit.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avo_pytest import admission, claims, quietness
from avo_pytest.claims import HOLDS, REFUTED, Comparison
from avo_pytest.entries import AUDIT, Entry, Interval
from avo_pytest.evidence import EvidenceError, Launches, gather, paired
from avo_pytest.harness import harness_hash
from avo_pytest.identity import tree_hash
from avo_pytest.intervals import Estimate, estimate
from avo_pytest.lineage import Lineage, Rung
from avo_pytest.loading import load_problem, problem_reference
from avo_pytest.policy import SIMULATED, Policy, load
from avo_pytest.recording import Circumstances, entry_of
from avo_pytest.score import Record, Status
from avo_pytest.source import find_candidate
from avo_pytest.verdict import Reason
from avo_pytest.verifying import kind_of

UNTOLD = "UNTOLD"  # nothing is recorded of such an audit
PROCESSES = 8
PAIR = ("candidate", "incumbent")
RULES: tuple[Callable[[Record, Policy], Reason | None], ...] = (
    admission.harness,
    admission.configurations,
    admission.regime,
    admission.isolation,
    admission.one_device,
    *(rule for _, group in quietness.RULES for rule in group),
)


class AuditError(Exception):
    """What cannot be audited; the sentence says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured: `main` and the seed, as commits and as hashes of the kernel's folder."""

    lineage: Lineage
    rung: Rung
    commits: tuple[str, str]
    trees: tuple[str, str]

    @property
    def is_seed(self) -> bool:
        """Then nothing is claimed, and the incumbent's arm is left out."""
        return self.trees[0] == self.trees[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What came out. `comparison` is None where nothing was claimed or measured."""

    kind: str  # HOLDS, REFUTED or UNTOLD
    reasons: tuple[Reason, ...]
    audited: Estimate | None = None
    comparison: Comparison | None = None


def choose(
    found: Sequence[Lineage], kernel: str | None, target: str | None, series: str | None
) -> Lineage:
    """The lineage that is meant. Raises AuditError naming what there is."""
    fitting = [
        x for x in found
        if kernel in (None, x.series.kernel) and target in (None, x.series.target)
        and series in (None, x.series.device) and x.current is not None
    ]  # fmt: skip
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(str(x.series) for x in fitting or found) or "none"
    if fitting:
        raise AuditError(f"choose with --kernel, --target and --series among: {names}")
    raise AuditError(f"no lineage with a version fits; the ledger has: {names}")


def subject(root: Path, lineage: Lineage, main: str, scratch: Path) -> Subject:
    """The two trees, compared with what the ledger says of them. Raises AuditError, SourceError."""
    rung, seed = lineage.current, lineage.rungs[0]
    assert rung is not None
    if not seed.entry.commit:
        raise AuditError(f"the ledger names no commit of {lineage.series}'s seed")
    commits = (main, seed.entry.commit)
    kernel, target = lineage.series.kernel, lineage.series.target
    folders = [find_candidate(root, kernel, target, commit, scratch).path for commit in commits]
    trees = tuple(map(tree_hash, folders))
    for what, one, tree in (("main", rung, trees[0]), ("the seed's commit", seed, trees[1])):
        said = one.entry.identities.get("candidate", "")
        if said != tree:
            raise AuditError(
                f"{what} has {kernel}/{target} as {tree[:12]}, the ledger's version {one.version} "
                f"is {said[:12] or 'not named'}: land it as a version first (avo promote), or fetch"
            )
    return Subject(lineage=lineage, rung=rung, commits=commits, trees=(trees[0], trees[1]))


def judge(record: Record, of: Subject, policy: Policy) -> Audit:
    """Do the claims hold? From the record's samples and the ledger's claims alone."""
    if (wrong := _incorrect(record)) is not None:
        return Audit(kind=REFUTED, reasons=(wrong,))
    said = [*_strangers(record, of), *(r for rule in RULES if (r := rule(record, policy)))]
    if said:
        return Audit(kind=UNTOLD, reasons=tuple(said))
    try:
        launches = _launches(record, of)
        found = None if of.is_seed else estimate(_values(launches))
    except (EvidenceError, ValueError) as error:
        return Audit(kind=UNTOLD, reasons=(Reason("samples", str(error), "audit again"),))
    if found is None:
        text = "main is the seed: nothing is claimed, and the figures are its own"
        return Audit(kind=HOLDS, reasons=(Reason("claims", text),))
    return _compared(found, of, policy, record.harness)


def entry(
    record: Record, of: Subject, found: Audit, *, role: str, stored: str, alpha: float
) -> Entry:
    """The line that the ledger gets."""
    series, audited = of.lineage.series, found.audited
    known = Circumstances(
        kind=AUDIT, role=role, device=series.device,
        version=of.rung.version, commit=of.commits[0], stored=stored,
    )  # fmt: skip
    gain: Interval | None = None
    if audited is not None:
        low, high = audited.lower(alpha), audited.upper(alpha)
        gain = (_rounded(audited.value), _rounded(low), _rounded(high))
    reasons = [{"rule": r.rule, "text": r.text, "advice": r.advice} for r in found.reasons]
    return replace(
        entry_of(record, known),
        mode="audit",
        verdict=found.kind,
        reasons=tuple({k: v for k, v in reason.items() if v} for reason in reasons),
        gain=gain,
        replicates=len(record.replicates),
    )


def policy_of(root: Path, record: Record) -> Policy:
    """This tree's rules for a record like that. Runs the tree's problem, which is trusted."""
    reference = problem_reference(record.kernel, root)
    problem = load_problem(reference, root=root)
    kind = kind_of(record)
    named = problem.throughput.get(kind, {}).get(record.set, ())
    policy = load(root, kind)
    return replace(
        policy,
        isolation=SIMULATED if record.target == SIMULATED else policy.isolation,
        set=record.set,
        harness=harness_hash(root, reference),
        configurations=tuple(c.name for c in named),
    )


def _compared(found: Estimate, of: Subject, policy: Policy, harness: str) -> Audit:
    alpha, min_gain = policy.alpha_confirm, policy.min_gain
    made = claims.claims(of.lineage, harness, alpha=alpha, min_gain=min_gain)
    if made is None:
        text = "the first audit of this epoch: later claims are added to what it finds"
        return Audit(kind=HOLDS, reasons=(Reason("epoch", text),), audited=found)
    beside = claims.compare(made, found, alpha=alpha, min_gain=min_gain)
    allowed = max(policy.max_regression, abs(beside.claimed) / 4)
    figures = (
        f"{len(made)} claims add up to {_percent(beside.claimed)} over the seed, measured are "
        f"{_percent(found.value)}; {_percent(beside.least)} to {_percent(beside.most)} may differ"
    )
    if beside.sampling > allowed:
        advice = "more processes (--processes), or a quieter machine"
        reason = Reason("resolution", f"{figures}: too noisy to refute anything", advice)
        return Audit(kind=UNTOLD, reasons=(reason,), audited=found, comparison=beside)
    advice = "" if beside.holds else "promotions wait for `avo revert` or an audit that holds"
    reason = Reason("claims", figures, advice)
    kind = HOLDS if beside.holds else REFUTED
    return Audit(kind=kind, reasons=(reason,), audited=found, comparison=beside)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _percent(log_ratio: float) -> str:
    return f"{100 * np.expm1(log_ratio):+.2f} %"


def _incorrect(record: Record) -> Reason | None:
    """A version on main that is wrong refutes its promotion whatever its speed."""
    reason = admission.candidate_failed(record, Policy())
    return reason and replace(reason, advice="`avo revert` takes it back")


def _strangers(record: Record, of: Subject) -> Iterator[Reason]:
    """Is it about these two trees, and did nothing else fail?"""
    series = of.lineage.series
    if (record.kernel, record.target) != (series.kernel, series.target):
        text = f"the record is about {record.kernel}/{record.target}, not {series}"
        yield Reason("subject", text, "name the kernel with --kernel and --target")
    measured = str(record.environment.get("device", ""))
    if series.device != "cpu" and not measured.startswith(series.device):
        text = f"measured on {measured!r}, the lineage is of {series.device!r}"
        yield Reason("device", text, "audit where it was judged")
    arms = {a.role: a.identity for a in record.arms}
    wanted = {"candidate": of.trees[0]} | ({} if of.is_seed else {"incumbent": of.trees[1]})
    for role, tree in wanted.items():
        if arms.get(role) != tree:
            text = f"{role} is {arms.get(role, 'absent')[:12]}, not {tree[:12]}"
            yield Reason("subject", text, "; ".join(record.notes)[:200])
    if (failed := admission.other_failed(record, Policy())) is not None:
        yield failed


def _launches(record: Record, of: Subject) -> Launches:
    """Complete ones of both arms in all processes. Raises EvidenceError."""
    wrong = [r for r in record.replicates if r.status is not Status.OK]
    if wrong or not record.replicates:
        why = wrong[0].reason if wrong else "nothing was measured"
        raise EvidenceError(f"{len(wrong)} of {len(record.replicates)} processes failed: {why}")
    arms = PAIR[: 1 if of.is_seed else 2]
    samples = [s for s in record.samples if s.arm in arms]
    found = gather(samples, [c.name for c in record.configurations], arms)
    wanted = tuple((r.number, b) for r in record.replicates for b in range(r.blocks))
    if found.rows != tuple(sorted(wanted)) or len({r.blocks for r in record.replicates}) != 1:
        raise EvidenceError(f"{len(found.rows)} of {len(wanted)} blocks have launches")
    if missing := found.missing():
        raise EvidenceError(missing)
    return found


def _values(launches: Launches) -> Any:
    """One log ratio a process: mean over configurations of the medians over blocks."""
    processes = len({replicate for replicate, _ in launches.rows})
    shape = (processes, -1, len(launches.configurations))
    return np.median(paired(launches, *PAIR).reshape(shape), axis=1).mean(axis=1)
