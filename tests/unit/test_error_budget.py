# SPDX-License-Identifier: MIT
"""The online budget: its formula by hand, its guarantee by simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from avo_pytest import error_budget
from avo_pytest.error_budget import ErrorBudget, gamma, level, next_level, spend, start
from avo_pytest.loading import _module
from avo_pytest.policy import Policy
from avo_pytest.promotion import Kind, decide

synthetic = _module(Path(__file__).parents[1] / "synthetic.py")

P_VALUES = st.lists(st.floats(0, 1), max_size=30)


def test_the_weights_sum_to_at_most_one() -> None:
    n = 20_000
    # ∫_n^∞ ln x / (x e^√ln x) dx = 2 Γ(4, √ln n), above the rest of a falling sum
    tail = error_budget.NORMALISER * 12 * special.gammaincc(4, math.sqrt(math.log(n)))
    weights = [gamma(j) for j in range(1, n + 1)]
    assert 0.95 < sum(weights) + tail <= 1
    assert weights[3:] == sorted(weights[3:], reverse=True)


def test_the_levels_by_hand() -> None:
    budget = ErrorBudget(0.05, 0.01, confirms=6, promotions=(2, 4, 5))
    expected = 0.01 * gamma(7) + 0.04 * gamma(5) + 0.05 * (gamma(3) + gamma(2))
    assert next_level(budget) == pytest.approx(expected)
    assert next_level(start(0.05)) == pytest.approx(0.025 * gamma(1))


def test_a_promotion_earns_and_a_failure_costs() -> None:
    budget = start(0.05)
    won, lost = spend(budget, 0.0), spend(budget, 1.0)
    assert won == ErrorBudget(0.05, 0.025, 1, (1,)) and lost == ErrorBudget(0.05, 0.025, 1)
    assert next_level(won) > next_level(lost)
    assert next_level(lost) < next_level(budget) == spend_level(budget)


def spend_level(budget: ErrorBudget) -> float:
    """The largest p-value that is a promotion, from `spend` itself."""
    level = next_level(budget)
    assert spend(budget, level).promotions and not spend(budget, level * (1 + 1e-9)).promotions
    return level


@given(P_VALUES)
def test_without_promotions_no_more_than_the_wealth_is_ever_spent(p_values: list[float]) -> None:
    budget, spent = start(0.05), 0.0
    for _ in p_values:
        spent += next_level(budget)
        budget = spend(budget, 1.0)
    assert spent <= budget.wealth


@given(P_VALUES)
def test_spent_levels_stay_below_alpha_times_promotions(p_values: list[float]) -> None:
    """Σ levels ≤ α · max(1, promotions): the estimate of false ones that LORD++ keeps."""
    budget, spent = start(0.05), 0.0
    for p in p_values:
        spent += next_level(budget)
        budget = spend(budget, p)
        assert spent <= 0.05 * max(1, len(budget.promotions)) + 1e-12
    assert budget.confirms == len(p_values)


@given(P_VALUES, st.integers(0, 29))
def test_a_smaller_p_value_never_lowers_later_levels(p_values: list[float], index: int) -> None:
    better = [*p_values]
    if index < len(better):
        better[index] = 0.0
    assert next_level(reduce(spend, better, start(0.05))) >= next_level(
        reduce(spend, p_values, start(0.05))
    )


def test_the_share_of_false_promotions_stays_below_alpha() -> None:
    generator, shares, found = np.random.default_rng(51), [], 0
    for _ in range(400):
        true = generator.random(100) < 0.2
        p_values = stats.norm.sf(generator.normal(np.where(true, 4.0, 0.0), 1))
        promotions = np.array(reduce(spend, p_values, start(0.05)).promotions, dtype=int) - 1
        shares.append(np.mean(~true[promotions]) if len(promotions) else 0.0)
        found += int(np.sum(true[promotions]))
    assert np.mean(shares) + 3 * np.std(shares) / 20 <= 0.05
    assert found / (400 * 20) > 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, 1.1])
def test_what_is_no_p_value_is_refused(bad: float) -> None:
    with pytest.raises(ValueError):
        spend(start(0.05), bad)


def test_impossible_states_are_refused() -> None:
    for state in (
        (0.0, 0.0),
        (math.nan, 0.01),
        (0.05, 0.06),
        (0.05, math.nan),
        (0.05, 0.01, 2, (3,)),
        (0.05, 0.01, 2, (2, 1)),
        (0.05, 0.01, 2, (0,)),
        (0.05, 0.01, -1),
    ):
        with pytest.raises(ValueError):
            ErrorBudget(*state)


def test_expected_false_promotions() -> None:
    assert error_budget.expected_false_promotions(0.005, 40) == pytest.approx(0.2)
    for alpha, confirms in ((0.0, 4), (math.nan, 4), (0.005, -1)):
        with pytest.raises(ValueError):
            error_budget.expected_false_promotions(alpha, confirms)


def record_attempts(*past: tuple[float | None, bool]) -> dict:
    return {"past": [list(one) for one in past], "all_confirms": len(past)}


LORD = Policy(error_budget="lord", false_share=0.05, alpha_confirm=0.005)


def test_the_level_of_a_confirm_is_the_budgets_and_never_above_the_policys() -> None:
    assert level(Policy(), {}) == Policy().alpha_confirm
    assert level(LORD, record_attempts()) == pytest.approx(0.025 * gamma(1))
    after = record_attempts((1e-9, True), (0.4, False), (None, False))
    budget = ErrorBudget(0.05, 0.025, confirms=3, promotions=(1,))
    assert level(LORD, after) == pytest.approx(next_level(budget))
    many = record_attempts(*[(1e-9, True)] * 40)
    assert level(LORD, many) == LORD.alpha_confirm


@pytest.mark.parametrize(
    "one", [(1e-9, False), (None, True), (0.002, True)], ids=["refused", "no p-value", "too large"]
)
def test_only_a_promotion_at_its_own_level_earns(one: tuple[float | None, bool]) -> None:
    assert level(LORD, record_attempts(one)) == level(LORD, record_attempts((1.0, False)))
    assert level(LORD, record_attempts((1e-9, True))) > level(LORD, record_attempts(one))


@pytest.mark.parametrize(
    "attempts",
    [
        {},
        {"past": [], "all_confirms": 1},
        {"past": [[0.5, False]], "all_confirms": 0},
        {"past": [[2.0, False]], "all_confirms": 1},
        {"past": [[True, True]], "all_confirms": 1},
        {"past": [[float("nan"), True]], "all_confirms": 1},
        {"past": [["0.1", True]], "all_confirms": 1},
        {"past": [[0.1, 1]], "all_confirms": 1},
        {"past": "ab", "all_confirms": 2},
        {"past": {"a": 1}, "all_confirms": 1},
    ],
)
def test_a_history_with_a_gap_has_no_level(attempts: dict) -> None:
    with pytest.raises(ValueError):
        level(LORD, attempts)


def test_the_verdict_is_decided_at_the_level_that_the_budget_leaves() -> None:
    """The same samples: promoted at the policy's level, not at a hundredth of it."""
    rules = replace(synthetic.POLICY, error_budget="lord", replicates=16)
    spent = record_attempts(*[(1.0, False)] * 40)
    rich = record_attempts(*[(1e-12, True)] * 40)
    kinds = {}
    for name, attempts in {"spent": spent, "rich": rich}.items():
        made = synthetic.record(0.0018, policy=rules, attempts=attempts)
        found = decide(made, rules)
        kinds[name] = found.kind
        assert made.plan["alpha"] == level(rules, attempts)
        if name == "spent":
            assert made.plan["alpha"] < found.p_value < rules.alpha_confirm
            assert f"level {made.plan['alpha']:.3g}" in found.reasons[0].text
    assert kinds == {"spent": Kind.INCONCLUSIVE, "rich": Kind.PROMOTE}


def test_the_plan_has_as_many_processes_as_the_level_needs() -> None:
    rules = replace(synthetic.POLICY, error_budget="lord", replicates=8)
    made = synthetic.record(0.01, policy=rules, attempts=record_attempts())
    assert made.plan["replicates"] == 10 and "error budget" in made.plan["reason"]
    assert decide(made, rules).kind is Kind.PROMOTE


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"attempts": {"past": []}}, "error budget"),
        ({"attempts": {"past": [[1e-12, True]] * 3}}, "plan"),
        ({"plan": {"alpha": 0.005}}, "plan"),
        ({"plan": {"alpha": None}}, "plan"),
    ],
)
def test_an_altered_history_or_level_is_invalid(changes: dict, rule: str) -> None:
    rules = replace(synthetic.POLICY, error_budget="lord")
    made = synthetic.record(0.01, policy=rules, attempts=record_attempts(*[(1.0, False)] * 3))
    assert decide(made, rules).kind is Kind.PROMOTE
    altered = replace(made, **{k: {**getattr(made, k), **v} for k, v in changes.items()})
    found = decide(altered, rules)
    assert (found.kind, found.reasons[0].rule) == (Kind.INVALID, rule)
