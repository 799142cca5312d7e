# SPDX-License-Identifier: MIT
"""How many processes a confirm has, by policy and calibration alone, before its first sample."""

from __future__ import annotations

import functools
import math
from typing import Any, Protocol

from avo_pytest import power
from avo_pytest.policy import Policy

BIASES = 3  # min_gain is at least so many times the session bias


class Noise(Protocol):
    """What is asked of a calibration, in log ratios."""

    @property
    def process_sd(self) -> float:
        """A/A standard deviation of a process value."""

    @property
    def bias(self) -> float:
        """Session bias: the mean of the A/A."""


def effective_min_gain(policy: Policy, calibration: Noise) -> float:
    """max(min_gain, 3 × |session bias|): no promotion for what the session does by itself."""
    return max(policy.min_gain, BIASES * abs(calibration.bias))


def choose_replicates(
    policy: Policy, calibration: Noise, alpha: float | None = None
) -> tuple[int, str]:
    """How many processes a confirm at this level (None: the policy's) has, and why; depends on
    nothing that it will measure."""
    alpha = alpha or policy.alpha_confirm
    needed = math.ceil(math.log2(1 / alpha))  # below, the sign flips never reach it
    if policy.replicates is not None and policy.replicates >= needed:
        return policy.replicates, "the policy says so"
    if policy.replicates is not None:
        return needed, f"level {alpha:.2g}, which the error budget leaves, needs so many"
    goal, sd = policy.target_gain, calibration.process_sd
    min_gain = effective_min_gain(policy, calibration)
    chosen = _choose(goal, sd, min_gain, alpha, policy.power)
    if chosen is not None:
        return chosen, f"a gain of {goal:.2%} is confirmed with {policy.power:.0%} probability"
    most = max(power.PROCESSES[-1], needed)
    found = power.t_power(goal, processes=most, sd=sd, min_gain=min_gain, alpha=alpha)
    return most, f"a gain of {goal:.2%} is confirmed with {found:.0%} probability, more is too dear"


def plan(policy: Policy, calibration: Noise, alpha: float | None = None) -> dict[str, Any]:
    """`Record.plan`: all that is fixed before the first sample; with an error budget also α."""
    replicates, reason = choose_replicates(policy, calibration, alpha)
    budgeted = {} if policy.error_budget == "none" or alpha is None else {"alpha": alpha}
    return {
        **budgeted,
        "replicates": replicates,
        "blocks": policy.confirm_blocks,
        "screen_blocks": policy.screen_blocks,
        "effective_min_gain": effective_min_gain(policy, calibration),
        "reason": reason,
    }


@functools.lru_cache(maxsize=64)
def _choose(goal: float, sd: float, min_gain: float, alpha: float, wanted: float) -> int | None:
    """A simulated power takes a third of a second, and a stream of records asks for the same."""
    if goal <= min_gain:
        return None
    return power.choose_processes(goal, sd=sd, min_gain=min_gain, alpha=alpha, wanted=wanted)
