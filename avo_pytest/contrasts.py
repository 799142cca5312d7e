# SPDX-License-Identifier: MIT
"""Effects of the protocol itself, one value a process: order of the arms, carry-over.

Arrays are (process, block, configuration). `intervals.estimate` over the processes gives the
standard error, `intervals.standing` compares with the calibrated band. A configuration that says
nothing in a process (its drawn orders all went one way) is left out of that process's mean; nan is
a process of which no configuration says anything.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avo_pytest.statistics import Array

Mask = NDArray[np.bool_]


def order_effects(d: Array, candidate_first: Mask) -> Array:
    """Mean over configurations of the median of d with the candidate first − with it second.

    Log ratios. Beyond its band the order is not cancelled by drawing it: heat, caches, the
    allocator.
    """
    return _mean(masked_median(d, candidate_first) - masked_median(d, ~candidate_first))


def carry_overs(after_itself: Array, after_other: Array) -> Array:
    """Mean over configurations of the median of ln t(after itself) − ln t(after the other arm).

    Of one arm, paired by block, nan where a block has no such pair; positive: it is slower after
    itself.
    """
    difference = np.subtract(after_itself, after_other)
    return _mean(masked_median(difference, ~np.isnan(difference)))


def masked_median(values: Array, chosen: Mask) -> Array:
    """Median over the blocks of the chosen values, (process, configuration); nan: none chosen."""
    count = chosen.sum(axis=1, keepdims=True)
    ordered = np.sort(np.where(chosen, values, np.inf), axis=1)
    low, high = (np.take_along_axis(ordered, (count - odd) // 2, axis=1) for odd in (1, 0))
    return np.where(count > 0, (low + high) / 2, np.nan)[:, 0]


def _mean(differences: Array) -> Array:
    """Over the configurations that have one."""
    said = ~np.isnan(differences)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(said, differences, 0).sum(axis=1) / said.sum(axis=1))
