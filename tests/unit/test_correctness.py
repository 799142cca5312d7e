# SPDX-License-Identifier: MIT
from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avo_pytest import agreement, correctness
from avo_pytest.correctness import FLOOR, Anchor
from avo_pytest.fingerprints import fingerprint, projections
from avo_pytest.inputs import GOLDEN, from_bf16, mix, to_bf16
from avo_pytest.problem import Configuration, Oracle, Problem, TensorSpec

SPEC = TensorSpec("o", (2, 8, 4, 128), "bf16", "output")
MASK = 2**64 - 1


def exact_rows(rows=64, seed=0, spread=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 128)) * np.exp(spread * rng.normal(size=(rows, 1)))


def noisy(exact, relative, seed=1):
    noise = np.random.default_rng(seed).normal(size=exact.shape)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    return exact + relative * norms * noise / math.sqrt(exact.shape[1])


def check(out, exact, honest=2e-3, **names):
    return correctness.check_rows(out, exact, noisy(exact, honest, seed=9), **names)


# --- rows against the oracle


def test_an_honest_row_error_passes_and_twice_it_does_not():
    exact = exact_rows()
    good, bad = check(noisy(exact, 2.5e-3), exact), check(noisy(exact, 5e-3), exact)
    assert good.ok and good.reason == "" and good.rows == 64
    assert not bad.ok and "RMS error 4.98e-03 over 64 rows" in bad.reason
    assert good.error_rms == pytest.approx(2.5e-3, rel=0.1)
    assert good.limit_rms == pytest.approx(1.125 * correctness.RMS_FACTOR * 2e-3, rel=0.05)


def test_one_wrong_row_is_named_with_its_worst_element():
    exact = exact_rows(3)
    out = noisy(exact, 2e-3)
    out[1, 45] = exact[1, 45] + 9
    verdict = check(out, exact, spec=SPEC, rows=np.array([0, 39, 63]))
    assert not verdict.ok
    assert "1 of 3 rows" in verdict.reason and "o[1, 1, 3, :]" in verdict.reason
    assert f"o[1, 1, 3, 45] is {out[1, 45]:.5g}, not {exact[1, 45]:.5g}" in verdict.reason
    assert "row 1 column 45" in check(out, exact).reason


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1e6), st.floats(1, 1e3), st.integers(1, 1 << 22))
def test_zeros_are_refused_whatever_the_anchor(rms, ratio, rows):
    assert max(correctness.limits(Anchor(rms, rms * ratio, rows))) < 1


def test_zeros_are_refused_where_the_output_is_tiny():
    exact = exact_rows() * 1e-30
    verdict = check(np.zeros_like(exact), exact)
    assert not verdict.ok and verdict.error_rms == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(st.integers(-100, 100))
def test_errors_do_not_depend_on_the_magnitude(exponent):
    exact = exact_rows(8)
    errors = correctness.row_errors(noisy(exact, 1e-2), exact)
    scaled = correctness.row_errors(noisy(exact, 1e-2) * 2.0**exponent, exact * 2.0**exponent)
    assert np.array_equal(errors, scaled)


def test_fewer_rows_have_a_wider_rms_limit_and_one_row_has_one_limit():
    by_rows = [correctness.limits(Anchor(2e-3, 2e-3, n)) for n in (1, 4, 16, 1 << 15)]
    rms, worst = zip(*by_rows, strict=True)
    assert sorted(rms, reverse=True) == list(rms) and len(set(worst)) == 1
    assert rms[0] == pytest.approx(worst[0])
    assert correctness.limits(Anchor(0, 0, 16)) == correctness.limits(Anchor(FLOOR, FLOOR, 16))


def test_zero_rows_must_be_zero():
    exact = exact_rows(4)
    exact[2] = 0
    out = exact.copy()
    assert correctness.check_rows(out, exact, exact).ok
    out[2, 5] = 1e-30
    verdict = correctness.check_rows(out, exact, exact)
    assert not verdict.ok and verdict.error_worst is None and "row 2" in verdict.reason


def test_values_without_relative_error_are_the_problems_fault():
    exact = exact_rows(4)
    honest = exact.copy()
    exact[2] = 0
    with pytest.raises(ValueError, match="row 2"):
        correctness.check_rows(exact, exact, honest)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_must_be_where_the_reference_has_them(odd):
    exact = exact_rows(4)
    out, honest = exact.copy(), exact.copy()
    out[3, 7] = odd
    verdict = correctness.check_rows(out, exact, honest, spec=SPEC)
    assert not verdict.ok and "o[0, 0, 3, 7]" in verdict.reason
    honest[3, 7] = odd
    assert not correctness.check_rows(exact, exact, honest).ok
    assert correctness.check_rows(out, exact, honest).ok
    out[0, 0] += 1
    assert not correctness.check_rows(out, exact, honest).ok
    out[3, 7] = -np.inf if odd == np.inf else np.inf
    assert not correctness.check_rows(out, exact, honest).ok


def test_another_shape_is_refused():
    exact = exact_rows(4)
    assert "shape (3, 128)" in correctness.check_rows(exact[:3], exact, exact).reason


# --- exact results


def test_exact_results_are_compared_bitwise_and_zero_has_no_sign():
    expected = to_bf16(exact_rows())
    expected[0, 0] = 0
    bits = expected.copy()
    bits[0, 0] = 0x8000
    assert correctness.check_exact(bits, expected).ok
    bits[9, 3] ^= 1
    bits[40, 100] = 0x7FC0
    verdict = correctness.check_exact(bits, expected, spec=SPEC)
    assert not verdict.ok and "2 of 8192 elements in 2 of 64 rows" in verdict.reason
    assert "o[0, 2, 1, 3] is " in verdict.reason and "o[1, 2, 0, 100] is nan" in verdict.reason


# --- sampling


@given(st.integers(0, MASK), st.integers(1, 1 << 21), st.integers(1, 64))
def test_sampled_rows_are_distinct_ascending_and_in_range(secret, rows, count):
    chosen = correctness.sample_rows(secret, rows, count)
    assert len(chosen) == min(rows, count) and (np.diff(chosen) > 0).all()
    assert chosen[0] >= 0 and chosen[-1] < rows
    assert np.array_equal(chosen, correctness.sample_rows(secret, rows, count))


def test_sampling_is_uniform_and_depends_on_the_secret():
    counts = np.bincount(
        np.concatenate([correctness.sample_rows(secret, 64, 16) for secret in range(2000)])
    )
    assert abs(counts - 500).max() < 5 * math.sqrt(500)


# --- fingerprints


@pytest.mark.parametrize("width", [1, 64, 65, 128, 130])
def test_fingerprints_follow_their_definition(width):
    rows, secret = 3, MASK - 5
    bits = to_bf16(np.random.default_rng(width).normal(size=(rows, width)))
    values, words = from_bf16(bits).astype(float), -(-width // 64)
    found = fingerprint(bits, secret)
    for row in range(rows):
        for p in range(2):
            total = 0.0
            for column in range(width):
                index = (row * 2 + p) * words + column // 64 + 1
                word = int(mix(np.array([(secret + index * GOLDEN) & MASK], dtype=np.uint64))[0])
                total += -values[row, column] if word >> column % 64 & 1 else values[row, column]
            assert found[row, p] == np.float32(total)
        assert found[row, 2] == np.float32((values[row] ** 2).sum())


def test_projections_of_some_rows_are_those_of_the_whole():
    values, rows = exact_rows(20000), np.array([3, 8191, 8192, 19999])
    assert np.array_equal(
        projections(values[rows], rows, 77), projections(values, np.arange(20000), 77)[rows]
    )
    assert not np.array_equal(
        projections(values[rows], rows, 78), projections(values[rows], rows, 77)
    )


def test_nan_and_infinity_stay_visible_in_a_fingerprint():
    values = exact_rows(3)
    values[0, 5], values[1, 7] = np.nan, -np.inf
    found = fingerprint(to_bf16(values), 1)
    assert not np.isfinite(found[:2]).any() and np.isfinite(found[2]).all()


# --- two arms

ANCHOR = Anchor(2.35e-3, 3.2e-3, 1 << 15)
HONEST = 2.35e-3


def arms(rows=4096, seed=0, spread=3.0, relative=HONEST):
    exact = exact_rows(rows, seed, spread)
    return noisy(exact, relative, seed + 1), noisy(exact, relative, seed + 2)


def agree(a, b, secret=5):
    one, other = (fingerprint_of(x, secret) for x in (a, b))
    verdict = agreement.compare(one, other, ANCHOR, SPEC if len(a) == 64 else None)
    assert verdict.ok or verdict.reason
    return verdict


def fingerprint_of(values, secret):
    columns = [projections(values, np.arange(len(values)), secret), (values**2).sum(1)[:, None]]
    with np.errstate(over="ignore"):
        return np.concatenate(columns, axis=1).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 2, 16, 300, 1 << 16])
def test_honest_arms_agree_however_norms_vary(rows):
    verdict = agree(*arms(rows, spread=5.0))
    assert verdict.ok and verdict.error_rms < 0.8 * verdict.limit_rms
    assert verdict.error_worst < 0.8 * verdict.limit_worst


def test_honest_arms_never_disagree_over_many_launches():
    a, b = arms(256)
    assert all(agree(a, b, secret).ok for secret in range(500))


@pytest.mark.parametrize("wrong", ["zero", "another row", "double", "2 % off", "NaN", "garbage"])
def test_one_wrong_row_of_many_is_found(wrong):
    a, b = arms(1 << 14)
    row = 12345
    b[row] = {
        "zero": 0 * b[row],
        "another row": b[row - 1],
        "double": 2 * b[row],
        "2 % off": 1.02 * b[row],
        "NaN": b[row] * np.nan,
        "garbage": 1e30 * b[row - 1],
    }[wrong]
    verdict = agree(a, b)
    assert not verdict.ok and "row 12345" in verdict.reason
    one, other = fingerprint_of(a, 5), fingerprint_of(b, 5)
    assert agreement.differing(one, other).tolist() == [row]
    assert agreement.differing(other, one, ANCHOR).tolist() == [row]


def test_a_row_of_the_same_norm_is_missed_less_than_once_in_500_launches():
    a, b = arms(64, spread=0.0)
    b[7] = b[8] * np.linalg.norm(b[7]) / np.linalg.norm(b[8])
    assert sum(agree(a, b, secret).ok for secret in range(2000)) < 4


def test_a_wrong_tile_is_found_even_when_it_is_off_by_a_tenth():
    a, b = arms(1 << 12, spread=0.0)
    b[512:576] = noisy(b[512:576], 0.1, seed=4)
    assert not any(agree(a, b, secret).ok for secret in range(200))


def test_a_small_error_in_all_rows_is_found():
    a, _ = arms(1 << 12)
    assert not agree(a, noisy(a, 6e-3)).ok


def test_one_wrong_element_is_always_found_and_two_equal_ones_three_times_in_four():
    a, b = arms(64, spread=0.0)
    size = np.linalg.norm(a[20])
    single, double = b.copy(), b.copy()
    single[20, 3] += size / 10
    double[20, [3, 77]] += np.array([-1, 1]) * size / 10  # hardly changes the norm
    assert not any(agree(a, single, secret).ok for secret in range(300))
    found = sum(not agree(a, double, secret).ok for secret in range(1000))
    assert abs(found - 750) < 5 * math.sqrt(1000 * 0.75 * 0.25)


def test_both_arms_zero_in_a_row_agree_but_not_both_nan_or_overflowing():
    a, b = arms(64)
    a[5] = b[5] = 0
    assert agree(a, b).ok
    for odd in (np.nan, np.inf, 1e30):
        a[5] = b[5] = odd
        assert not agree(a, b).ok


def test_the_oracle_says_which_arm_is_wrong():
    exact = exact_rows(4096)
    a, b = noisy(exact, HONEST, 1), noisy(exact, HONEST, 2)
    b[100:164] = b[200:264]
    one, other = fingerprint_of(a, 3), fingerprint_of(b, 3)
    rows = agreement.differing(one, other, ANCHOR)
    assert 60 <= rows.size <= 64 and set(rows) <= set(range(100, 164))
    honest = noisy(exact, HONEST, 8)[rows]
    acquitted = agreement.check_projection(one[rows], exact[rows], honest, rows, 3)
    convicted = agreement.check_projection(other[rows], exact[rows], honest, rows, 3)
    assert acquitted.ok and acquitted.rows == rows.size
    assert not convicted.ok and f"row {rows[0]}" in convicted.reason


# --- a whole output


def toy(exact=False, scale=1.0):
    """o = 3·x, for a problem whose FLOPs are `scale` times FLOPS_IN_FULL."""

    def oracle(c, contents, rows):
        values = 3 * from_bf16(contents["x"]).astype(np.float64)
        values = values if rows is None else values[rows]
        return Oracle(exact=values, honest=from_bf16(to_bf16(values)).astype(np.float64))

    output = TensorSpec("o", (512, 128), "bf16", "output")
    problem = Problem(
        name="toy",
        symbols=(),
        specialisable=(),
        tensors=lambda _: (TensorSpec("x", (512, 128), "bf16", "input"), output),
        scalars=lambda _: {},
        flops=lambda _: scale * correctness.FLOPS_IN_FULL,
        throughput={},
        correctness=lambda _: (),
        draw=lambda *_: c,
        inputs=lambda *_: {"x": to_bf16(np.round(8 * exact_rows(512)))},
        oracle=oracle,
    )
    c = Configuration("toy", {}, exact=exact)
    contents = problem.inputs(c, 0)
    return problem, c, contents, to_bf16(oracle(c, contents, None).exact)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("scale, rows", [(0.5, 512), (1.0, 512), (1.6, 320), (100, 256)])
def test_an_output_is_checked_in_full_or_on_as_many_rows_as_time_allows(exact, scale, rows):
    problem, c, contents, bits = toy(exact, scale)
    verdict = correctness.check_output(problem, c, contents, bits)
    assert verdict.ok and verdict.rows == rows
    wrong = correctness.check_output(problem, c, contents, bits ^ np.uint16(0x8000))
    assert not wrong.ok and "o[" in wrong.reason


def test_an_exact_output_forgives_nothing():
    for exact in (False, True):
        problem, c, contents, bits = toy(exact)
        bits[17, 100] ^= 1
        assert correctness.check_output(problem, c, contents, bits).ok is not exact


def test_an_output_of_another_shape_is_the_judges_fault():
    problem, c, contents, bits = toy()
    with pytest.raises(ValueError, match="toy"):
        correctness.check_output(problem, c, contents, bits.ravel())
