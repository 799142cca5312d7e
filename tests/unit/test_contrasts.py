# SPDX-License-Identifier: MIT
"""Order effect and carry-over: planted ones are found, absent ones are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avo_pytest import contrasts
from avo_pytest.intervals import Band, estimate, prediction_band, standing


def process(generator: np.random.Generator, order: float) -> float:
    """Order effect of one process of 8 blocks; configurations differ in their true gain."""
    first = [generator.random(8) < 0.5 for _ in range(4)]
    d = [
        gain + order * (mask - 0.5) + generator.normal(0, 0.001, 8)
        for gain, mask in zip((0.1, 0.0, -0.1, 0.02), first, strict=True)
    ]
    return contrasts.order_effect(d, first)


def test_the_order_effect_by_hand() -> None:
    d = [np.array([0.3, 0.1, 0.5, 0.2]), np.array([1.0, 2.0, 3.0, 4.0])]
    first = [np.array([True, False, True, False]), np.array([True, True, False, False])]
    # 0.4 − 0.15 and 1.5 − 3.5
    assert contrasts.order_effect(d, first) == pytest.approx((0.25 - 2.0) / 2)
    assert contrasts.order_effect(d, first, [3, 1]) == pytest.approx((0.75 - 2.0) / 4)


def test_a_configuration_drawn_one_way_says_nothing() -> None:
    d = [np.array([0.3, 0.1]), np.array([1.0, 2.0])]
    first = [np.array([True, True]), np.array([False, True])]
    assert contrasts.order_effect(d, first, [9, 1]) == pytest.approx(1.0)
    with pytest.raises(ValueError):
        contrasts.order_effect(d[:1], first[:1])


@given(st.integers(0, 1000), st.floats(-1, 1))
def test_swapping_the_arms_turns_the_order_effect_around(seed: int, shift: float) -> None:
    generator = np.random.default_rng(seed)
    d, mask = generator.normal(size=(2, 9)), np.arange(9) % 2 == 0
    effect = contrasts.order_effect(list(d), [mask, ~mask])
    assert contrasts.order_effect(list(d), [~mask, mask]) == pytest.approx(-effect)
    assert contrasts.order_effect(list(d + shift), [mask, ~mask]) == pytest.approx(effect)


def test_a_planted_order_effect_is_outside_of_the_calibrated_band() -> None:
    generator = np.random.default_rng(41)
    calibration = [process(generator, 0.0) for _ in range(32)]
    band = prediction_band(calibration, further=16)
    usual = estimate([process(generator, 0.0) for _ in range(16)])
    planted = estimate([process(generator, 0.004) for _ in range(16)])
    assert standing(usual, band) == "inside"
    assert standing(planted, band) == "outside"
    assert planted.value == pytest.approx(0.004, abs=4 * planted.standard_error)


def test_carry_over_is_paired_by_block() -> None:
    generator = np.random.default_rng(42)
    drift = np.cumsum(generator.normal(0, 0.05, (16, 2, 10)), axis=-1)
    noise = generator.normal(0, 0.001, (2, 16, 2, 10))
    values = [
        contrasts.carry_over(list(0.003 + slow + a), list(slow + b))
        for slow, a, b in zip(drift, *noise, strict=True)
    ]
    e = estimate(values)
    assert e.value == pytest.approx(0.003, abs=4 * e.standard_error)
    assert standing(e, Band(-0.001, 0.001)) == "outside"


def test_carry_over_leaves_out_what_was_never_seen() -> None:
    none = np.array([])
    after = contrasts.carry_over([np.array([1.2, 1.0]), none], [np.array([1.0, 1.0]), none])
    assert after == pytest.approx(0.1)
    with pytest.raises(ValueError):
        contrasts.carry_over([none], [none])


def test_what_is_not_finite_or_does_not_pair_is_refused() -> None:
    one, two = np.array([1.0]), np.array([1.0, 2.0])
    mask = np.array([True, False])
    for function in (
        lambda: contrasts.order_effect([np.array([1.0, math.nan])], [mask]),
        lambda: contrasts.carry_over([np.array([math.inf])], [one]),
        lambda: contrasts.carry_over([two], [np.array([1.0, 2.0, 3.0])]),
        lambda: contrasts.carry_over([two], [one]),
        lambda: contrasts.carry_over([two, two], [two]),
        lambda: contrasts.order_effect([two], [mask], [1.0, 2.0]),
    ):
        with pytest.raises(ValueError):
            function()
