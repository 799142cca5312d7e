# SPDX-License-Identifier: MIT
"""When a search goes nowhere: a pure function of its attempts, without model, clock or disk.

Stalls (nothing gains), failures that repeat, edits that go in circles, gains too small to count.
What the machine spoiled (INVALID) counts neither way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

INVALID = "INVALID"
PROMOTE = "PROMOTE"


class Kind(StrEnum):
    """What was found."""

    REPEAT = "repeat"  # the same failure again and again
    CYCLE = "cycle"  # edits come back to where they were
    INCORRECT = "incorrect"  # nothing builds or is right any more
    STALL = "stall"  # right, and no faster
    PLATEAU = "plateau"  # accepted, and next to nothing gained


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The defaults were fixed before any trajectory was labelled; gains are fractions."""

    without_gain: int = 8
    incorrect: int = 5
    identical: int = 3
    returns: int = 2  # to an earlier edit that did not gain
    alike: float = 0.9  # two diffs that agree so much are one edit
    apart: float = 0.6  # an edit has been left when one in between agrees less than this
    plateau: int = 24  # attempts, of which the gains together stay below
    plateau_gain: float = 0.003


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """One scored attempt. `gain` is a fraction of what it was measured against.

    `failure`: why it did not build or was wrong, else nothing; `diff`: a unified diff against the
    working lineage's tip. `accepted` None: only a promotion counts as a gain.
    """

    step: int
    verdict: str
    gain: float | None = None
    correct: bool = True
    failure: str = ""
    diff: str = ""
    accepted: bool | None = None

    @property
    def gained(self) -> bool:
        return self.verdict == PROMOTE if self.accepted is None else self.accepted


@dataclass(frozen=True, slots=True)
class Finding:
    """`attempts`: the indices in the history that show it."""

    kind: Kind
    text: str
    attempts: tuple[int, ...]


class _Numbered(NamedTuple):
    place: int
    attempt: Attempted


Rule = Callable[[Sequence[_Numbered], int, Thresholds], Finding | None]


def detect(
    history: Sequence[Attempted], *, since: int = 0, thresholds: Thresholds | None = None
) -> Finding | None:
    """What is wrong with the attempts from `since` on, the most specific finding first.

    `since`: where the last intervention was, so that it gets its time before the next.
    """
    limits = thresholds or Thresholds()
    told = [_Numbered(i, a) for i, a in enumerate(history) if a.verdict != INVALID]
    found = (rule(told, since, limits) for rule in RULES)
    return next((finding for finding in found if finding), None)


def alike(one: str, other: str) -> float:
    """How much of what two diffs add and remove agrees: 0 to 1."""
    return _agreement(_shingles(one), _shingles(other))


def signature(failure: str) -> str:
    """A failure without what differs each time: addresses, places in files, measured values."""
    text = re.sub(r"0x[0-9a-f]+|[-+]?\d+\.\d+(e[-+]?\d+)?|\d+e[-+]?\d+", "#", failure.casefold())
    text = re.sub(r"(\.\w+)[:(]\d+[:,]?\d*\)?|\b(line|pid|launch|row|seed) \d+", r"\1\2", text)
    return " ".join(re.sub(r"(/[\w.-]+)+/", "", text).split())


def _barren(told: Sequence[_Numbered]) -> Sequence[_Numbered]:
    """What came after the last gain."""
    last = max((order for order, n in enumerate(told) if n.attempt.gained), default=-1)
    return told[last + 1 :]


def _repeat(told: Sequence[_Numbered], since: int, limits: Thresholds) -> Finding | None:
    """The newest failure is the third of its kind among the last attempts without gain."""
    recent = [n for n in _barren(told) if n.place >= since][-limits.without_gain :]
    if not recent or not recent[-1].attempt.failure:
        return None
    newest = signature(recent[-1].attempt.failure)
    same = [n.place for n in recent if n.attempt.failure and signature(n.attempt.failure) == newest]
    if len(same) < limits.identical:
        return None
    text = f"{len(same)} attempts failed alike: {newest[:200]}"
    return Finding(Kind.REPEAT, text, tuple(same))


def _cycle(told: Sequence[_Numbered], since: int, limits: Thresholds) -> Finding | None:
    """Edits that were left or had failed are made again."""
    barren = _barren(told)
    edits = [_shingles(n.attempt.diff) for n in barren]
    back = [
        n.place
        for order, n in enumerate(barren)
        if n.place >= since and _returns(edits[: order + 1], limits)
    ]
    if len(back) < limits.returns or back[-1] != barren[-1].place:
        return None
    return Finding(Kind.CYCLE, f"{len(back)} attempts came back to an earlier edit", tuple(back))


def _returns(edits: Sequence[Counter[str]], limits: Thresholds) -> bool:
    *before, now = edits
    if not now:
        return False
    agreement = [_agreement(now, then) for then in before]
    return now in before or any(
        close >= limits.alike and any(a < limits.apart for a in agreement[place + 1 :])
        for place, close in enumerate(agreement)
    )


def _incorrect(told: Sequence[_Numbered], since: int, limits: Thresholds) -> Finding | None:
    recent = [n for n in told if n.place >= since][-limits.incorrect :]
    if len(recent) < limits.incorrect or any(n.attempt.correct for n in recent):
        return None
    text = f"the last {len(recent)} attempts did not build or were wrong"
    return Finding(Kind.INCORRECT, text, tuple(n.place for n in recent))


def _stall(told: Sequence[_Numbered], since: int, limits: Thresholds) -> Finding | None:
    recent = [n for n in _barren(told) if n.place >= since]
    if len(recent) < limits.without_gain:
        return None
    text = f"{len(recent)} attempts without a gain"
    return Finding(Kind.STALL, text, tuple(n.place for n in recent))


def _plateau(told: Sequence[_Numbered], since: int, limits: Thresholds) -> Finding | None:
    recent = [n for n in told if n.place >= since][-limits.plateau :]
    gains = [n.attempt.gain or 0.0 for n in recent if n.attempt.gained]
    if len(recent) < limits.plateau or sum(gains) >= limits.plateau_gain:
        return None
    text = f"the last {len(recent)} attempts gained {100 * sum(gains):.2f} % together"
    return Finding(Kind.PLATEAU, text, tuple(n.place for n in recent))


RULES: tuple[Rule, ...] = (_repeat, _cycle, _incorrect, _stall, _plateau)


@lru_cache(maxsize=1024)  # the same attempts are looked at again after each step
def _shingles(diff: str) -> Counter[str]:
    """Three words in a row of added and removed lines, each with its sign; layout is no difference.

    Single words do not tell edits of one kernel apart: they share names and punctuation.
    """
    found: Counter[str] = Counter()
    for line in diff.splitlines():
        if line.startswith(("+", "-")) and not line.startswith(("+++", "---")):
            words = ["", *re.findall(r"\w+|[^\w\s]", line[1:]), ""]
            found.update(
                line[0] + " ".join(three)
                for three in zip(words, words[1:], words[2:], strict=False)
            )
    return found


def _agreement(one: Counter[str], other: Counter[str]) -> float:
    common = sum(min(count, other[words]) for words, count in one.items() if words in other)
    total = one.total() + other.total() - common
    return common / total if total else 0.0
