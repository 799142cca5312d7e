# SPDX-License-Identifier: MIT
"""What the page's main chart shows, as numbers: every attempt, every version, in every unit.

An attempt stands at its incumbent's level times its own gain, since only paired gains compare
across days. A version stands where its latest audit (else its promotion) measured it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from avo_pytest.entries import Entry, Interval
from avo_pytest.lineage import Attempt, Lineage, Rung, baselines, best_baseline
from avo_pytest.report.ladder import unit

LANES = ("NO-CHANGE", "INVALID", "INCORRECT")  # without a score, from below
VERDICTS = ("REJECT", "INCONCLUSIVE", "PROMOTE", *LANES)
MARGIN = 0.06
NEAR = 0.8  # a baseline below this share of the slowest version is named at the edge


@dataclass(frozen=True, slots=True)
class Axis:
    """One choice for x or y: how it is called, what it is labelled, and its range."""

    key: str
    name: str
    label: str
    low: float
    high: float

    def share(self, value: float) -> float:
        """Where a value is between low (0) and high (1), kept inside."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A version. `value` and `baselines` by y axis, `at` by x axis."""

    rung: Rung
    at: Mapping[str, float]
    value: Mapping[str, Interval]
    chain: Mapping[str, float]
    baselines: Mapping[str, Mapping[str, float]]  # y axis → arm → its level


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """An attempt; `value` is empty where it has no score."""

    attempt: Attempt
    verdict: str
    at: Mapping[str, float]
    value: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Everything in data coordinates."""

    xs: tuple[Axis, ...]
    ys: tuple[Axis, ...]
    points: tuple[Point, ...]
    dots: tuple[Dot, ...]


def plot(lineage: Lineage) -> Plot:
    """The chart of a lineage; axes that nothing was recorded for are left out."""
    places = _places(lineage.attempts)
    at = {a.entry.id: place for a, place in zip(lineage.attempts, places, strict=True)}
    scales = _scales(lineage)
    points = tuple(_point(r, at[r.entry.id], scales) for r in lineage.rungs if r.entry.id in at)
    dots = tuple(_dot(a, p, scales) for a, p in zip(lineage.attempts, places, strict=True))
    return Plot(xs=_x_axes(places), ys=_y_axes(lineage, scales, points, dots),
                points=points, dots=dots)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Scale:
    """Value of the seed in a unit; of a version, `ratio` names the arm it is the ratio to."""

    seed: float
    factor: float
    ratio: str = ""


def _scales(lineage: Lineage) -> dict[str, _Scale]:
    found = {"speedup": _Scale(1.0, 1.0, "seed")}
    seed = lineage.rungs[0].measured if lineage.rungs else None
    if seed is None:
        return found
    factor = unit(lineage)[1]
    best = _reference(lineage)
    over = {"baseline": _Scale(100 * seed.ratios[best][0], 100.0, best)} if (
        best in seed.ratios) else {}  # fmt: skip
    return {"tflops": _Scale(seed.tflops[0] * factor, factor), **over, **found}


def _reference(lineage: Lineage) -> str:
    """The baseline that percents are of: the fastest when last measured."""
    for rung in reversed(lineage.rungs):
        best = best_baseline(rung.audit or rung.entry)
        if best:
            return best[0]
    return ""


def _places(attempts: Sequence[Attempt]) -> list[dict[str, float]]:
    """x of every attempt by axis."""
    start = _time(attempts[0].entry) if attempts else 0.0
    gpu = usd = 0.0
    places = []
    for attempt in attempts:
        cost = attempt.entry.cost
        gpu += cost.get("gpu_seconds", cost.get("seconds", 0.0)) / 3600
        usd += cost.get("usd", 0.0)
        days = (_time(attempt.entry) - start) / 86400
        places.append({"attempt": float(attempt.number), "days": days, "hours": gpu, "usd": usd})
    return places


def _time(entry: Entry) -> float:
    try:
        return datetime.fromisoformat(entry.created).timestamp()
    except ValueError:  # the id says it too
        return datetime.strptime(entry.id[:15], "%Y%m%d-%H%M%S").timestamp()


def _point(rung: Rung, at: dict[str, float], scales: Mapping[str, _Scale]) -> Point:
    values: dict[str, Interval] = {}
    arms: dict[str, dict[str, float]] = {}
    measured = rung.measured
    for key, scale in scales.items():
        level = scale.seed * math.exp(rung.chain)
        found = (level, level, level)
        if measured is not None and not scale.ratio:
            found = _times(measured.tflops, scale.factor)
        elif measured is not None and scale.ratio in measured.ratios:
            found = _times(measured.ratios[scale.ratio], scale.factor)
        values[key] = found
        named = baselines(rung.audit or rung.entry) if measured else []
        arms[key] = {n: found[0] / measured.ratios[n][0] for n in named
                     if measured and n in measured.ratios}  # fmt: skip
    chain = {key: scale.seed * math.exp(rung.chain) for key, scale in scales.items()}
    return Point(rung=rung, at=at, value=values, chain=chain, baselines=arms)


def _times(interval: Interval, factor: float) -> Interval:
    return interval[0] * factor, interval[1] * factor, interval[2] * factor


def _dot(attempt: Attempt, at: dict[str, float], scales: Mapping[str, _Scale]) -> Dot:
    verdict = attempt.entry.verdict
    if attempt.entry.version is not None:
        verdict = "PROMOTE"
    if verdict not in VERDICTS:
        verdict = "INVALID"
    level = attempt.level if verdict not in LANES else None
    if level is None and verdict not in LANES:
        verdict = "INVALID"
    value = {} if level is None else {k: s.seed * math.exp(level) for k, s in scales.items()}
    return Dot(attempt=attempt, verdict=verdict, at=at, value=value)


def _x_axes(places: Sequence[Mapping[str, float]]) -> tuple[Axis, ...]:
    names = {
        "attempt": ("Attempt", "attempts"),
        "days": ("Time", "days since the first"),
        "hours": ("Device time", "device hours, judging"),
        "usd": ("USD", "USD, proposing"),
    }
    found = []
    for key, (name, label) in names.items():
        last = max((place[key] for place in places), default=0.0)
        first = min((place[key] for place in places), default=0.0)
        if last > first or key == "attempt":
            end = last if last > first else first + 1.0  # a line needs some length
            pad = 0.02 * (end - first)
            found.append(Axis(key, name, label, first - pad, end + pad))
    return tuple(found)


def _y_axes(
    lineage: Lineage, scales: Mapping[str, _Scale], points: Sequence[Point], dots: Sequence[Dot]
) -> tuple[Axis, ...]:
    name = unit(lineage)[0]
    best = scales["baseline"].ratio if "baseline" in scales else ""
    names = {
        "tflops": (name, f"{name}, geometric mean"),
        "baseline": (f"% of {best}", f"percent of {best}"),
        "speedup": ("Speed-up", "speed-up over the seed"),
    }
    return tuple(Axis(key, *names[key], *_range(key, points, dots)) for key in scales)


def _range(key: str, points: Sequence[Point], dots: Sequence[Dot]) -> tuple[float, float]:
    """Of versions and of baselines not beaten by far; attempts stretch it by their middle 98 %."""
    values = [v for p in points for v in (*p.value[key], p.chain[key])]
    reach = NEAR * min(values, default=0.0)
    values += [v for p in points for v in p.baselines[key].values() if v >= reach]
    levels = sorted(d.value[key] for d in dots if d.value)
    if levels:
        cut = len(levels) // 100
        values += [levels[cut], levels[-1 - cut]]
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = MARGIN * (high - low or high or 1.0)
    return low - pad, high + pad
