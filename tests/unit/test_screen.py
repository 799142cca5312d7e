# SPDX-License-Identifier: MIT
"""The always-valid screen: its formula, its bounds, and its error rate under ugly noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import integrate, stats

from avo_pytest import screen
from avo_pytest.intervals import rate_upper_limit

SD = 0.004
RHO = screen.scale(SD)
ALPHA = 0.05
BLOCKS = arrays.arrays(np.float64, st.integers(1, 40), elements=st.floats(-0.1, 0.1))
Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def drift(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """A device that drifts inside and between blocks; only the order of the arms is random."""
    slope = np.cumsum(generator.normal(0.2, 1, shape), axis=1)
    return generator.choice([-1, 1], shape) * slope + generator.normal(0, 0.3, shape)


def steps(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Bimodal: now and then a block falls into the other mode by ten sd."""
    jumps = 10 * (generator.random(shape) < 0.1)
    return generator.choice([-1, 1], shape) * jumps + generator.normal(0, 1, shape)


NOISE: dict[str, Draw] = {
    "normal": lambda g, shape: g.normal(0, 1, shape),
    "t2": lambda g, shape: g.standard_t(2, shape),
    # clipped symmetrically at what a log ratio can be
    "cauchy": lambda g, shape: np.clip(g.standard_cauchy(shape), -1e5, 1e5),
    "drift": drift,
    "steps": steps,
}


def test_the_closed_form_is_the_mixture_integral() -> None:
    d = np.array([0.004, -0.001, 0.006, 0.002, 0.003])
    s, v = np.sum(d - 0.001), np.sum((d - 0.001) ** 2)
    mixed, _ = integrate.quad(
        lambda x: math.exp(x * s - x * x * v / 2) * 2 * stats.norm.pdf(x, 0, RHO), 0, 20 * RHO
    )
    assert screen.log_evidence(d, 0.001, RHO) == pytest.approx(math.log(mixed), rel=1e-8)


@pytest.mark.parametrize(
    ("value", "blocks", "rho", "expected"),
    [
        (0.1, 30, 1e6, 2.479623003104657),
        (-0.1, 30, 1e6, -15.170842313930192),
        (-4.0, 9, 10.0, -6.2020760164589191),
    ],
)
def test_the_page_formula_in_many_digits(
    value: float, blocks: int, rho: float, expected: float
) -> None:
    """Expected: the product as it stands on the page, in 400 digits (mpmath)."""
    evidence = screen.log_evidence(np.full(blocks, value), 0.0, rho)
    assert evidence == pytest.approx(expected, rel=1e-12)


def test_large_arguments_neither_overflow_nor_promote() -> None:
    with np.errstate(all="raise"):
        assert screen.log_evidence(np.full(5000, 0.5), 0.0, 1e9) > 2000
        assert screen.log_evidence(np.full(5000, -0.5), 0.0, 1e9) < -20
        assert math.isfinite(screen.log_evidence(np.full(5000, -1500.0), 0.0, 1e12))


@given(BLOCKS, st.floats(-0.1, 0.1))
def test_the_path_ends_at_the_evidence_of_all_blocks(d: NDArray[np.float64], theta: float) -> None:
    path = screen.log_evidence_path(d, theta, RHO)
    for n in range(1, len(d) + 1):
        assert path[n - 1] == pytest.approx(screen.log_evidence(d[:n], theta, RHO), abs=1e-9)


@given(BLOCKS, st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))
def test_the_evidence_moves_with_the_data(
    d: NDArray[np.float64], theta: float, shift: float
) -> None:
    moved = screen.log_evidence(d + shift, theta + shift, RHO)
    assert moved == pytest.approx(screen.log_evidence(d, theta, RHO), abs=1e-8)


@given(BLOCKS)
def test_swapping_the_arms_turns_the_bounds_around(d: NDArray[np.float64]) -> None:
    one = screen.screen(d, rho=RHO, min_gain=0.001)
    other = screen.screen(-d, rho=RHO, min_gain=0.001)
    assert (one.lower, one.upper) == pytest.approx((-other.upper, -other.lower))
    assert screen.half_width(d, ALPHA, RHO) == pytest.approx(screen.half_width(-d, ALPHA, RHO))


@given(BLOCKS)
def test_evidence_falls_with_theta_from_the_bound_on(d: NDArray[np.float64]) -> None:
    half = screen.half_width(d, ALPHA, RHO)
    width = half if math.isfinite(half) else 0.0
    thetas = np.linspace(np.mean(d) - width, np.mean(d) + 0.2, 50)
    evidence = [screen.log_evidence(d, t, RHO) for t in thetas]
    assert np.all(np.diff(evidence) <= 1e-8)


def test_evidence_is_not_monotone_far_below_the_data() -> None:
    d = np.array([0.003, 0.002, 0.004, 0.003, 0.0025, 0.0035, 0.003, 0.0028, 0.0031])
    near, far = screen.log_evidence(d, -0.02, RHO), screen.log_evidence(d, -200.0, RHO)
    assert near > math.log(20) > far


@given(BLOCKS, st.sampled_from([0.05, 0.005]))
def test_the_bound_is_the_first_crossing_below_the_mean(
    d: NDArray[np.float64], alpha: float
) -> None:
    half, needed = screen.half_width(d, alpha, RHO), math.log(1 / alpha)
    mean = float(np.mean(d))
    reach = half if math.isfinite(half) else 1e3
    grid = mean - reach * np.linspace(0, 1, 200)[:-1]
    assert max(screen.log_evidence(d, t, RHO) for t in grid) <= needed + 1e-6
    if math.isfinite(half):
        assert screen.log_evidence(d, mean - half, RHO) == pytest.approx(needed, abs=1e-5)


@given(st.floats(-3, 3), st.floats(0, 10), st.floats(0.01, 5))
def test_a_centre_below_theta_only_lowers_the_mean_of_a_factor(
    log_z: float, centre: float, lam: float
) -> None:
    """The one-sided claim: f(μ+z) + f(μ−z) ≤ 2 for f(x) = exp(λx − λ²x²/2) and μ ≤ 0."""
    x = np.array([-centre + 10**log_z, -centre - 10**log_z])
    assert np.sum(np.exp(lam * x - (lam * x) ** 2 / 2)) <= 2 + 1e-12


def test_the_floors_of_the_page() -> None:
    assert screen.minimum_blocks(0.05) == 6
    assert screen.minimum_blocks(0.001) == 14
    assert screen.scale(0.002) == pytest.approx(100)


def test_no_decision_before_the_floor() -> None:
    for gain in (0.05, -0.05):
        early = screen.screen(np.full(5, gain), rho=RHO, min_gain=0.001)
        assert early.decision == "continue"


def test_the_three_decisions() -> None:
    noise = np.random.default_rng(1).normal(0, SD, 30)
    noise -= noise.mean()
    decide = {g: screen.screen(noise + g, rho=RHO, min_gain=0.001) for g in (0.02, 0.0018, -0.02)}
    assert decide[0.02].decision == "promising" and decide[0.02].lower > 0
    assert decide[0.0018].decision == "continue"
    assert decide[-0.02].decision == "futile" and decide[-0.02].upper < 0.001
    assert decide[0.02].blocks == 30 and decide[0.02].mean == pytest.approx(0.02)


def test_a_gain_below_the_least_is_futile_however_certain() -> None:
    d = np.random.default_rng(1).normal(0.0005, 0.00002, 40)
    seen = screen.screen(d, rho=screen.scale(0.00002), min_gain=0.001)
    assert seen.log_evidence > math.log(20) and seen.lower > 0
    assert seen.decision == "futile"


@given(BLOCKS.filter(lambda d: len(d) >= 6), st.floats(0, 0.01))
def test_promising_implies_a_lower_bound_above_the_threshold(
    d: NDArray[np.float64], min_gain: float
) -> None:
    seen = screen.screen(d, rho=RHO, min_gain=min_gain)
    if seen.decision == "promising":
        assert seen.lower >= 0 and seen.upper > min_gain


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    d = np.full(20, 0.02)
    spoiled = np.append(d, bad)
    for function in (
        lambda: screen.screen(spoiled, rho=RHO, min_gain=0.0),
        lambda: screen.screen(d, rho=bad, min_gain=0.0),
        lambda: screen.screen(d, rho=RHO, min_gain=bad),
        lambda: screen.screen(d, rho=RHO, min_gain=0.0, threshold=bad),
        lambda: screen.screen(d, rho=RHO, min_gain=0.0, alpha=bad),
        lambda: screen.half_width(spoiled, ALPHA, RHO),
        lambda: screen.log_evidence(spoiled, 0.0, RHO),
        lambda: screen.scale(bad),
    ):
        with pytest.raises(ValueError):
            function()
    with pytest.raises(ValueError):
        screen.screen(np.array([]), rho=RHO, min_gain=0.0)
    with pytest.raises(ValueError):
        screen.screen(np.zeros((3, 3)), rho=RHO, min_gain=0.0)


def promotions(draw: Draw, reps: int, blocks: int, misjudged: float, seed: int) -> int:
    """How many of `reps` no-change candidates ever look promising, watched at every block."""
    generator = np.random.default_rng(seed)
    d = SD * draw(generator, (reps, blocks))
    path = screen.log_evidence_path(d, 0.0, RHO * misjudged)
    path = path[:, screen.minimum_blocks(ALPHA) - 1 :]
    return int(np.sum(np.max(path, axis=1) >= math.log(1 / ALPHA)))


@pytest.mark.parametrize("misjudged", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("noise", NOISE)
def test_watched_at_every_block_it_keeps_its_rate(noise: str, misjudged: float) -> None:
    count = promotions(NOISE[noise], 2000, 200, misjudged, seed=11)
    assert rate_upper_limit(count, 2000, 0.01) <= ALPHA


@pytest.mark.soak
@pytest.mark.parametrize("noise", NOISE)
def test_watched_for_long_it_keeps_its_rate(noise: str) -> None:
    count = sum(promotions(NOISE[noise], 2000, 2000, 1.0, seed) for seed in range(25))
    print(f"{noise}: {count} of 50000, upper limit {rate_upper_limit(count, 50_000, 0.01):.4f}")
    assert rate_upper_limit(count, 50_000, 0.01) <= ALPHA


@pytest.mark.parametrize("noise", ["normal", "t2", "cauchy"])
def test_the_displayed_bounds_cover_at_every_block(noise: str) -> None:
    """measuring.md §2.4 says ≥ 99.5 % at nominal 95 %."""
    generator, missed = np.random.default_rng(5), 0
    for d in SD * NOISE[noise](generator, (200, 60)):
        halves = [screen.half_width(d[:n], ALPHA, RHO) for n in range(1, 61)]
        means = np.cumsum(d) / np.arange(1, 61)
        missed += bool(np.any(means - halves > 0))
    assert rate_upper_limit(missed, 200, 0.01) <= ALPHA


@pytest.mark.parametrize(("effect", "median"), [(0.5, 40), (1, 18), (2, 11), (4, 9)])
def test_it_fires_as_soon_as_the_page_says(effect: float, median: int) -> None:
    d = np.random.default_rng(6).normal(effect * SD, SD, (2000, 200))
    path = screen.log_evidence_path(d, 0.0, RHO)
    fired = 1 + np.argmax(path >= math.log(20), axis=1)
    assert np.median(fired) == pytest.approx(median, abs=1)
