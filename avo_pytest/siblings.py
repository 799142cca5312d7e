# SPDX-License-Identifier: MIT
"""Are these records the shares of one confirm, all of them, each once? Nothing else is merged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from avo_pytest import shares
from avo_pytest.score import Record, Stage

MOST_REPLICATES = 10_000
FIELDS = (
    "kernel", "target", "set", "regime", "subset", "harness", "isolation", "nonce", "policy",
    "arms", "configurations",
)  # fmt: skip
ENVIRONMENT = ("device", "driver", "power_limit_w", "threads")


class NotShares(ValueError):
    """These records are not the shares of one confirm; the sentence names the file."""


@dataclass(frozen=True, slots=True)
class Part:
    """A share. `places`: number of each of its confirm processes → place in the whole confirm."""

    name: str
    record: Record
    digest: str
    created: datetime
    screens: frozenset[int]
    places: Mapping[int, int]


def parts(records: Sequence[tuple[str, Record]]) -> list[Part]:
    """All shares of one confirm, given in any order, each with a name for people. Raises
    NotShares."""
    found = _in_order(records)
    for name, record in found[1:]:
        _refuse_difference(found[0], name, record)
    _refuse_twice(found)
    return [_part(name, record) for name, record in found]


def planned(name: str, record: Record) -> int:
    """How many replicates the plan of a share has, for all shares together. Raises NotShares."""
    found = record.plan.get("replicates")
    if type(found) is not int or not 0 < found <= MOST_REPLICATES:
        raise NotShares(f"{name}: {str(found)[:20]!r} replicates were planned")
    return found


def _in_order(records: Sequence[tuple[str, Record]]) -> list[tuple[str, Record]]:
    """By their numbers, of which each is there once."""
    found: dict[int, tuple[str, Record]] = {}
    counts: dict[int, str] = {}
    for name, record in records:
        number, count = _number(name, record)
        counts.setdefault(count, name)
        if len(counts) > 1:
            known, other = counts
            raise NotShares(f"{name}: one of {other} shares, {counts[known]} is one of {known}")
        if number in found:
            raise NotShares(f"{name}: share {number}/{count}, and so is {found[number][0]}")
        found[number] = name, record
    if not found:
        raise NotShares("no share was given")
    (count,) = counts
    if missing := sorted(set(range(1, count + 1)) - found.keys()):
        raise NotShares(f"share {missing[0]}/{count} is missing")
    return [found[number] for number in sorted(found)]


def _number(name: str, record: Record) -> tuple[int, int]:
    if record.shares:
        raise NotShares(f"{name}: is merged already")
    if "share" not in record.plan:
        raise NotShares(f"{name}: is no share but a whole record")
    if record.mode != "confirm" or not record.nonce:
        raise NotShares(f"{name}: is no confirm with a nonce")
    said = str(record.plan["share"])
    try:
        number, count = shares.parse(said)
    except ValueError:
        raise NotShares(f"{name}: {said[:9]!r} is no share") from None
    if count < 2:
        raise NotShares(f"{name}: {said[:9]!r} is no share but all of it")
    return number, count


def _refuse_difference(first: tuple[str, Record], name: str, record: Record) -> None:
    for what, of in _common():
        mine, other = of(first[1]), of(record)
        if repr(mine) != repr(other):  # 1 is not true
            raise NotShares(f"{name}: its {what} is not that of {first[0]}")


def _common() -> Iterator[tuple[str, Callable[[Record], Any]]]:
    """What all shares of a confirm have alike; candidate and incumbent are among the arms."""
    for field in FIELDS:
        yield field, lambda record, field=field: getattr(record, field)  # type: ignore[misc]
    for key in ENVIRONMENT:
        yield key, lambda record, key=key: record.environment.get(key)  # type: ignore[misc]


def _refuse_twice(found: Sequence[tuple[str, Record]]) -> None:
    seen: dict[str, str] = {}
    for name, record in found:
        if record.run in seen:
            raise NotShares(f"{name}: is run {record.run[:60]}, and so is {seen[record.run]}")
        seen[record.run] = name


def _part(name: str, record: Record) -> Part:
    """Raises NotShares for a process that is not this share's."""
    screens = [r.number for r in record.replicates if r.stage is Stage.SCREEN]
    total = planned(name, record) if len(screens) < len(record.replicates) else 0
    own = {len(screens) + place: place for place in shares.own(str(record.plan["share"]), total)}
    confirms = [r.number for r in record.replicates if r.stage is not Stage.SCREEN]
    numbers = [*screens, *confirms]
    if strange := [n for n in confirms if n not in own]:
        raise NotShares(f"{name}: replicate {strange[0]} is not one of its share")
    if len(set(numbers)) < len(numbers):
        raise NotShares(f"{name}: a replicate is there twice")
    digest = hashlib.sha256(record.to_json().encode()).hexdigest()
    places = {n: own[n] for n in confirms}
    return Part(name, record, digest, _created(name, record), frozenset(screens), places)


def _created(name: str, record: Record) -> datetime:
    try:
        found = datetime.fromisoformat(record.created)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise NotShares(f"{name}: created: {record.created[:40]!r} is no date with an offset")
    return found
