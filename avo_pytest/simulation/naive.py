# SPDX-License-Identifier: MIT
"""The rules that ours replaces, as common practice has them; each decides on many candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from avo_pytest.intervals import t_quantile
from avo_pytest.statistics import Array

# sd of the geometric mean of TFLOPS from one process to the next, in ln: measured on an H100 whose
# clocks were not locked (684.7 to 694.5 in eight processes)
RUN_SD = 0.0044
BLOCKS = 20
ALPHA = 0.05
FIRST_LOOK = 3  # blocks


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """Of each candidate: is it promoted, and with which gain (log ratio)?"""

    promoted: NDArray[np.bool_]
    claimed: Array


def point_estimate(d: Array) -> Decided:
    """The mean of BLOCKS paired log ratios of one process is above 0."""
    means = d[:, :BLOCKS].mean(axis=1)
    return Decided(means > 0, means)


def peeking(d: Array) -> Decided:
    """A one-sided paired t at ALPHA, looked at after each block until it says yes."""
    n = np.arange(1, d.shape[1] + 1)
    means = np.cumsum(d, axis=1) / n
    squares = np.cumsum(d**2, axis=1) - n * means**2
    with np.errstate(divide="ignore", invalid="ignore"):
        t = means / np.sqrt(squares / (n - 1) / n)
    critical = np.array([t_quantile(max(int(k) - 1, 1), ALPHA) for k in n])
    fires = (t > critical) & (n >= FIRST_LOOK)
    first = np.argmax(fires, axis=1)
    return Decided(fires.any(axis=1), means[np.arange(len(d)), first])


def stored_best(gains: Array, random: np.random.Generator, margin: float = 0.0) -> Decided:
    """One run of each candidate against the best number so far, which it becomes if it is better.

    `gains` (stream, candidate) are against the incumbent of the moment. Claims are differences of
    stored numbers.
    """
    promoted = np.zeros(gains.shape, dtype=np.bool_)
    claimed = np.zeros(gains.shape)
    true = np.zeros(len(gains))
    best = RUN_SD * random.standard_normal(len(gains))
    for k in range(gains.shape[1]):
        score = true + gains[:, k] + RUN_SD * random.standard_normal(len(gains))
        promoted[:, k] = score > best + margin
        claimed[:, k] = score - best
        true += np.where(promoted[:, k], gains[:, k], 0.0)
        best = np.where(promoted[:, k], score, best)
    return Decided(promoted, claimed)


PAIRED: Mapping[str, Callable[[Array], Decided]] = MappingProxyType(
    {"paired, estimate > 0": point_estimate, "paired t, peeking": peeking}
)
STORED: Mapping[str, float] = MappingProxyType(
    {"one run > stored best": 0.0, "stored best + 1 sd": RUN_SD}
)
