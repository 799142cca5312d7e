# SPDX-License-Identifier: MIT
"""The shares of one confirm as one record: a pure function, the same shares give the same bytes.

The record is what one machine with several devices would have written. Nothing of it is believed
for being merged: `decide` derives plan, parts and verdict again from samples and calibrations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

from avo_pytest import policy, promotion, shares, siblings
from avo_pytest.score import Check, Record, Replicate, Share
from avo_pytest.siblings import NotShares, Part
from avo_pytest.verdict import Kind

__all__ = ["NotShares", "merge"]

# Of shares that began no confirm, whose reason is told
SPEAKING = (Kind.INCORRECT, Kind.INVALID, Kind.NO_CHANGE, Kind.REJECT, Kind.INCONCLUSIVE)


def merge(records: Sequence[tuple[str, Record]]) -> Record:
    """The whole confirm of all its shares, in any order, each with a name for people. Raises
    NotShares."""
    parts = siblings.parts(records)
    first = _speaking(parts)
    numbers = _numbers(parts, first)
    earliest = min(parts, key=lambda part: part.created)
    merged = replace(
        first.record,
        run=_run(parts, earliest),
        created=earliest.record.created,
        plan=_plan(parts, first),
        attempts=_attempts(parts, first),
        notes=tuple(f"share {k}: {x}" for k, p in enumerate(parts, 1) for x in p.record.notes),
        shares=tuple(_origin(part, known) for part, known in zip(parts, numbers, strict=True)),
        **_evidence(parts, numbers),
    )
    return replace(merged, derived=promotion.derive(merged, _policy(first)))


def _speaking(parts: Sequence[Part]) -> Part:
    """Whose screen counts, and whose machine the record is said to be of: the first share; where
    shares began no confirm, the one of them with the gravest reason. They were not needed."""
    ended = [part for part in parts if not part.places]
    if not ended:
        return parts[0]
    return min(ended, key=lambda part: SPEAKING.index(_alone(part)))


def _alone(part: Part) -> Kind:
    """The verdict of a share that began no confirm, as if it were no share."""
    plan = {key: value for key, value in part.record.plan.items() if key != "share"}
    kind = promotion.decide(replace(part.record, plan=plan), _policy(part)).kind
    return kind if kind in SPEAKING else Kind.INVALID


def _policy(part: Part) -> policy.Policy:
    try:
        return policy.from_dict(part.record.policy)
    except policy.PolicyError as error:
        raise NotShares(f"{part.name}: {error}") from None


def _numbers(parts: Sequence[Part], first: Part) -> list[dict[int, int]]:
    """Of each share: its number of a process → the whole's. Confirm processes follow the screen's
    in the order of their places; screens that do not count have no number."""
    order = sorted(place for part in parts for place in part.places.values())
    at = {place: len(first.screens) + index for index, place in enumerate(order)}
    return [
        {n: at[place] for n, place in part.places.items()}
        | ({n: n for n in part.screens} if part is first else {})
        for part in parts
    ]


def _evidence(parts: Sequence[Part], numbers: Sequence[Mapping[int, int]]) -> dict[str, Any]:
    """Everything that was measured and checked, under the whole's numbers."""
    each = list(zip(parts, numbers, strict=True))
    kept: list[Replicate] = []
    for part, known in each:
        processes = [r for r in part.record.replicates if r.number in known]
        kept += [replace(r, number=known[r.number]) for r in processes]
    return {
        "replicates": tuple(sorted(kept, key=lambda r: r.number)),
        "samples": tuple(
            replace(s, replicate=known[s.replicate])
            for part, known in each
            for s in part.record.samples
            if _counts(part, known, s.replicate)
        ),
        "blocks": tuple(
            {**b, "replicate": known[b["replicate"]]}
            for part, known in each
            for b in part.record.blocks
            if _counts(part, known, b.get("replicate"))
        ),
        "checks": tuple(c for k, (p, known) in enumerate(each, 1) for c in _checks(k, p, known)),
    }


def _counts(part: Part, known: Mapping[int, int], number: Any) -> bool:
    """Whether it is of a process that has a number; not of a screen that does not count."""
    if type(number) is int and (number in known or number in part.screens):
        return number in known
    raise NotShares(f"{part.name}: something of a process that never was: {str(number)[:20]}")


def _checks(number: int, part: Part, known: Mapping[int, int]) -> Iterator[Check]:
    """All of them, but those which a screen that does not count has passed."""
    for check in part.record.checks:
        if check.replicate is None:
            yield check
        elif _counts(part, known, check.replicate):
            yield replace(check, replicate=known[check.replicate])
        elif not check.ok:
            yield replace(check, replicate=None, reason=f"screen of share {number}: {check.reason}")


def _plan(parts: Sequence[Part], first: Part) -> dict[str, Any]:
    """That of the share which speaks, with the sum of what the shares planned for themselves and
    the largest effective min_gain. `decide` compares it with what the calibrations give."""
    plan = {key: value for key, value in first.record.plan.items() if key != "share"}
    if not first.record.calibration:
        return plan  # without one nothing is confirmed
    fixed = [part for part in parts if part.places or "replicates" in part.record.plan]
    totals = [siblings.planned(part.name, part.record) for part in fixed]
    own = [
        shares.own(str(part.record.plan["share"]), total)
        for part, total in zip(fixed, totals, strict=True)
    ]
    return {
        **plan,
        "replicates": sum(map(len, own)),
        "effective_min_gain": max((_min_gain(part) for part in fixed), default=0.0),
        "reason": f"shared by {len(parts)} machines, which planned {', '.join(map(str, totals))}",
    }


def _min_gain(part: Part) -> float:
    found = part.record.plan.get("effective_min_gain")
    if not _is_number(found):
        raise NotShares(f"{part.name}: no effective_min_gain was planned")
    return float(found)


def _attempts(parts: Sequence[Part], first: Part) -> dict[str, Any]:
    """Earlier confirms: the most that one of the machines knows of, for those that were shared are
    counted by each. An error budget makes one level of them, so there they must be the same."""
    counted = [part for part in parts if part.places or part is first]
    merged = dict(counted[0].record.attempts)
    for part in counted[1:]:
        told = part.record.attempts
        for key in merged.keys() | told.keys():
            mine, other = merged.get(key), told.get(key)
            if _is_number(mine) and _is_number(other):
                merged[key] = max(mine, other)
            elif repr(mine) != repr(other):
                text = f"earlier attempts ({str(key)[:20]}) are not those of {counted[0].name}"
                raise NotShares(f"{part.name}: its {text}")
    return merged


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _origin(part: Part, known: Mapping[int, int]) -> Share:
    record = part.record
    return Share(
        run=record.run,
        created=record.created,
        seed=record.seed,
        sha256=part.digest,
        replicates=tuple(sorted(known[n] for n in part.places)),
        calibration=record.calibration,
    )


def _run(parts: Sequence[Part], earliest: Part) -> str:
    """Named after its shares, on the day of the earliest."""
    name = hashlib.sha256("".join(part.digest for part in parts).encode()).hexdigest()[:12]
    return f"{earliest.created:%Y%m%d-%H%M%S}-{name}"
