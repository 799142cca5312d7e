# SPDX-License-Identifier: MIT
"""The real screen on many candidates: arrays rule most of them out, `screen` decides the rest."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from avo_pytest.policy import Policy
from avo_pytest.screen import log_evidence_path, minimum_blocks, screen
from avo_pytest.statistics import Array


def promising(d: Array, policy: Policy, rho: float, min_gain: float) -> NDArray[np.bool_]:
    """Which candidates a screen of these block values (candidate, block) sends to the confirm.

    The evidence must reach 1/α at some block, which arrays tell; whether it did so before the
    screen stopped for futility, only the screen tells.
    """
    alpha = policy.alpha_screen
    path = log_evidence_path(d, 0.0, rho)[:, minimum_blocks(alpha) - 1 :]
    found: NDArray[np.bool_] = np.any(path >= math.log(1 / alpha), axis=1)
    for candidate in np.flatnonzero(found):
        found[candidate] = _passes(d[candidate], policy, rho, min_gain)
    return found


def _passes(d: Array, policy: Policy, rho: float, min_gain: float) -> bool:
    for n in range(minimum_blocks(policy.alpha_screen), len(d) + 1):
        seen = screen(d[:n], rho=rho, min_gain=min_gain, alpha=policy.alpha_screen)
        if seen.decision != "continue":
            return seen.decision == "promising"
    return False
