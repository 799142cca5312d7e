# SPDX-License-Identifier: MIT
"""Statistics on arrays of paired log ratios; pure functions, no records, no devices.

Notation: d is a paired log ratio of one configuration, one value a block, positive where the
candidate is faster; a process value is the mean over configurations of the medians over blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
MIN_BLOCKS_FOR_INTERVAL = 4

Array = NDArray[np.float64]


def process_value(per_configuration: Sequence[Array]) -> float:
    """Mean over configurations of the median over blocks (measuring.md: medians, never means)."""
    return float(np.mean([np.median(d) for d in per_configuration]))


def bootstrap_interval(per_configuration: Sequence[Array], seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of `process_value`; blocks are resampled within configurations.

    Returns (nan, nan) below MIN_BLOCKS_FOR_INTERVAL blocks: too few to say anything.
    """
    if not per_configuration or min(len(d) for d in per_configuration) < MIN_BLOCKS_FOR_INTERVAL:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    total = np.zeros(RESAMPLES)
    for d in per_configuration:
        picks = generator.integers(0, len(d), size=(RESAMPLES, len(d)))
        total += np.median(d[picks], axis=1)
    low, high = np.quantile(total / len(per_configuration), (0.025, 0.975))
    return float(low), float(high)
