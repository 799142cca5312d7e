# SPDX-License-Identifier: MIT
"""What a confirm can resolve: power, minimum detectable effect, number of processes.

`sd` is the calibrated A/A standard deviation of a process value; gains are log ratios.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from avo_pytest.confirm import sign_flip_p
from avo_pytest.intervals import positive, probability, t_quantile
from avo_pytest.statistics import Array, log_ratio

PROCESSES = (8, 12, 16, 24, 32)
DRAWS = 4000
BISECTIONS = 8
# above, counting sign flips takes long, and they cost less than a point of power at α ≥ 0.001
SIMULATED_UP_TO = 16


def t_power(gain: float, *, processes: int, sd: float, min_gain: float, alpha: float) -> float:
    """P(the t of the confirm rejects) for normal process values: noncentral t.

    1 − F(t_{1−α, P−1}; P − 1, nc) with nc = (gain − min_gain)/sd · √P (measuring.md §2.3).
    """
    nc = log_ratio(gain - min_gain) / positive(sd) * math.sqrt(processes)
    critical = t_quantile(_degrees(processes), alpha)
    return 1 - float(special.nctdtr(processes - 1, nc, critical))


def power(
    gain: float, *, processes: int, sd: float, min_gain: float, alpha: float = 0.005
) -> float:
    """P(confirmed) for normal process values: the t and the sign flips both reject.

    The flips can only take away, and from few processes they take much: at P = 8 and α = 0.005
    they ask for eight values above min_gain, which turns 90 % by the t into 74 %. So it is
    simulated, with a fixed seed and a standard error below 0.8 %, up to SIMULATED_UP_TO.
    """
    by_t = t_power(gain, processes=processes, sd=sd, min_gain=min_gain, alpha=alpha)
    if 2.0**-processes > alpha:
        return 0.0
    if processes > SIMULATED_UP_TO:
        return by_t
    noise = np.random.default_rng(0).standard_normal((DRAWS, processes))
    x = (gain - min_gain) / sd + noise
    x = x[_t_statistics(x) > t_quantile(processes - 1, alpha)]
    # of those that the t rejects the share that the flips reject too, times the exact t power
    clear = x.min(axis=1, initial=math.inf) > 0  # every flip lowers the sum: p = 2^-P
    kept = int(clear.sum()) + sum(sign_flip_p(row) <= alpha for row in x[~clear])
    return by_t * kept / len(x) if len(x) else 0.0


def t_detectable_gain(
    *, processes: int, sd: float, min_gain: float, alpha: float, wanted: float
) -> float:
    """The true gain at which `t_power` is `wanted`: min_gain + nc · sd/√P."""
    critical = t_quantile(_degrees(processes), alpha)
    nc = float(special.nctdtrinc(processes - 1, 1 - probability(wanted), critical))
    return log_ratio(min_gain) + nc * positive(sd) / math.sqrt(processes)


def minimum_detectable_gain(
    *, processes: int, sd: float, min_gain: float, alpha: float = 0.005, wanted: float = 0.9
) -> float:
    """The smallest true gain with `power` ≥ wanted, to 1 %; inf where P is too small for α.

    Between the gain of the t alone and three times its distance from min_gain, by bisection.
    """

    def found(gain: float) -> bool:
        p = power(gain, processes=processes, sd=sd, min_gain=min_gain, alpha=alpha)
        return p >= wanted - 1e-9  # the inverse of the noncentral t has rounding

    low = t_detectable_gain(
        processes=processes, sd=sd, min_gain=min_gain, alpha=alpha, wanted=wanted
    )
    if found(low):
        return low
    high = low + 2 * abs(low - min_gain)
    if not found(high):
        return math.inf
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def choose_processes(
    gain: float, *, sd: float, min_gain: float, alpha: float = 0.005, wanted: float = 0.9
) -> int | None:
    """The smallest P of PROCESSES that confirms `gain` with probability `wanted`; None: none."""
    probability(wanted)
    fits = (
        p
        for p in PROCESSES
        if power(gain, processes=p, sd=sd, min_gain=min_gain, alpha=alpha) >= wanted
    )
    return next(fits, None)


def _degrees(processes: int) -> int:
    if processes < 2:
        raise ValueError(f"a confirm needs at least two processes, not {processes}")
    return processes - 1


def _t_statistics(x: Array) -> Array:
    spread = np.std(x, axis=1, ddof=1) / math.sqrt(x.shape[1])
    return np.asarray(np.mean(x, axis=1) / spread, dtype=np.float64)
