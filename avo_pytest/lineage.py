# SPDX-License-Identifier: MIT
"""The lineage of a kernel on a device, derived from the ledger's entries: versions and attempts.

Nothing is compared here: a level is the seed's throughput times the product of claimed gains, and
an audited figure is what an audit measured of that version.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from avo_pytest.entries import AUDIT, JUDGE, NOTE, REVERT, SEED, VERDICT, Entry, Figures, figures

PROMOTE = "PROMOTE"


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """What may share a line in a plot."""

    kernel: str
    target: str
    device: str

    @property
    def name(self) -> str:
        """As files are called: `attention-sm90`."""
        return f"{self.kernel}-{self.target}"

    def __str__(self) -> str:
        return f"{self.kernel}/{self.target} on {self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A version. `chain`: sum of claimed log gains since the seed; `audit`: the latest of it."""

    entry: Entry
    chain: float
    audit: Entry | None = None
    reverted: bool = False
    breaks: str = ""  # why figures from here on are not comparable with those before

    @property
    def version(self) -> int:
        assert self.entry.version is not None
        return self.entry.version

    @property
    def audited(self) -> bool:
        return self.audit is not None

    @property
    def measured(self) -> Figures | None:
        """By the latest audit, else when it was promoted."""
        return figures((self.audit or self.entry).overall)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A judged candidate at its place. `level`: log over the seed, None where it has no score."""

    number: int
    entry: Entry
    level: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Everything a ladder, a badge or a plot shows of one series."""

    series: Series
    rungs: tuple[Rung, ...]
    attempts: tuple[Attempt, ...]
    notes: tuple[Entry, ...]
    audits: tuple[Entry, ...]

    def spent(self) -> dict[str, tuple[Attempt, ...]]:
        """By the id of each version's entry, the attempts after the version before, with the one
        that became this."""
        landed = {r.entry.id for r in self.rungs}
        found: dict[str, tuple[Attempt, ...]] = {}
        begin = 0
        for end, attempt in enumerate(self.attempts, 1):
            if attempt.entry.id in landed:
                found[attempt.entry.id] = self.attempts[begin:end]
                begin = end
        return found

    @property
    def current(self) -> Rung | None:
        """What `main` has."""
        return next((r for r in reversed(self.rungs) if not r.reverted), None)


def lineages(entries: Iterable[Entry], *, public: bool = False) -> list[Lineage]:
    """One per kernel, target and device. `public`: without what was judged locally."""
    chosen: dict[Series, list[Entry]] = {}
    for entry in entries:
        if not public or entry.role == JUDGE or entry.kind == NOTE:
            series = Series(entry.kernel, entry.target, entry.device)
            chosen.setdefault(series, []).append(entry)
    loose = [key for key in chosen if not key.device]  # notes that name no device
    for key in loose:
        at = [k for k in chosen if (k.kernel, k.target) == (key.kernel, key.target) and k.device]
        for home in at:
            chosen[home] += chosen[key]
        if at:
            del chosen[key]
    seen = [s for s in sorted(chosen) if not public or any(e.role == JUDGE for e in chosen[s])]
    return [lineage(series, chosen[series]) for series in seen]


def lineage(series: Series, entries: Iterable[Entry]) -> Lineage:
    """Entries of one series in order of their ids."""
    ordered = sorted(entries, key=lambda e: e.id)
    audits = tuple(e for e in ordered if e.kind == AUDIT)
    rungs = _rungs(ordered, audits)
    return Lineage(
        series=series,
        rungs=rungs,
        attempts=_attempts(ordered, rungs),
        notes=tuple(e for e in ordered if e.kind == NOTE),
        audits=audits,
    )


def baselines(entry: Entry) -> list[str]:
    """Names of the outside implementations that an entry was measured against."""
    return [name for name, role in entry.arms.items() if role == "baseline"]


def best_baseline(entry: Entry) -> tuple[str, float] | None:
    """The fastest baseline and the ratio to it, which is the smallest; None: none was measured."""
    found = figures(entry.overall)
    ratios = {n: found.ratios[n][0] for n in baselines(entry) if n in found.ratios} if found else {}
    return min(ratios.items(), key=lambda item: item[1]) if ratios else None


def over_incumbent(entry: Entry, found: Figures | None) -> float | None:
    """Log ratio to who was the incumbent then, in an audit the seed, by these figures of an entry;
    None: not measured."""
    incumbent = next((arm for arm, role in entry.arms.items() if role == "incumbent"), "")
    ratio = found.ratios.get(incumbent) if found else None
    return math.log(ratio[0]) if ratio and ratio[0] > 0 else None


def difference(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Keys that two mappings do not share with the same value."""
    return sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))


def _rungs(ordered: Sequence[Entry], audits: Sequence[Entry]) -> tuple[Rung, ...]:
    landed = [e for e in ordered if e.version is not None and e.kind in (VERDICT, SEED)]
    landed.sort(key=lambda e: (e.version or 0, e.id))
    reverted = {e.version for e in ordered if e.kind == REVERT}
    rungs: list[Rung] = []
    chain = 0.0
    for entry in landed:
        gain = entry.gain[0] if entry.gain and rungs else 0.0
        undone = entry.version in reverted
        audit = next((a for a in reversed(audits) if a.version == entry.version), None)
        why = _break(rungs[-1].entry, entry) if rungs else ""
        chain_here = chain + gain
        rungs.append(Rung(entry=entry, chain=chain_here, audit=audit, reverted=undone, breaks=why))
        chain = chain if undone else chain_here
    return tuple(rungs)


def _break(before: Entry, after: Entry) -> str:
    if before.epoch != after.epoch:
        return f"epoch {after.epoch or '?'}"
    changed = [
        key
        for key in difference(before.environment, after.environment)
        if key in ("uuid", "driver", "power_limit_w") and key in after.environment
    ]
    if not changed:
        return ""
    what = {"uuid": "another machine", "driver": f"driver {after.environment.get('driver')}"}
    return what.get(changed[-1] if "driver" not in changed else "driver", "power limit")


def _attempts(ordered: Sequence[Entry], rungs: Sequence[Rung]) -> tuple[Attempt, ...]:
    """Each at its incumbent's level times its own gain, confirmed or only screened; what was not
    timed has no level."""
    chains = {rung.entry.id: rung.chain for rung in rungs}
    undone = {rung.entry.id for rung in rungs if rung.reverted}
    found: list[Attempt] = []
    level = 0.0
    for entry in (e for e in ordered if e.kind in (VERDICT, SEED)):
        if entry.id in chains:
            place: float | None = chains[entry.id]
        else:
            screened = over_incumbent(entry, figures(entry.overall))
            own = entry.gain[0] if entry.gain else screened
            place = None if own is None else level + own
        if place is not None and not math.isfinite(place):
            place = None
        found.append(Attempt(number=len(found) + 1, entry=entry, level=place))
        if entry.id in chains and entry.id not in undone:
            level = chains[entry.id]
    return tuple(found)
