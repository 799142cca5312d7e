# SPDX-License-Identifier: MIT
"""The working lineage of a run: looser than `main`, so that a search can cross a valley.

A step joins it on a screen alone. It is a place to stand, never a claim: after a few steps, or a
day, its tip must face a confirm against `main`. Pure functions of what was accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

STEPS = 5  # accepted since `main` was last faced
PERIOD = timedelta(hours=24)
FLOOR = -0.003  # a loss by the screens' estimates that is still tolerated

ACCEPTABLE = frozenset({"PROMOTE", "INCONCLUSIVE", "REJECT"})  # a screen of a correct candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A step of the working lineage; `gain` is its screen's estimate over the tip, a fraction."""

    commit: str
    at: datetime
    gain: float


def estimate(accepted: Sequence[Accepted]) -> float:
    """What the steps come to together, by their screens; no measurement of its own."""
    product = 1.0
    for step in accepted:
        product *= 1.0 + step.gain
    return product - 1.0


def objection(
    accepted: Sequence[Accepted], *, verdict: str, correct: bool | None, gain: float | None
) -> str:
    """Why a screened candidate may not become the tip; empty where it may."""
    if not correct or verdict not in ACCEPTABLE:
        return f"the screen says {verdict or 'nothing'}"
    if gain is None:
        return "the screen has no estimate"
    if gain < FLOOR:
        return f"{100 * gain:+.2f} % against the tip is below {100 * FLOOR:+.1f} %"
    together = (1.0 + estimate(accepted)) * (1.0 + gain) - 1.0
    if together < FLOOR:
        return f"{100 * together:+.2f} % since main is below {100 * FLOOR:+.1f} %"
    return ""


def due(accepted: Sequence[Accepted], now: datetime) -> str:
    """Why the tip must face a confirm against `main` before the next step; empty: not yet."""
    if not accepted:
        return ""
    if len(accepted) >= STEPS:
        return f"{len(accepted)} steps since main"
    if now - accepted[0].at >= PERIOD:
        return f"{(now - accepted[0].at) // timedelta(hours=1)} hours since main"
    return ""
