# SPDX-License-Identifier: MIT
"""Pure statistics: on data whose answer is known, and at their stated rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avo_pytest import statistics


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
