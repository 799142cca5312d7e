# SPDX-License-Identifier: MIT
"""What the counts say against what is promised: rates with their limits, and whether they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from avo_pytest.intervals import rate_upper_limit
from avo_pytest.simulation.measured import Measured

CONFIDENCE = 0.95  # of a limit that must lie on the good side
CERTAINTY = 0.999  # of one that proves a promise broken, where the truth may be at its edge
# Calibrated guards (null twin, order, carry-over) each refuse one honest confirm in a thousand or
# more, and process values are not quite normal: so much may be missing from the promised power.
TOLERANCE = 0.03


@dataclass(frozen=True, slots=True)
class Rate:
    """Events among trials."""

    events: int
    trials: int

    @property
    def value(self) -> float:
        return self.events / self.trials

    def upper(self, confidence: float = CONFIDENCE) -> float:
        """Clopper and Pearson's one-sided limit."""
        return rate_upper_limit(self.events, self.trials, 1 - confidence)

    def lower(self, confidence: float = CONFIDENCE) -> float:
        """The same from below."""
        return 1 - rate_upper_limit(self.trials - self.events, self.trials, 1 - confidence)


@dataclass(frozen=True, slots=True)
class Bound:
    """One promise under one kind of noise. `text` says what was found and what was promised."""

    name: str
    noise: str
    holds: bool
    text: str


def promoted(one: Measured, trial: str) -> Rate | None:
    """Promotions among the candidates of a trial; None where it was not run."""
    counts = one.counts.get(trial)
    if counts is None:
        return None
    return Rate(int(counts.get("PROMOTE", 0)), int(counts.get("screened", counts["confirms"])))


def bounds(measured: Sequence[Measured], *, alpha: float) -> list[Bound]:
    """All promises of a rule with error rate `alpha` that these counts can speak of."""
    found: list[Bound] = []
    for one in measured:
        for trial in ("no change", "both stages"):
            if rate := promoted(one, trial):
                found.append(_kept(one.noise, trial, rate, alpha))
        if rate := promoted(one, "min_gain"):
            found.append(_not_broken(one.noise, rate, alpha))
        if rate := promoted(one, "power"):
            found.append(_found(one, rate))
    return found


def _kept(noise: str, trial: str, rate: Rate, alpha: float) -> Bound:
    upper = rate.upper()
    text = (
        f"{rate.events} of {rate.trials} no-change candidates promoted: at most {upper:.3%} "
        f"({CONFIDENCE:.0%} limit), promised {alpha:.3%}"
    )
    if upper > alpha >= rate.lower():
        text += "; too few candidates to tell"
    return Bound(f"false promotions, {trial}", noise, upper <= alpha, text)


def _not_broken(noise: str, rate: Rate, alpha: float) -> Bound:
    lower = rate.lower(CERTAINTY)
    text = (
        f"{rate.events} of {rate.trials} candidates with a gain of just min_gain promoted "
        f"({rate.value:.2%}): at least {lower:.3%} ({CERTAINTY:.1%} limit), promised {alpha:.3%}"
    )
    return Bound("false promotions at min_gain", noise, lower <= alpha, text)


def _found(one: Measured, rate: Rate) -> Bound:
    upper, least = rate.upper(CERTAINTY), one.promised - TOLERANCE
    text = (
        f"{rate.value:.1%} of {rate.trials} gains of min_gain + {one.excess:.3%} found, promised "
        f"{one.promised:.1%} (may be {TOLERANCE:.0%} less)"
    )
    return Bound("power", one.noise, upper >= least, text)
