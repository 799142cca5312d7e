# SPDX-License-Identifier: MIT
"""A record's launches as arrays, and what is paired with what: one pass, numpy afterwards.

Axes are always (row, configuration, turn, arm); a row is one block of one replicate. A paired log
ratio is the mean over the turns of ln t_b − ln t_a of the same turn, positive where `a` is faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avo_pytest.score import Sample
from avo_pytest.statistics import Array

TURNS = 2
MOST_ARMS = 1000
# A launch cannot take longer on its device's clock than on the host's, but for rates and steps
HOST_SHARE, HOST_MS = 0.99, 0.01

Integers = NDArray[np.intp]


class EvidenceError(ValueError):
    """Samples that cannot have been measured; the sentence says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Launches:
    """Every launch of some replicates in its place; nan and −1 where there is none.

    `log_ms` is ln(milliseconds), `position` counts within the turn, `at_ms` since the replicate's
    first block began (nan where a record does not tell).
    """

    rows: tuple[tuple[int, int], ...]  # (replicate, block), sorted
    configurations: tuple[str, ...]
    arms: tuple[str, ...]
    log_ms: Array
    position: Integers
    at_ms: Array

    def of(self, arm: str) -> Array:
        """Log times of one arm: (row, configuration, turn)."""
        return self.log_ms[..., self.arms.index(arm)]

    def chosen(self, keep: NDArray[np.bool_]) -> Launches:
        """Only these rows."""
        return replace(
            self,
            rows=tuple(row for row, kept in zip(self.rows, keep, strict=True) if kept),
            log_ms=self.log_ms[keep],
            position=self.position[keep],
            at_ms=self.at_ms[keep],
        )

    def missing(self) -> str:
        """The first launch that should be there and is not, as a sentence; empty: none."""
        gaps = np.argwhere(np.isnan(self.log_ms))
        if not len(gaps):
            return ""
        row, configuration, turn, arm = map(int, gaps[0])
        where = _where(*self.rows[row], self.configurations[configuration], self.arms[arm], turn)
        return f"{where} was not launched ({len(gaps)} launches are missing)"


def gather(
    samples: Iterable[Sample], configurations: Sequence[str], arms: Sequence[str]
) -> Launches:
    """All samples, each of one of these configurations and arms, in their places.

    Raises EvidenceError for a foreign, doubled or impossible one.
    """
    taken = list(samples)
    _refuse_types(taken)
    _refuse_times(taken)
    rows, index = _places(taken, configurations, arms)
    shape = (len(rows), len(configurations), TURNS, len(arms))
    log_ms, at_ms = np.full(shape, np.nan), np.full(shape, np.nan)
    position = np.full(shape, -1, dtype=np.intp)
    if taken:
        log_ms[index] = np.log([s.ms for s in taken])
        position[index] = [s.position for s in taken]
        at_ms[index] = [s.facts.get("at_ms", math.nan) for s in taken]
    return Launches(
        rows=rows,
        configurations=tuple(configurations),
        arms=tuple(arms),
        log_ms=log_ms,
        position=position,
        at_ms=at_ms,
    )


def paired(launches: Launches, a: str, b: str) -> Array:
    """d (row, configuration): mean over turns with both arms of ln t_b − ln t_a; nan: none."""
    difference = launches.of(b) - launches.of(a)
    return _mean(difference, ~np.isnan(difference), axis=2)


def candidate_first(launches: Launches) -> NDArray[np.bool_]:
    """(row, configuration): the first turn launched the candidate before the incumbent."""
    candidate, incumbent = map(launches.arms.index, ("candidate", "incumbent"))
    first = launches.position[:, :, 0]
    return np.asarray(first[..., candidate] < first[..., incumbent])


def carried(launches: Launches) -> tuple[Array, Array]:
    """ln t of the incumbent's code after itself and after the candidate: (row, configuration) each.

    Incumbent and null twin are the same code. Of three arms in a drawn order and its reverse
    exactly one of the two runs once after the candidate and once after its own code, so that every
    block has one such pair; nan where it has none. The first launch follows an unknown arm.
    """
    arms = launches.arms
    candidate, own = arms.index("candidate"), [arms.index(a) for a in ("incumbent", "null")]
    before = _predecessors(launches.position)
    log_ms, previous = launches.log_ms[..., own], before[..., own]
    after_own = _mean(log_ms, (previous >= 0) & (previous != candidate), axis=2)
    after_candidate = _mean(log_ms, previous == candidate, axis=2)
    pair = ~np.isnan(after_own - after_candidate)
    return _mean(after_own, pair, axis=2), _mean(after_candidate, pair, axis=2)


def disorder(launches: Launches) -> str:
    """What of the protocol's order was not kept, or which clock stepped back; empty: nothing.

    The second turn is the reverse of the first; configurations and blocks follow each other.
    """
    arms = len(launches.arms)
    first, second = launches.position[:, :, 0], launches.position[:, :, 1]
    drawn = np.all(np.sort(first, axis=2) == np.arange(arms), axis=2)
    balanced = drawn & np.all(first + second == arms - 1, axis=2)
    if not balanced.all():
        row, configuration = map(int, np.argwhere(~balanced)[0])
        where = _where(*launches.rows[row], launches.configurations[configuration])
        return f"{where}: the arms were not launched in an order and its reverse"
    at = np.take_along_axis(launches.at_ms, np.argsort(launches.position, axis=3), axis=3)
    at = at.reshape(*at.shape[:2], -1)  # as launched, (row, configuration, launch)
    if np.isnan(at).any():
        return f"{np.isnan(at).sum()} launches do not say when they began (at_ms)"
    in_order = np.argsort(at[:, :, 0], axis=1)  # configurations are drawn anew in every block
    times = np.take_along_axis(at, in_order[:, :, None], axis=1).reshape(len(at), -1)
    replicates = np.array([replicate for replicate, _ in launches.rows])
    back = np.asarray((np.diff(times, axis=1) < 0).any(axis=1))
    back[1:] |= (times[1:, 0] < times[:-1, -1]) & (replicates[1:] == replicates[:-1])
    if not back.any():
        return ""
    replicate, block = launches.rows[int(np.argmax(back))]
    return f"replicate {replicate}, block {block}: the clock went backwards (at_ms)"


def _where(replicate: int, block: int, configuration: str, arm: str = "", turn: int = -1) -> str:
    place = f"replicate {replicate}, block {block}, {configuration}"
    return f"{place}: {arm} in turn {turn}" if arm else place


def _mean(values: Array, chosen: NDArray[np.bool_], axis: int) -> Array:
    """Mean of the chosen values; nan where none is."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(chosen, values, 0).sum(axis) / chosen.sum(axis))


def _predecessors(position: Integers) -> Integers:
    """(row, configuration, turn, arm): who was launched before; −1: not known."""
    launched = np.argsort(position, axis=3).reshape(*position.shape[:2], -1)  # arms, in time
    before = np.concatenate([np.full_like(launched[..., :1], -1), launched[..., :-1]], axis=2)
    return np.take_along_axis(before.reshape(position.shape), position, axis=3)


def _refuse_types(samples: Sequence[Sample]) -> None:
    """Whole numbers and names; what is no number would only fail later and elsewhere."""
    for name in ("replicate", "block", "turn", "position"):
        if odd := {type(getattr(s, name)) for s in samples} - {int}:
            raise EvidenceError(f"a sample's {name} is {odd.pop().__name__}, not a whole number")
    kinds = {type(t) for s in samples for t in (s.ms, s.host_ms, s.facts.get("at_ms", 0.0))}
    if wrong := [kind for kind in kinds if kind is bool or not issubclass(kind, float | int)]:
        raise EvidenceError(f"a sample's time is {wrong[0].__name__}, not a number")


def _refuse_times(samples: Sequence[Sample]) -> None:
    ms, host_ms = (np.array([getattr(s, n) for s in samples], float) for n in ("ms", "host_ms"))
    good = (ms > 0) & (ms < math.inf) & (host_ms < math.inf)  # written so that nan is not good
    if not good.all():
        s = samples[int(np.argmin(good))]
        raise EvidenceError(f"{_of(s)}: {s.ms} ms ({s.host_ms} ms on the host) is not a time")
    plausible = host_ms >= HOST_SHARE * ms - HOST_MS
    if not plausible.all():
        s = samples[int(np.argmin(plausible))]
        raise EvidenceError(
            f"{_of(s)}: {s.ms} ms on the device but only {s.host_ms} ms on the host's clock"
        )


def _places(
    samples: Sequence[Sample], configurations: Sequence[str], arms: Sequence[str]
) -> tuple[tuple[tuple[int, int], ...], Any]:
    """Sorted rows, and an index into arrays of (row, configuration, turn, arm) for each sample."""
    pairs = [(s.replicate, s.block) for s in samples]
    rows = sorted(set(pairs))
    row_of = {pair: i for i, pair in enumerate(rows)}
    c_of = {name: i for i, name in enumerate(configurations)}
    a_of = {name: i for i, name in enumerate(arms)}
    for s in samples:
        place = 0 <= s.turn < TURNS and 0 <= s.position < MOST_ARMS
        if s.configuration not in c_of or s.arm not in a_of or not place:
            raise EvidenceError(f"{_of(s)} was not to be launched")
    index = (
        np.array([row_of[p] for p in pairs], np.intp),
        np.array([c_of[s.configuration] for s in samples], np.intp),
        np.array([s.turn for s in samples], np.intp),
        np.array([a_of[s.arm] for s in samples], np.intp),
    )
    shape = (max(len(rows), 1), len(configurations), TURNS, len(arms))
    seen = np.bincount(np.ravel_multi_index(index, shape)) if samples else np.zeros(0)
    if len(seen) and seen.max() > 1:
        doubled = np.ravel_multi_index(index, shape) == int(np.argmax(seen > 1))
        raise EvidenceError(f"{_of(samples[int(np.argmax(doubled))])} is there more than once")
    return tuple(rows), index


def _of(s: Sample) -> str:
    return _where(s.replicate, s.block, s.configuration, s.arm, s.turn)
