# SPDX-License-Identifier: MIT
"""Pure statistics: on data whose answer is known, and at their stated rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avo_pytest import statistics


@pytest.mark.parametrize("bad", [[], [0.1, math.nan], [math.inf], [-1e4]])
def test_what_is_no_log_ratio_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError):
        statistics.log_ratios(bad)
    with pytest.raises(ValueError):
        statistics.process_value([np.array([0.1, 0.2]), np.array(bad)])


def test_the_process_value_weighs_the_medians() -> None:
    data = [np.array([0.0, 1.0, 9.0]), np.array([3.0, 5.0])]
    assert statistics.process_value(data) == 2.5
    assert statistics.process_value(data, [1, 3]) == pytest.approx(3.25)
    assert statistics.process_value(data, [0, 2]) == 4.0
    assert statistics.process_values([data, data[::-1]], [1, 3]).tolist() == [3.25, 1.75]


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, math.nan]])
def test_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    data = [np.arange(4.0), np.arange(4.0)]
    for function in (statistics.process_value, statistics.block_values):
        with pytest.raises(ValueError):
            function(data, weights)
    with pytest.raises(ValueError):
        statistics.bootstrap_interval(data, weights=weights)


def test_a_block_value_needs_every_configuration() -> None:
    a, b = np.array([1.0, 2.0]), np.array([3.0, 6.0])
    assert statistics.block_values([a, b], [3, 1]).tolist() == [1.5, 3.0]
    with pytest.raises(ValueError, match="without all"):
        statistics.block_values([a, b[:1]])
    with pytest.raises(ValueError):
        statistics.block_values([])


def test_nothing_measured_has_no_process_value() -> None:
    with pytest.raises(ValueError, match="no configurations"):
        statistics.process_value([])


@given(st.permutations(range(6)), st.floats(-1, 1))
def test_the_process_value_is_shift_equivariant_and_forgets_the_order(
    order: list[int], shift: float
) -> None:
    d = np.array([0.1, -0.3, 0.2, 0.7, -0.1, 0.05])
    value = statistics.process_value([d, 2 * d])
    assert statistics.process_value([d[order], 2 * d]) == value
    moved = statistics.process_value([d + shift, 2 * d + shift])
    assert moved == pytest.approx(value + shift)


def test_few_blocks_give_no_interval() -> None:
    low, high = statistics.bootstrap_interval([np.array([0.1, 0.2, 0.3])])
    assert math.isnan(low) and math.isnan(high)


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.2, 0.2), st.integers(0, 10_000))
def test_the_interval_moves_with_the_effect(effect: float, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.01, size=(2, 12))
    low0, high0 = statistics.bootstrap_interval(list(noise))
    low, high = statistics.bootstrap_interval([d + effect for d in noise])
    assert low == pytest.approx(low0 + effect) and high == pytest.approx(high0 + effect)


def test_the_interval_covers_at_its_stated_rate() -> None:
    generator = np.random.default_rng(7)
    hits = 0
    for _ in range(300):
        data = [generator.standard_t(3, size=20) * 0.01 for _ in range(4)]
        low, high = statistics.bootstrap_interval(data)
        hits += low <= 0.0 <= high
    # nominal 95 %; medians of 20 heavy-tailed blocks bootstrap a little conservatively
    assert hits / 300 > 0.92
