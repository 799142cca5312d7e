# SPDX-License-Identifier: MIT
"""Estimates, bands and limits against scipy, and their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from avo_pytest import intervals
from avo_pytest.intervals import Band, Estimate

VALUES = np.array([0.011, -0.004, 0.007, 0.021, 0.0, 0.013])


def test_the_estimate_is_the_students_of_scipy() -> None:
    e = intervals.estimate(VALUES)
    for theta in (-0.02, 0.0, 0.005):
        expected = stats.ttest_1samp(VALUES, theta, alternative="greater").pvalue
        assert e.p_above(theta) == pytest.approx(expected, rel=1e-9)
    interval = stats.ttest_1samp(VALUES, 0).confidence_interval(0.98)
    assert (e.lower(0.01), e.upper(0.01)) == pytest.approx(interval)


def test_a_bound_is_the_theta_whose_p_value_is_alpha() -> None:
    e = intervals.estimate(VALUES)
    assert e.p_above(e.lower(0.005)) == pytest.approx(0.005)
    assert 1 - e.p_above(e.upper(0.005)) == pytest.approx(0.005)


@given(st.permutations(range(len(VALUES))))
def test_the_order_of_processes_never_matters(order: list[int]) -> None:
    assert intervals.estimate(VALUES[order]) == intervals.estimate(VALUES)


@pytest.mark.parametrize(
    "values", [[0.1], [0.1, math.nan], [0.1, math.inf], [0.2] * 8, [0.0] * 8, [[1, 2], [3, 4]], []]
)
def test_what_carries_no_replication_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError):
        intervals.estimate(values)


def test_rounding_is_no_spread() -> None:
    with pytest.raises(ValueError, match="copies"):
        intervals.estimate([0.1 + 0.2, 0.3, 0.3])


def test_the_prediction_band_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0])
    half = stats.t.ppf(0.95, 2) * 1.0 * math.sqrt(1 / 4 + 1 / 3)
    band = intervals.prediction_band(values, 0.9, further=4)
    assert (band.low, band.high) == pytest.approx((2 - half, 2 + half))


def test_the_prediction_band_covers_the_next_process() -> None:
    generator = np.random.default_rng(2)
    outside = 0
    for _ in range(4000):
        *calibration, new = generator.normal(0.001, 0.002, 9)
        band = intervals.prediction_band(calibration, 0.99)
        outside += not band.low <= new <= band.high
    assert outside / 4000 == pytest.approx(0.01, abs=3 * math.sqrt(0.01 * 0.99 / 4000))


def test_a_band_has_two_finite_ends() -> None:
    for low, high in ((0.1, -0.1), (math.nan, 0.1), (0.0, math.nan), (-math.inf, 0.0)):
        with pytest.raises(ValueError):
            Band(low, high)
    with pytest.raises(ValueError):
        intervals.prediction_band(VALUES, 0.999, further=0)
    with pytest.raises(ValueError):
        intervals.prediction_band(VALUES, 1.0)


def test_an_effect_stands_inside_outside_or_unresolved() -> None:
    band = Band(-0.01, 0.02)
    assert intervals.standing(Estimate(0.02, 1.0, 15), band) == "inside"
    assert intervals.standing(Estimate(0.03, 0.001, 15), band) == "outside"
    assert intervals.standing(Estimate(-0.03, 0.001, 15), band) == "outside"
    assert intervals.standing(Estimate(0.03, 0.01, 15), band) == "unresolved"
    assert intervals.excess_t(Estimate(0.03, 0.01, 15), band) == pytest.approx(1)
    assert intervals.excess_t(Estimate(-0.03, 0.01, 15), band) == pytest.approx(-2)


def test_the_sd_limit_is_the_chi_square_one() -> None:
    expected = 0.3 * math.sqrt(15 / stats.chi2.ppf(0.05, 15))
    assert intervals.sd_upper_limit(0.3, 15) == pytest.approx(expected)


def test_the_sd_limit_covers() -> None:
    sds = np.random.default_rng(4).normal(0, 1, (2000, 16)).std(axis=1, ddof=1)
    covered = sum(intervals.sd_upper_limit(s, 15) >= 1 for s in sds) / 2000
    assert covered == pytest.approx(0.95, abs=0.015)


def test_zero_promotions_in_forty_bound_the_rate_at_seven_percent() -> None:
    # measuring.md §2.9 has 7.2 %; by hand: 1 − 0.05^(1/40)
    assert intervals.rate_upper_limit(0, 40) == pytest.approx(1 - 0.05 ** (1 / 40))
    assert round(intervals.rate_upper_limit(0, 40), 3) == 0.072
    assert intervals.rate_upper_limit(40, 40) == 1.0


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
def test_the_rate_limit_is_the_one_of_scipy(case: tuple[int, int]) -> None:
    limit = intervals.rate_upper_limit(*case, 0.01)
    assert limit == pytest.approx(stats.beta.ppf(0.99, case[0] + 1, case[1] - case[0]))
    assert case[0] / case[1] < limit <= 1


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, math.nan, math.inf])
def test_alpha_is_a_probability(bad: float) -> None:
    for function in (
        lambda: intervals.t_quantile(5, bad),
        lambda: intervals.sd_upper_limit(1.0, 5, bad),
        lambda: intervals.rate_upper_limit(1, 5, bad),
        lambda: intervals.estimate(VALUES).lower(bad),
    ):
        with pytest.raises(ValueError):
            function()


def test_limits_of_nothing_are_refused() -> None:
    for sd, degrees in ((0.0, 5), (math.nan, 5), (math.inf, 5), (1.0, 0)):
        with pytest.raises(ValueError):
            intervals.sd_upper_limit(sd, degrees)
    for events, trials in ((0, 0), (-1, 5), (6, 5)):
        with pytest.raises(ValueError):
            intervals.rate_upper_limit(events, trials)
