# SPDX-License-Identifier: MIT
"""Estimates over processes with their one-sided bounds, calibrated bands, and upper limits.

The process is the unit of replication (measuring.md §2.8: blocks of one process share its bias),
so standard errors come from the spread between processes. Units are log ratios unless said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from avo_pytest.statistics import log_ratios

# below this share of the values a spread is rounding
ROUNDING = 1e-12

Standing = Literal["inside", "outside", "unresolved"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over processes, its standard error s/√P and P − 1 degrees of freedom."""

    value: float
    standard_error: float
    degrees: int

    def lower(self, alpha: float) -> float:
        """One-sided 1 − α bound: value − t_{1−α, P−1} · s/√P."""
        return self.value - self._margin(alpha)

    def upper(self, alpha: float) -> float:
        """One-sided 1 − α bound: value + t_{1−α, P−1} · s/√P."""
        return self.value + self._margin(alpha)

    def p_above(self, theta: float) -> float:
        """One-sided p-value of "the mean is ≤ θ": P(T_{P−1} ≥ (value − θ) / (s/√P))."""
        return float(special.stdtr(self.degrees, (theta - self.value) / self.standard_error))

    def _margin(self, alpha: float) -> float:
        return self.standard_error * t_quantile(self.degrees, alpha)


@dataclass(frozen=True, slots=True)
class Band:
    """What a calibration says is usual."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf:
            raise ValueError(f"[{self.low}, {self.high}] is not a band")


def probability(value: float) -> float:
    """`value` if it lies strictly between 0 and 1. Raises ValueError otherwise."""
    if not 0 < value < 1:
        raise ValueError(f"{value} is not a probability between 0 and 1")
    return value


def positive(value: float) -> float:
    """`value` if it is finite and > 0. Raises ValueError otherwise."""
    if not 0 < value < math.inf:
        raise ValueError(f"{value} is not a positive finite number")
    return value


def t_quantile(degrees: int, alpha: float) -> float:
    """t_{1−α} of Student's distribution."""
    return float(special.stdtrit(degrees, 1 - probability(alpha)))


def estimate(values: ArrayLike) -> Estimate:
    """Mean and standard error of one value a process. Raises ValueError below two processes.

    Values without spread are refused: no two processes of a real device agree to the last bit,
    copies of one measurement do, and their t statistic would be infinite.
    """
    x = np.sort(log_ratios(values))  # sorted: the order of the processes never matters
    if x.ndim != 1 or len(x) < 2:
        raise ValueError(f"an interval needs at least two processes, not shape {x.shape}")
    sd = float(np.std(x, ddof=1))
    if sd <= ROUNDING * float(np.max(np.abs(x))):
        raise ValueError(f"{len(x)} equal process values are copies, not replicates")
    return Estimate(float(np.mean(x)), sd / math.sqrt(len(x)), len(x) - 1)


def prediction_band(values: ArrayLike, coverage: float = 0.999, further: int = 1) -> Band:
    """Where the mean of `further` more processes falls with probability `coverage`.

    mean ± t_{1−(1−coverage)/2, n−1} · s · √(1/further + 1/n) (Hahn & Meeker 1991, §4.7), from n
    calibrated process values: of the null twin, an order effect or a carry-over.
    """
    e = estimate(values)
    n = e.degrees + 1
    if further < 1:
        raise ValueError(f"{further} further processes")
    half = t_quantile(e.degrees, (1 - coverage) / 2) * e.standard_error * math.sqrt(n / further + 1)
    return Band(e.value - half, e.value + half)


def excess_t(e: Estimate, band: Band) -> float:
    """Standard errors by which an estimate lies beyond its band; 0 inside, signed."""
    return (e.value - min(max(e.value, band.low), band.high)) / e.standard_error


def standing(e: Estimate, band: Band, alpha: float = 0.05) -> Standing:
    """Inside its calibrated band, outside by t_{1−α} standard errors, or too noisy to tell.

    Only "inside" passes a guard: noise alone must not let an effect through.
    """
    t = excess_t(e, band)
    if t == 0:
        return "inside"
    return "outside" if abs(t) >= t_quantile(e.degrees, alpha) else "unresolved"


def sd_upper_limit(sd: float, degrees: int, alpha: float = 0.05) -> float:
    """Upper 1 − α limit of a standard deviation: sd · √(degrees / χ²_{α, degrees})."""
    if degrees < 1:
        raise ValueError(f"an sd has at least one degree of freedom, not {degrees}")
    quantile = float(special.chdtri(degrees, 1 - probability(alpha)))
    return positive(sd) * math.sqrt(degrees / quantile)


def rate_upper_limit(events: int, trials: int, alpha: float = 0.05) -> float:
    """Upper 1 − α limit of a rate (Clopper & Pearson 1934): Beta quantile at (k + 1, n − k)."""
    if not 0 <= events <= trials or trials < 1:
        raise ValueError(f"{events} events in {trials} trials")
    if events == trials:
        return 1.0
    return float(special.betaincinv(events + 1, trials - events, 1 - probability(alpha)))
