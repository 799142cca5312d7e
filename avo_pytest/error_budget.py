# SPDX-License-Identifier: MIT
"""Errors of many confirms: the expected number of false promotions, and an online budget.

LORD++ (Ramdas, Yang, Wainwright & Jordan 2017; after Javanmard & Montanari 2018) gives each
confirm its own level such that, whatever the number of confirms, the expected share of false ones
among the promotions stays ≤ α, given independent p-values: fresh processes each time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from avo_pytest.intervals import probability
from avo_pytest.policy import Policy

# Σ_j ln(max(j, 2)) / (j exp √(ln j)) = 12.64…, so that γ sums to 0.976; at most 1 is asked for
NORMALISER = 0.0772


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """State after `confirms` p-values: which of them, counted from 1, were promotions.

    `wealth` (W₀ ≤ α) is what may be spent before the first promotion earns more.
    """

    alpha: float
    wealth: float
    confirms: int = 0
    promotions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        probability(self.alpha)
        if not 0 < self.wealth <= self.alpha:
            raise ValueError(f"wealth {self.wealth} is not in (0, {self.alpha}]")
        times = (0, *self.promotions, self.confirms + 1)
        if any(a >= b for a, b in zip(times, times[1:], strict=False)):
            raise ValueError(f"promotions {self.promotions} in {self.confirms} confirms")


def start(alpha: float) -> ErrorBudget:
    """An untouched budget; W₀ = α/2, the usual choice."""
    return ErrorBudget(alpha, alpha / 2)


def next_level(budget: ErrorBudget) -> float:
    """The level of the next confirm, t = confirms + 1, with promotions at τ₁ < τ₂ < …

    α_t = γ_t W₀ + (α − W₀) γ_{t−τ₁} + α Σ_{j≥2} γ_{t−τ_j}
    """
    t = budget.confirms + 1
    level = gamma(t) * budget.wealth
    for j, promoted in enumerate(budget.promotions):
        earned = budget.alpha - budget.wealth if j == 0 else budget.alpha
        level += earned * gamma(t - promoted)
    return level


def spend(budget: ErrorBudget, p_value: float) -> ErrorBudget:
    """The budget after one more confirm, a promotion if its p-value is ≤ `next_level`."""
    if not 0 <= p_value <= 1:
        raise ValueError(f"{p_value} is not a p-value")
    t = budget.confirms + 1
    won = (t,) if p_value <= next_level(budget) else ()
    return replace(budget, confirms=t, promotions=(*budget.promotions, *won))


def level(policy: Policy, attempts: Mapping[str, Any]) -> float:
    """α of the confirm that comes after these (`Record.attempts`): the policy's, or less.

    Raises ValueError where the earlier confirms are not all there.
    """
    if policy.error_budget == "none":
        return policy.alpha_confirm
    return level_after(past(attempts), false_share=policy.false_share, most=policy.alpha_confirm)


def level_after(
    confirms: Sequence[tuple[float | None, bool]], *, false_share: float, most: float
) -> float:
    """The next level, at most `most`, after confirms of these p-values (None: it came to none).

    Only what was promoted, and at its own level, earns: a candidate refused by another rule, or
    promoted before there was a budget, spends its level and earns nothing, which errs on the safe
    side.
    """
    budget = start(false_share)
    for p_value, promoted in confirms:
        won = promoted and p_value is not None and p_value <= min(next_level(budget), most)
        t = budget.confirms + 1
        promotions = (*budget.promotions, t) if won else budget.promotions
        budget = replace(budget, confirms=t, promotions=promotions)
    return min(next_level(budget), most)


def past(attempts: Mapping[str, Any]) -> list[tuple[float | None, bool]]:
    """The earlier confirms in a record. Raises ValueError with the sentence."""
    told, count = attempts.get("past"), attempts.get("all_confirms")
    if not isinstance(told, list | tuple) or len(told) != count:
        raise ValueError(f"the earlier confirms ({count}) are not all recorded")
    return [_confirm(one) for one in told]


def _confirm(raw: Any) -> tuple[float | None, bool]:
    if not isinstance(raw, list | tuple) or len(raw) != 2 or not isinstance(raw[1], bool):
        raise ValueError(f"{str(raw)[:40]!r} is no p-value and outcome of a confirm")
    p_value, promoted = raw
    if p_value is None:
        return None, promoted
    number = isinstance(p_value, int | float) and not isinstance(p_value, bool)
    if not number or not 0 <= p_value <= 1:
        raise ValueError(f"{str(p_value)[:40]!r} is not a p-value")
    return float(p_value), promoted


def gamma(j: int) -> float:
    """γ_j = 0.0772 ln(max(j, 2)) / (j exp √(ln j)), a weight for each confirm, of sum ≤ 1."""
    return NORMALISER * math.log(max(j, 2)) / (j * math.exp(math.sqrt(math.log(j))))


def expected_false_promotions(alpha: float, confirms: int) -> float:
    """α × confirms: at most so many are expected if no candidate were better (linearity)."""
    if confirms < 0:
        raise ValueError(f"{confirms} confirms")
    return probability(alpha) * confirms
