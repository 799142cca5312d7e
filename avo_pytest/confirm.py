# SPDX-License-Identifier: MIT
"""The confirm: one fixed-size test on fresh processes, and a second opinion from sign flips.

P is fixed before the first process starts and all P values are needed: no peeking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from avo_pytest.intervals import Estimate, estimate, probability
from avo_pytest.statistics import Array, log_ratio, log_ratios

# 2^20 sums a half: 8 MiB and a fraction of a second
EXACT_UP_TO = 40
DRAWS = 100_000
TIE = 1e-12


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The confirm of one candidate. Log ratios; `lower` and `upper` are one-sided at 1 − α.

    confirmed: both tests reject "the gain is ≤ min_gain" at α. agrees: they say the same.
    """

    processes: int
    estimate: float
    lower: float
    upper: float
    p_value: float
    sign_flip_p: float
    agrees: bool
    confirmed: bool


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """One configuration against −max_regression, at its own α.

    holds: lower > −max_regression. regressed: the estimate is beyond −max_regression and the
    upper bound below 0, so the loss is real. Neither: too noisy to tell.
    """

    estimate: float
    lower: float
    upper: float
    holds: bool
    regressed: bool


def confirm(values: ArrayLike, *, min_gain: float, alpha: float = 0.005) -> Confirmation:
    """One-sided t on P process values, LCB = mean − t_{1−α, P−1} s/√P > min_gain, cross-checked.

    measuring.md §2.3, stage 2. Raises ValueError on fewer than two, non-finite or equal values.
    """
    e = estimate(values)
    p_value, flips = e.p_above(log_ratio(min_gain)), sign_flip_p(values, min_gain)
    by_t, by_flips = p_value < probability(alpha), flips <= alpha
    return Confirmation(
        processes=e.degrees + 1,
        estimate=e.value,
        lower=e.lower(alpha),
        upper=e.upper(alpha),
        p_value=p_value,
        sign_flip_p=flips,
        agrees=by_t == by_flips,
        confirmed=by_t and by_flips,
    )


def sign_flip_p(values: ArrayLike, min_gain: float = 0.0, seed: int = 0) -> float:
    """One-sided sign-flip p-value of "symmetric about a centre ≤ min_gain" (Fisher 1935, §21).

    The share of the 2^P sign patterns whose sum of x = values − min_gain is at least the observed
    one. Flipping the set F lowers the sum by 2 Σ_F x, so it is the share of subsets with
    Σ_F x ≤ 0; the empty one always counts, so p ≥ 2^−P. Ties within rounding count as well.
    Exact up to EXACT_UP_TO values, above from DRAWS random patterns and the observed one.
    """
    x = np.sort(log_ratios(values) - log_ratio(min_gain))
    if x.ndim != 1:
        raise ValueError(f"one value a process, not an array of shape {x.shape}")
    tie = TIE * float(np.sum(np.abs(x)))
    if len(x) <= EXACT_UP_TO:
        left, right = _subset_sums(x[::2]), np.sort(_subset_sums(x[1::2]))
        # meet in the middle: 2^(P/2) look-ups instead of 2^P sums
        count = int(np.sum(np.searchsorted(right, tie - left, side="right")))
        return count / 2.0 ** len(x)
    flipped = np.random.default_rng(seed).integers(0, 2, size=(DRAWS, len(x)), dtype=np.int8)
    return (1 + int(np.sum(flipped @ x <= tie))) / (1 + DRAWS)


def non_inferiority(
    values: ArrayLike, *, max_regression: float, alpha: float = 0.05
) -> tuple[NonInferiority, ...]:
    """Each configuration's one-sided t interval over processes against −max_regression.

    `values` is (processes, configurations): median over blocks of each. measuring.md §2.5.
    """
    x = log_ratios(values)
    if x.ndim != 2:
        raise ValueError(f"processes × configurations, not an array of shape {x.shape}")
    if not 0 <= max_regression < math.inf:
        raise ValueError(f"max_regression {max_regression} is not a size")
    return tuple(_judged(estimate(column), max_regression, alpha) for column in x.T)


def _judged(e: Estimate, max_regression: float, alpha: float) -> NonInferiority:
    lower, upper = e.lower(alpha), e.upper(alpha)
    regressed = e.value < -max_regression and upper < 0
    return NonInferiority(e.value, lower, upper, lower > -max_regression, regressed)


def _subset_sums(x: Array) -> Array:
    sums = np.zeros(1)
    for value in x:
        sums = np.concatenate([sums, sums + value])
    return sums
