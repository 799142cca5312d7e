# SPDX-License-Identifier: MIT
"""The screen: an always-valid one-sided test that may be looked at after every block.

Each block value minus θ is symmetric about 0 when θ is the true centre, because the order of the
arms is drawn anew in every block. Then the mixture below is a non-negative supermartingale and
P(it ever reaches 1/α) ≤ α (Ville), under any drift or tail (measuring.md §2.4; de la Peña 1999).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from avo_pytest.intervals import positive, probability
from avo_pytest.statistics import Array, log_ratio, log_ratios

BISECTIONS = 100

Decision = Literal["continue", "futile", "promising"]


@dataclass(frozen=True, slots=True)
class Screening:
    """Where the screen stands. Log ratios, except `log_evidence` = ln M_n(threshold)."""

    decision: Decision
    blocks: int
    mean: float
    lower: float
    upper: float
    log_evidence: float


def scale(block_sd: float) -> float:
    """ρ = 1/(5 σ_AA), from the calibrated sd of a block value, never from the candidate's data."""
    return 1 / (5 * positive(block_sd))


def minimum_blocks(alpha: float) -> int:
    """No decision before n ≥ 2 ln(1/α) blocks."""
    return math.ceil(2 * math.log(1 / probability(alpha)))


def log_evidence_path(d: ArrayLike, theta: float, rho: float) -> Array:
    """ln M_n(θ) after each block along the last axis; d has one log ratio a block.

    M_n(θ) = 2 W^(−1/2) exp(ρ²S²/(2W)) Φ(ρS/√W) with S = Σ(d−θ), V = Σ(d−θ)², W = 1 + ρ²V: the
    half-normal mixture over λ of Π exp(λ(d−θ) − λ²(d−θ)²/2), each factor of mean ≤ 1.
    """
    u = positive(rho) * (log_ratios(d) - log_ratio(theta))
    w = 1 + np.cumsum(u**2, axis=-1)
    z = np.cumsum(u, axis=-1) / np.sqrt(w)
    return _log_bump(z) - np.log(w) / 2


def log_evidence(d: ArrayLike, theta: float, rho: float) -> float:
    """ln M_n(θ) after the last block: the log e-value against "the centre is ≤ θ"."""
    return float(log_evidence_path(d, theta, rho)[-1])


def half_width(d: ArrayLike, alpha: float, rho: float) -> float:
    """Distance from the mean to the first θ, on either side, with M_n(θ) ≥ 1/α; inf if none.

    Below the mean at distance δ, W = a + bδ² with a = 1 + ρ²Σ(d−mean)² and b = ρ²n. With
    q = bδ²/W the log evidence is −½ ln a + ½ ln(1−q) + nq/2 + ln 2Φ(√(nq)), concave in q, so its
    first crossing is a root left of its peak. It falls again behind the peak: M is not monotone,
    and a search from far away would find the wrong end.
    """
    x = log_ratios(d)
    n = len(x)
    a = 1 + positive(rho) ** 2 * float(np.sum((x - np.mean(x)) ** 2))
    needed = math.log(1 / probability(alpha)) + math.log(a) / 2
    peak = _root(lambda q: -_slope(q, n), 1.0)
    if _gain(peak, n) < needed:
        return math.inf
    q = _root(lambda q: _gain(q, n) - needed, peak)
    return math.sqrt(a * q / (n * (1 - q))) / rho


def screen(
    d: ArrayLike, *, rho: float, min_gain: float, alpha: float = 0.05, threshold: float = 0.0
) -> Screening:
    """Decide after any number of blocks, as often as wanted.

    promising: M_n(threshold) ≥ 1/α, a decision at one θ, at which Ville's bound holds.
    futile: the displayed upper bound is ≤ min_gain; it goes before promising, since a confirm
    against min_gain would only be lost. A wrong "futile" costs a candidate, never a promotion.
    """
    x = log_ratios(d)
    if x.ndim != 1:
        raise ValueError(f"one value a block, not an array of shape {x.shape}")
    mean, half = float(np.mean(x)), half_width(x, alpha, rho)
    evidence = log_evidence(x, threshold, rho)
    decision: Decision = "continue"
    if len(x) >= minimum_blocks(alpha):
        if mean + half <= log_ratio(min_gain):
            decision = "futile"
        elif evidence >= math.log(1 / alpha):
            decision = "promising"
    return Screening(decision, len(x), mean, mean - half, mean + half, evidence)


def _log_bump(z: Array) -> Array:
    """ln(2 Φ(z) exp(z²/2)) = ln erfcx(−z/√2); for z > 0 as a sum of logs, which cannot overflow."""
    low = np.log(special.erfcx(-np.minimum(z, 0) / math.sqrt(2)))
    high = math.log(2) + z**2 / 2 + special.log_ndtr(np.maximum(z, 0))
    return np.asarray(np.where(z > 0, high, low), dtype=np.float64)


def _gain(q: float, n: int) -> float:
    z = math.sqrt(n * q)
    return math.log1p(-q) / 2 + n * q / 2 + math.log(2) + float(special.log_ndtr(z))


def _slope(q: float, n: int) -> float:
    """Derivative of `_gain` by q, decreasing."""
    z = math.sqrt(n * q)
    hazard = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) / float(special.ndtr(z))
    return n / 2 - 1 / (2 * (1 - q)) + hazard * n / (2 * z)


def _root(rising: Callable[[float], float], high: float) -> float:
    """Root in (0, high) of a function that is negative at first and then positive."""
    low = 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if rising(middle) >= 0 else (middle, high)
    return high
