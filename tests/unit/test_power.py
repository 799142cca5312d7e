# SPDX-License-Identifier: MIT
"""Power against the tables of measuring.md, scipy and the confirm itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from avo_pytest import power
from avo_pytest.confirm import confirm

# measuring.md §2.3: effect ÷ process sd for 50 % and 90 % at α = 0.01, 0.005, 0.001
TABLE = {
    8: [1.02, 1.60, 1.19, 1.81, 1.62, 2.37],
    12: [0.77, 1.19, 0.87, 1.32, 1.13, 1.62],
    16: [0.64, 0.99, 0.72, 1.09, 0.92, 1.31],
    24: [0.50, 0.78, 0.57, 0.85, 0.70, 1.00],
    32: [0.43, 0.67, 0.48, 0.72, 0.59, 0.84],
}
# §2.9: process sd, min_gain, true gain (all in %), P, power of the t in %; the page's 43 is 42.04
FIGURES = [
    (0.09, 0.1, 0.2, 8, 44),
    (0.09, 0.1, 0.2, 16, 91),
    (0.09, 0.1, 0.3, 8, 98),
    (0.15, 0.1, 0.2, 16, 42),
    (0.15, 0.1, 0.3, 16, 98),
    (0.5, 0.5, 1.0, 16, 83),
    (0.5, 0.5, 1.5, 16, 100),
]


@pytest.mark.parametrize("processes", TABLE)
def test_the_effects_of_the_page(processes: int) -> None:
    found = [
        power.t_detectable_gain(processes=processes, sd=1, min_gain=0, alpha=a, wanted=w)
        for a in (0.01, 0.005, 0.001)
        for w in (0.5, 0.9)
    ]
    assert found == pytest.approx(TABLE[processes], abs=0.0051)


@pytest.mark.parametrize(("sd", "least", "gain", "processes", "percent"), FIGURES)
def test_the_powers_of_the_page(
    sd: float, least: float, gain: float, processes: int, percent: int
) -> None:
    found = power.t_power(gain, processes=processes, sd=sd, min_gain=least, alpha=0.005)
    assert 100 * found == pytest.approx(percent, abs=0.6)


@given(st.floats(0, 3), st.sampled_from(power.PROCESSES), st.sampled_from([0.01, 0.001]))
def test_the_power_of_the_t_is_scipys(gain: float, processes: int, alpha: float) -> None:
    critical = stats.t.ppf(1 - alpha, processes - 1)
    expected = stats.nct.sf(critical, processes - 1, gain * math.sqrt(processes))
    found = power.t_power(gain, processes=processes, sd=1, min_gain=0, alpha=alpha)
    assert found == pytest.approx(expected, abs=1e-7)


@given(st.floats(0, 0.02), st.floats(0, 0.01))
def test_a_larger_gain_is_found_more_often(gain: float, more: float) -> None:
    small, large = (
        power.t_power(g, processes=16, sd=0.004, min_gain=0.001, alpha=0.005)
        for g in (gain, gain + more)
    )
    assert small <= large + 1e-12


def test_without_a_gain_the_t_errs_at_alpha() -> None:
    assert power.t_power(
        0.001, processes=12, sd=0.003, min_gain=0.001, alpha=0.005
    ) == pytest.approx(0.005)


@pytest.mark.parametrize(("processes", "effect"), [(8, 1.81), (12, 1.32), (16, 1.09)])
def test_the_promise_is_what_the_confirm_keeps(processes: int, effect: float) -> None:
    values = np.random.default_rng(31).normal(effect, 1, (6000, processes))
    kept = np.mean([confirm(v, min_gain=0.0).confirmed for v in values])
    promised = power.power(effect, processes=processes, sd=1, min_gain=0)
    assert promised == pytest.approx(kept, abs=0.02)
    assert promised <= power.t_power(effect, processes=processes, sd=1, min_gain=0, alpha=0.005)


def test_eight_flips_find_less_than_the_t() -> None:
    assert power.power(1.81, processes=8, sd=1, min_gain=0) == pytest.approx(0.75, abs=0.02)
    assert power.power(9.0, processes=8, sd=1, min_gain=0) == pytest.approx(1.0)


def test_eight_processes_cannot_confirm_at_a_thousandth() -> None:
    assert power.power(9.0, processes=8, sd=1, min_gain=0, alpha=0.001) == 0
    found = power.minimum_detectable_gain(processes=8, sd=1, min_gain=0, alpha=0.001)
    assert math.isinf(found)


@pytest.mark.parametrize("processes", [8, 24])
def test_the_detectable_gain_is_detected(processes: int) -> None:
    gain = power.minimum_detectable_gain(processes=processes, sd=0.002, min_gain=0.001)
    found = power.power(gain, processes=processes, sd=0.002, min_gain=0.001)
    assert 0.899 <= found <= 0.93


def test_the_smallest_sufficient_number_is_chosen() -> None:
    # in units of §2.3: 2.3 sd of eight, 1.4 of twelve, then 1.15, 0.9, 0.75, and none
    sds = {2.3: 8, 1.4: 12, 1.15: 16, 0.9: 24, 0.75: 32, 0.6: None}
    for effect, processes in sds.items():
        assert power.choose_processes(0.001 + effect, sd=1.0, min_gain=0.001) == processes


def test_the_gpu_of_the_page_confirms_three_tenths_of_a_percent() -> None:
    # sd 0.09 %: 98 % by the t with eight, but eight flips keep less of it than they cost
    assert power.choose_processes(0.003, sd=0.0009, min_gain=0.001) in (8, 12)
    assert power.choose_processes(0.0025, sd=0.0009, min_gain=0.001) == 12


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    for function in (
        lambda: power.power(bad, processes=12, sd=1, min_gain=0),
        lambda: power.power(1, processes=12, sd=bad, min_gain=0),
        lambda: power.power(1, processes=12, sd=1, min_gain=bad),
        lambda: power.power(1, processes=12, sd=1, min_gain=0, alpha=bad),
        lambda: power.power(1, processes=1, sd=1, min_gain=0),
        lambda: power.choose_processes(1, sd=1, min_gain=0, wanted=bad),
        lambda: power.minimum_detectable_gain(processes=12, sd=0, min_gain=0),
    ):
        with pytest.raises(ValueError):
            function()


@pytest.mark.soak
@pytest.mark.parametrize("alpha", [0.01, 0.005, 0.001])
def test_above_sixteen_the_flips_cost_less_than_a_point(alpha: float) -> None:
    effect = power.t_detectable_gain(processes=24, sd=1, min_gain=0, alpha=alpha, wanted=0.9)
    values = np.random.default_rng(32).normal(effect, 1, (20_000, 24))
    done = [confirm(v, min_gain=0.0, alpha=alpha) for v in values]
    lost = np.mean([d.p_value < alpha and not d.confirmed for d in done])
    print(f"α = {alpha}: {100 * lost:.2f} points")
    assert lost < 0.01
