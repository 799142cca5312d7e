# SPDX-License-Identifier: MIT
"""The confirm and its cross-check: exact values, invariances, error rates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import stats

from avo_pytest import confirm
from avo_pytest.intervals import rate_upper_limit

ALPHA = 0.005
Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
# on a grid: sums tie exactly or clearly not
GRID = st.integers(-100_000, 100_000).map(lambda i: i / 1e6)
VALUES = arrays.arrays(np.float64, st.integers(2, 12), elements=GRID, unique=True)


def outliers(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return generator.normal(0, 1, shape) * np.where(generator.random(shape) < 0.05, 10, 1)


NOISE: dict[str, Draw] = {
    "normal": lambda g, shape: g.normal(0, 1, shape),
    "t3": lambda g, shape: g.standard_t(3, shape),
    "outliers": outliers,
}


def by_enumeration(values: NDArray[np.float64], min_gain: float) -> float:
    x = values - min_gain
    signs = np.array(list(itertools.product((1, -1), repeat=len(x))))
    return float(np.mean(signs @ x >= x.sum() - 1e-12))


@settings(deadline=None)
@given(VALUES, GRID)
def test_meeting_in_the_middle_counts_every_sign_pattern(
    values: NDArray[np.float64], min_gain: float
) -> None:
    p = confirm.sign_flip_p(values, min_gain)
    assert p == pytest.approx(by_enumeration(values, min_gain), abs=1e-12)
    assert 2.0 ** -len(values) <= p <= 1


def test_the_sign_flips_agree_with_scipy() -> None:
    values = np.random.default_rng(3).normal(0.5, 1, 12)
    done = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert confirm.sign_flip_p(values) == pytest.approx(done.pvalue, rel=1e-12)


@pytest.mark.parametrize("processes", [8, 12, 16, 20, 24, 32])
def test_the_smallest_p_is_one_pattern(processes: int) -> None:
    values = np.linspace(0.01, 0.02, processes)
    assert confirm.sign_flip_p(values, 0.005) == 2.0**-processes
    assert confirm.sign_flip_p(-values, 0.005) == 1.0


def test_ties_count_against_the_candidate() -> None:
    # x and −x: both patterns that keep the sum at 0, and the ones above
    assert confirm.sign_flip_p(np.array([0.1, -0.1])) == 0.75
    assert confirm.sign_flip_p(np.array([0.1 + 0.2, -0.3])) == 0.75
    assert confirm.sign_flip_p(np.zeros(5)) == 1.0


def test_above_forty_values_random_flips_agree_with_the_normal_limit() -> None:
    values = np.random.default_rng(8).normal(0.2, 1, 100)
    z = values.sum() / math.sqrt(np.sum(values**2))
    p = confirm.sign_flip_p(values)
    assert p == pytest.approx(stats.norm.sf(z), rel=0.1)
    assert p == confirm.sign_flip_p(values)
    assert confirm.sign_flip_p(np.linspace(1, 2, 100)) == pytest.approx(1 / (1 + confirm.DRAWS))


@given(VALUES)
def test_both_directions_share_the_patterns(values: NDArray[np.float64]) -> None:
    # p(x ≥) + p(−x ≥) = 1 + share of patterns that tie with the observed one
    assert confirm.sign_flip_p(values) + confirm.sign_flip_p(-values) >= 1


@given(VALUES.flatmap(lambda v: st.tuples(st.just(v), st.permutations(range(len(v))))))
def test_the_order_of_processes_never_matters(
    case: tuple[NDArray[np.float64], list[int]],
) -> None:
    values, order = case
    one = confirm.confirm(values, min_gain=0.001)
    assert one == confirm.confirm(values[order], min_gain=0.001)


def test_the_t_part_is_students() -> None:
    values = np.random.default_rng(5).normal(0.004, 0.002, 16)
    done = confirm.confirm(values, min_gain=0.001)
    expected = stats.ttest_1samp(values, 0.001, alternative="greater")
    assert done.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    bound = values.mean() - stats.t.ppf(0.995, 15) * values.std(ddof=1) / 4
    assert done.lower == pytest.approx(bound)
    assert (done.lower + done.upper) / 2 == pytest.approx(done.estimate)
    assert done.processes == 16


@given(VALUES, st.floats(-0.05, 0.05))
def test_moving_data_and_least_gain_together_changes_nothing(
    values: NDArray[np.float64], shift: float
) -> None:
    one = confirm.confirm(values, min_gain=0.001)
    moved = confirm.confirm(values + shift, min_gain=0.001 + shift)
    assert moved.p_value == pytest.approx(one.p_value, rel=1e-6, abs=1e-12)
    assert moved.lower - shift == pytest.approx(one.lower, abs=1e-9)


@given(VALUES, GRID, GRID.map(abs))
def test_more_is_never_easier(values: NDArray[np.float64], gain: float, more: float) -> None:
    easy, hard = (confirm.confirm(values, min_gain=g) for g in (gain, gain + more))
    assert easy.p_value <= hard.p_value + 1e-15
    assert easy.sign_flip_p <= hard.sign_flip_p
    assert hard.confirmed <= easy.confirmed


@given(VALUES, st.sampled_from([0.005, 0.05, 0.2]))
def test_confirmed_is_both_and_the_bound_says_the_same(
    values: NDArray[np.float64], alpha: float
) -> None:
    done = confirm.confirm(values, min_gain=0.001, alpha=alpha)
    assert done.confirmed == (done.p_value < alpha and done.sign_flip_p <= alpha)
    assert done.agrees == ((done.p_value < alpha) == (done.sign_flip_p <= alpha))
    if abs(done.p_value - alpha) > 1e-9:
        assert (done.lower > 0.001) == (done.p_value < alpha)


def test_seven_of_eight_above_the_least_gain_disagree() -> None:
    values = np.array([0.02, 0.021, 0.019, 0.02, 0.022, 0.018, 0.02, 0.0009])
    done = confirm.confirm(values, min_gain=0.001)
    assert done.p_value < ALPHA < done.sign_flip_p
    assert not done.agrees and not done.confirmed


def test_too_few_processes_never_confirm() -> None:
    done = confirm.confirm(np.linspace(0.1, 0.101, 7), min_gain=0.001)
    assert done.p_value < 1e-9 and not done.confirmed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    values = np.linspace(0.02, 0.03, 15)
    for function in (
        lambda: confirm.confirm(np.append(values, bad), min_gain=0.001),
        lambda: confirm.confirm(values, min_gain=bad),
        lambda: confirm.confirm(values, min_gain=0.001, alpha=bad),
        lambda: confirm.sign_flip_p(np.append(values, bad)),
        lambda: confirm.sign_flip_p(values, bad),
        lambda: confirm.non_inferiority(np.full((4, 2), bad), max_regression=0.01),
        lambda: confirm.non_inferiority(np.eye(4), max_regression=bad),
    ):
        with pytest.raises(ValueError):
            function()


def test_copies_and_wrong_shapes_are_refused() -> None:
    for values in ([0.02] * 16, [0.02], [], np.eye(4)):
        with pytest.raises(ValueError):
            confirm.confirm(values, min_gain=0.001)
    with pytest.raises(ValueError):
        confirm.sign_flip_p(np.eye(4))
    with pytest.raises(ValueError):
        confirm.non_inferiority(np.arange(4.0), max_regression=0.01)
    with pytest.raises(ValueError):
        confirm.non_inferiority(np.eye(4), max_regression=-0.01)


def test_each_configuration_is_judged_by_its_own_interval() -> None:
    noise = np.random.default_rng(9).normal(0, 1, (16, 1))
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    centres, sds = np.array([0.0, -0.03, -0.009, 0.05]), np.array([0.002, 0.002, 0.02, 0.002])
    good, lost, noisy, fast = confirm.non_inferiority(centres + sds * noise, max_regression=0.01)
    assert good.lower == pytest.approx(-stats.t.ppf(0.95, 15) * 0.002 / 4)
    assert good.holds and fast.holds
    assert lost.regressed and not lost.holds
    assert not noisy.holds and not noisy.regressed


def test_non_inferiority_errs_at_its_rate() -> None:
    values = np.random.default_rng(10).normal(-0.01, 0.004, (16, 20_000))
    held = sum(c.holds for c in confirm.non_inferiority(values, max_regression=0.01))
    assert held / 20_000 == pytest.approx(0.05, abs=0.005)


def rates(draw: Draw, reps: int, processes: int, seed: int) -> tuple[int, int]:
    """(confirmed, rejected by the t alone) of candidates with exactly the least gain."""
    values = 0.001 + 0.002 * draw(np.random.default_rng(seed), (reps, processes))
    done = [confirm.confirm(v, min_gain=0.001) for v in values]
    return sum(d.confirmed for d in done), sum(d.p_value < ALPHA for d in done)


@pytest.mark.parametrize("noise", NOISE)
def test_it_confirms_no_more_than_alpha(noise: str) -> None:
    confirmed, by_t = rates(NOISE[noise], 15_000, 16, seed=21)
    # 15 000 cannot tell 0.0045 from 0.005; the long form below can
    assert rate_upper_limit(confirmed, 15_000) <= 1.4 * ALPHA
    assert confirmed <= by_t


@pytest.mark.soak
@pytest.mark.parametrize("processes", [8, 16])
@pytest.mark.parametrize("noise", NOISE)
def test_it_confirms_no_more_than_alpha_in_many(noise: str, processes: int) -> None:
    reps = 400_000
    confirmed, by_t = rates(NOISE[noise], reps, processes, seed=22)
    limit = rate_upper_limit(confirmed, reps)
    print(f"{noise} P={processes}: {confirmed / reps:.5f} ≤ {limit:.5f}, t {by_t / reps:.5f}")
    assert limit <= ALPHA


def test_the_lower_bound_covers() -> None:
    values = np.random.default_rng(23).normal(0.003, 0.002, (10_000, 12))
    missed = sum(confirm.confirm(v, min_gain=0.0, alpha=0.05).lower > 0.003 for v in values)
    assert missed / 10_000 == pytest.approx(0.05, abs=0.007)


def test_p_values_of_no_change_are_uniform() -> None:
    values = np.random.default_rng(24).normal(0.001, 0.002, (5000, 16))
    done = [confirm.confirm(v, min_gain=0.001) for v in values]
    assert stats.kstest([d.p_value for d in done], "uniform").pvalue > 0.01
    assert stats.kstest([d.sign_flip_p for d in done], "uniform").pvalue > 0.01
