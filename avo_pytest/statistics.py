# SPDX-License-Identifier: MIT
"""Statistics on arrays of paired log ratios; pure functions, no records, no devices.

Notation: d is a paired log ratio of one configuration, one value a block, positive where the
candidate is faster; a process value is the mean over configurations of the medians over blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
MIN_BLOCKS_FOR_INTERVAL = 4
# ln(largest double / smallest double): no two positive times have a larger log ratio
LARGEST_LOG_RATIO = 1500.0

Array = NDArray[np.float64]


def log_ratios(values: ArrayLike) -> Array:
    """`values` as float64. Raises ValueError when empty or when one cannot be a log ratio."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("no log ratios: nothing was measured")
    # written so that NaN fails too
    if not bool(np.all(np.abs(array) <= LARGEST_LOG_RATIO)):
        bad = array[~(np.abs(array) <= LARGEST_LOG_RATIO)].flat[0]
        raise ValueError(f"{bad} is not the log ratio of two measured times")
    return array


def log_ratio(value: float) -> float:
    """`value` as one log ratio, refused like those of `log_ratios`."""
    return float(log_ratios(value))


def process_value(
    per_configuration: Sequence[Array], weights: Sequence[float] | None = None
) -> float:
    """D_p = Σ_c w_c · median_b d_pbc, a log ratio (measuring.md §2.2: medians, never means)."""
    medians = [np.median(log_ratios(d)) for d in per_configuration]
    return float(np.average(medians, weights=_checked(weights, len(medians))))


def process_values(
    processes: Sequence[Sequence[Array]], weights: Sequence[float] | None = None
) -> Array:
    """The process value of each process."""
    return np.array([process_value(p, weights) for p in processes])


def block_values(
    per_configuration: Sequence[Array], weights: Sequence[float] | None = None
) -> Array:
    """D_pb = Σ_c w_c · d_pbc, one log ratio a block; every configuration has every block."""
    if len({len(d) for d in per_configuration}) > 1:
        raise ValueError("a block without all of its configurations has no value")
    stacked = log_ratios(np.stack(list(per_configuration)))
    return np.average(stacked, axis=0, weights=_checked(weights, len(stacked)))


def bootstrap_interval(
    per_configuration: Sequence[Array], seed: int = 0, *, weights: Sequence[float] | None = None
) -> tuple[float, float]:
    """95 % percentile interval of `process_value`; blocks are resampled within configurations.

    Returns (nan, nan) below MIN_BLOCKS_FOR_INTERVAL blocks: too few to say anything.
    """
    if not per_configuration or min(len(d) for d in per_configuration) < MIN_BLOCKS_FOR_INTERVAL:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    medians = []
    for d in map(log_ratios, per_configuration):
        picks = generator.integers(0, len(d), size=(RESAMPLES, len(d)))
        medians.append(np.median(d[picks], axis=1))
    totals = np.average(medians, axis=0, weights=_checked(weights, len(medians)))
    low, high = np.quantile(totals, (0.025, 0.975))
    return float(low), float(high)


def _checked(weights: Sequence[float] | None, configurations: int) -> Array | None:
    """Weights ≥ 0, one a configuration, of any sum > 0. None: equal weights."""
    if configurations == 0:
        raise ValueError("no configurations: nothing was measured")
    if weights is None:
        return None
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (configurations,) or not np.all(np.isfinite(array) & (array >= 0)):
        raise ValueError(f"weights {array} do not fit {configurations} configurations")
    if array.sum() == 0:
        raise ValueError("all weights are zero")
    return array
