# SPDX-License-Identifier: MIT
"""Effects of the protocol itself, one value a process: order of the arms, carry-over.

`intervals.estimate` over the processes gives the standard error, `intervals.standing` compares
with the calibrated band. A configuration that says nothing in a process (its drawn orders all
went one way) is left out there and the other weights are scaled up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from avo_pytest.statistics import Array, log_ratios, process_value

Weights = Sequence[float] | None


def order_effect(
    per_configuration: Sequence[Array],
    candidate_first: Sequence[NDArray[np.bool_]],
    weights: Weights = None,
) -> float:
    """Σ_c w_c (median of d with the candidate first − median of d with it second), a log ratio.

    Beyond its band the order is not cancelled by drawing it: heat, caches, the allocator.
    """
    pairs = zip(per_configuration, candidate_first, strict=True)
    return _weighted([_difference(log_ratios(d), mask) for d, mask in pairs], weights)


def carry_over(
    after_itself: Sequence[Array], after_other: Sequence[Array], weights: Weights = None
) -> float:
    """Σ_c w_c · median of ln t(after itself) − ln t(after the other arm), paired by block.

    Of one arm; positive: it is slower after itself. Arrays are log times, one a block.
    """
    pairs = list(zip(after_itself, after_other, strict=True))
    if any(np.shape(a) != np.shape(b) for a, b in pairs):
        raise ValueError("after itself and after the other are not the same blocks")
    return _weighted([np.subtract(a, b) for a, b in pairs], weights)


def _difference(d: Array, first: NDArray[np.bool_]) -> Array:
    """Median where `first` minus median elsewhere; empty where one side is."""
    if first.all() or not first.any():
        return d[:0]
    return np.array([np.median(d[first]) - np.median(d[~first])])


def _weighted(differences: Sequence[Array], weights: Weights) -> float:
    """`process_value` of the configurations that have a difference."""
    if weights is None:
        weights = [1.0] * len(differences)
    spoken = [(x, w) for x, w in zip(differences, weights, strict=True) if len(x)]
    return process_value([x for x, _ in spoken], [w for _, w in spoken])
