# SPDX-License-Identifier: MIT
"""Order effect and carry-over: planted ones are found, absent ones are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avo_pytest import contrasts
from avo_pytest.intervals import Band, estimate, prediction_band, standing

GAINS = (0.1, 0.0, -0.1, 0.02)  # configurations differ in their true gain


def order_effects(generator: np.random.Generator, processes: int, order: float) -> np.ndarray:
    """Of processes of 8 blocks with a planted effect."""
    first = generator.random((processes, 8, len(GAINS))) < 0.5
    d = np.array(GAINS) + order * (first - 0.5) + generator.normal(0, 0.001, first.shape)
    return contrasts.order_effects(d, first)


def test_the_order_effect_by_hand() -> None:
    d = np.array([[0.3, 1.0], [0.1, 2.0], [0.5, 3.0], [0.2, 4.0]])[None]
    first = np.array([[True, True], [False, True], [True, False], [False, False]])[None]
    # 0.4 − 0.15 and 1.5 − 3.5
    assert contrasts.order_effects(d, first) == pytest.approx([(0.25 - 2.0) / 2])


def test_a_configuration_drawn_one_way_says_nothing() -> None:
    d = np.array([[[0.3, 1.0], [0.1, 2.0]], [[0.3, 1.0], [0.1, 2.0]]])
    first = np.array([[[True, False], [True, True]], [[True, False], [True, False]]])
    assert contrasts.order_effects(d, first) == pytest.approx([1.0, np.nan], nan_ok=True)


@given(st.integers(0, 1000), st.floats(-1, 1))
def test_swapping_the_arms_turns_the_order_effect_around(seed: int, shift: float) -> None:
    d = np.random.default_rng(seed).normal(size=(3, 9, 2))
    first = np.broadcast_to(np.arange(9)[:, None] % 2 == 0, d.shape)
    effects = contrasts.order_effects(d, first)
    assert contrasts.order_effects(d, ~first) == pytest.approx(-effects)
    assert contrasts.order_effects(d + shift, first) == pytest.approx(effects)


@given(st.integers(0, 1000), st.integers(1, 9))
def test_the_masked_median_is_the_median_of_what_is_chosen(seed: int, blocks: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(2, blocks, 3))
    chosen = generator.random(values.shape) < 0.5
    found = contrasts.masked_median(values, chosen)
    for p, c in np.ndindex(found.shape):
        kept = values[p, chosen[p, :, c], c]
        assert found[p, c] == np.median(kept) if len(kept) else np.isnan(found[p, c])


def test_a_planted_order_effect_is_outside_of_the_calibrated_band() -> None:
    generator = np.random.default_rng(41)
    band = prediction_band(order_effects(generator, 32, 0.0), further=16)
    usual = estimate(order_effects(generator, 16, 0.0))
    planted = estimate(order_effects(generator, 16, 0.004))
    assert standing(usual, band) == "inside"
    assert standing(planted, band) == "outside"
    assert planted.value == pytest.approx(0.004, abs=4 * planted.standard_error)


def test_carry_over_is_paired_by_block() -> None:
    generator = np.random.default_rng(42)
    drift = np.cumsum(generator.normal(0, 0.05, (16, 10, 2)), axis=1)
    a, b = generator.normal(0, 0.001, (2, 16, 10, 2))
    e = estimate(contrasts.carry_overs(0.003 + drift + a, drift + b))
    assert e.value == pytest.approx(0.003, abs=4 * e.standard_error)
    assert standing(e, Band(-0.001, 0.001)) == "outside"


def test_carry_over_leaves_out_what_was_never_seen() -> None:
    itself = np.array([[[1.2, np.nan], [1.0, np.nan]], [[np.nan, np.nan], [np.nan, np.nan]]])
    other = np.array([[[1.0, np.nan], [1.0, np.nan]], [[np.nan, np.nan], [np.nan, np.nan]]])
    assert contrasts.carry_overs(itself, other) == pytest.approx([0.1, np.nan], nan_ok=True)
