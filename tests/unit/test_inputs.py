# SPDX-License-Identifier: MIT
from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from avo_pytest import inputs
from avo_pytest.problem import TensorSpec

SEED = bytes(range(32))
MASK = 2**64 - 1
finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


def spec(*shape, name="q", dtype="bf16"):
    return TensorSpec(name, shape, dtype, "input")


def scalar_mix(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def test_counters_are_splitmix64():
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert inputs.counters(0, 0, 3).tolist() == published


def test_counters_wrap_around():
    start = MASK - 1
    expected = [scalar_mix((start + (i + 1) * inputs.GOLDEN) & MASK) for i in range(5, 9)]
    assert inputs.counters(start, 5, 4).tolist() == expected


def test_base_is_a_keyed_hash_of_key_and_name():
    digest = hashlib.blake2b((7).to_bytes(8, "little") + b"q", key=SEED).digest()
    assert inputs.base(SEED, 7, "q") == int.from_bytes(digest[:8], "little")
    others = {inputs.base(SEED, 8, "q"), inputs.base(SEED, 7, "k"), inputs.base(SEED[::-1], 7, "q")}
    assert inputs.base(SEED, 7, "q") not in others and len(others) == 3


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 7, 3, 128)])
def test_fill_follows_its_definition_element_by_element(shape):
    magnitudes, start = inputs.table(0.5), inputs.base(SEED, 3, "v")
    expected = []
    for e in range(int(np.prod(shape))):
        word = scalar_mix((start + (e // 4 + 1) * inputs.GOLDEN) & MASK)
        h = word >> 16 * (e % 4) & 0xFFFF
        expected.append(int(magnitudes[h & 0xFFF]) | h & 0x8000)
    filled = inputs.fill(spec(*shape, name="v"), SEED, 3, 0.5)
    assert filled.dtype == np.uint16 and filled.shape == shape
    assert filled.ravel().tolist() == expected


def test_a_longer_tensor_starts_like_a_shorter_one():
    elements = 4 * inputs._WORDS_AT_ONCE + 6
    long, short = inputs.fill(spec(elements), SEED, 1), inputs.fill(spec(9), SEED, 1)
    assert np.array_equal(long[:9], short)
    tail = inputs.counters(inputs.base(SEED, 1, "q"), inputs._WORDS_AT_ONCE, 2)
    lanes = [int(tail[i // 4]) >> 16 * (i % 4) & 0xFFFF for i in range(6)]
    magnitudes = inputs.table()
    assert long[-6:].tolist() == [int(magnitudes[h & 0xFFF]) | h & 0x8000 for h in lanes]


def test_contents_are_normal():
    values = inputs.from_bf16(inputs.fill(spec(512, 128), SEED, 11, 2.0)).ravel() / 2
    assert abs(values.mean()) < 4 / 256 and abs(values.std() - 1) < 0.01
    edges = np.array([-2.0, -1.0, -0.3, 0.2, 0.7, 1.5]) + 0.0011  # between BF16 steps
    share = (values[:, None] < edges).mean(0)
    assert np.allclose(share, stats.norm.cdf(edges), atol=4 * 0.5 / 256)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / 256


def test_table_is_the_half_normal_quantiles():
    for scale in (1.0, 0.0884, 3.0):
        quantiles = scale * special.ndtri(0.5 + (np.arange(4096) + 0.5) / 8192)
        assert np.array_equal(inputs.table(scale), inputs.to_bf16(quantiles))
    values = inputs.from_bf16(inputs.table())
    assert (np.diff(values) >= 0).all() and 0 < values[0] < 2e-4 and 3.8 < values[-1] < 3.9


def test_fast_inputs_are_bf16_only():
    with pytest.raises(ValueError, match="tensor q.*f32"):
        inputs.fill(spec(4, dtype="f32"), SEED, 0)


def test_every_bf16_pattern_survives_the_round_trip():
    patterns = np.arange(1 << 16, dtype=np.uint16)
    values = inputs.from_bf16(patterns)
    back = inputs.to_bf16(values)
    nan = np.isnan(values)
    assert np.array_equal(back[~nan], patterns[~nan])
    assert np.isnan(inputs.from_bf16(back[nan])).all() and nan.sum() == 2 * 127


@settings(max_examples=300, deadline=None)
@given(finite)
def test_rounding_is_to_the_nearest_once(x):
    bits = int(inputs.to_bf16(np.array([x], dtype=np.float64))[0])
    magnitude = bits & 0x7FFF
    assert bits >> 15 == int(np.signbit(x))
    value = abs(float(inputs.from_bf16(np.array([bits], dtype=np.uint16))[0]))
    if magnitude == 0x7F80:
        assert abs(x) >= 2.0**128 * (1 - 2.0**-9)
        return
    below, above = (
        float(inputs.from_bf16(np.array([m], dtype=np.uint16))[0]) if m < 0x7F80 else 2.0**128
        for m in (max(magnitude - 1, 0), magnitude + 1)
    )
    distance = abs(abs(x) - value)
    assert distance <= min(abs(abs(x) - below), abs(abs(x) - above)) or magnitude == 0
    if distance and distance in (abs(abs(x) - below), abs(abs(x) - above)):
        assert magnitude % 2 == 0


@pytest.mark.parametrize(
    "value, bits",
    [
        (1 + 2.0**-8, 0x3F80),  # a tie, to even
        (1 + 3 * 2.0**-8, 0x3F82),
        (1 + 2.0**-8 + 2.0**-40, 0x3F81),  # a tie only after rounding to float32
        (1 + 3 * 2.0**-8 - 2.0**-40, 0x3F81),
        (-0.0, 0x8000),
        (1e39, 0x7F80),
        (-1e39, 0xFF80),
        (3.4e38, 0x7F80),
        (2.0**-133, 0x0001),
        (2.0**-134, 0x0000),
        (1e-60, 0x0000),
    ],
)
def test_rounding_at_the_edges(value, bits):
    assert int(inputs.to_bf16(np.float64(value))) == bits


def test_poison_is_always_nan_and_varies():
    lanes = np.array([inputs.poison(entropy) for entropy in range(1 << 16)], dtype=np.uint16)
    assert np.isnan(inputs.from_bf16(lanes)).all()
    assert len(set(lanes.tolist())) == 1 << 7
