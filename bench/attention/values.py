# SPDX-License-Identifier: MIT
"""What q, k and v hold in correctness configurations: random, awkward and exact values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avo_pytest.problem import Configuration

HEAD_DIM = 128
SCALE = 1 / math.sqrt(HEAD_DIM)

Float = NDArray[np.float32]
Values = tuple[Float, Float, Float]


def _normal(rng: np.random.Generator, c: Configuration) -> Values:
    q, k, v = (
        rng.standard_normal((c["batch"], c["seq"], c[heads], HEAD_DIM), dtype=np.float32)
        for heads in ("heads", "kv_heads", "kv_heads")
    )
    return q, k, v


def _multiplied(by_q: float, by_k: float, by_v: float) -> Callable[..., Values]:
    def draw_values(rng: np.random.Generator, c: Configuration) -> Values:
        q, k, v = _normal(rng, c)
        return q * np.float32(by_q), k * np.float32(by_k), v * np.float32(by_v)

    return draw_values


def _raised(rng: np.random.Generator, c: Configuration, nats: NDArray[Any]) -> Values:
    """Normal values plus a direction common to queries and keys: key j scores nats[j] more."""
    q, k, v = _normal(rng, c)
    shape = (c["batch"], 1, c["kv_heads"], HEAD_DIM)
    direction = rng.choice(np.array([-1, 1], dtype=np.float32), shape)
    k += (nats / (SCALE * HEAD_DIM)).astype(np.float32)[:, None, None] * direction
    return q + np.repeat(direction, c["group"], axis=2), k, v


def _growing(rng: np.random.Generator, c: Configuration) -> Values:
    return _raised(rng, c, np.linspace(0, 40, c["seq"]))


def _falling(rng: np.random.Generator, c: Configuration) -> Values:
    return _raised(rng, c, np.linspace(40, 0, c["seq"]))


def _sunken(rng: np.random.Generator, c: Configuration) -> Values:
    """Every score is far below 0: a maximum that begins at 0 leaves nothing to divide by."""
    return _raised(rng, c, np.full(c["seq"], -200.0))


def _anticorrelated(rng: np.random.Generator, c: Configuration) -> Values:
    """The less a key scores the larger its value: weights of 2^-20 matter as much as those of 1."""
    level = rng.uniform(0, 20, c["seq"])
    q, k, v = _raised(rng, c, level * math.log(2))
    return q, k, v * np.exp2(-level).astype(np.float32)[:, None, None]


def _suffix(rng: np.random.Generator, c: Configuration) -> Values:
    """An inconspicuous prefix; the last eighth of the sequence is four times as large."""
    q, k, v = _normal(rng, c)
    for tensor in (q, k, v):
        tensor[:, c["seq"] - -(-c["seq"] // 8) :] *= 4
    return q, k, v


def _heavy(rng: np.random.Generator, c: Configuration) -> Values:
    """Magnitudes that vary by orders from row to row."""
    q, k, v = (t * np.exp(rng.normal(0, 0.7, (*t.shape[:3], 1))) for t in _normal(rng, c))
    return q.astype(np.float32), k.astype(np.float32), (v * v * v).astype(np.float32)


# Exact values. Their result lies on the BF16 grid, and an honest kernel's FP32 result before the
# final rounding is off by far less than half a BF16 step (2^-9 relative), so it rounds to exactly
# that: for any tiling, order of keys, split of keys, exp2 approximation with exp2(0) = 1, division
# or reciprocal, P in FP32 or BF16. What is assumed, as of every one-pass kernel: the division comes
# after the product with V, and the maximum that is subtracted is a running one, so that P of a key
# that holds the row's maximum is 1 and BF16 does not round it. (A kernel that updates it lazily
# updates it here: maxima differ by 0 or by more than 100 in log2 units.) Gaps to other keys are
# above 200: their P is 0 or drowns. |score·log2e| stays below 4096, so that FP32 rounding of
# maximum·log2e moves P by less than 2^-12. No exact result is 0, where nothing would drown.
# torch's flash and cuDNN kernels and FlashAttention-3 pass all of them.


def _constant(rng: np.random.Generator, c: Configuration) -> Values:
    """All keys of a head alike, all values of a head alike: O = V, heads must not be mixed up."""
    q, k, v = _normal(rng, c)
    v[v == 0] = 1
    return q, np.repeat(k[:, :1], c["seq"], axis=1), np.repeat(v[:, :1], c["seq"], axis=1)


def _onehot(rng: np.random.Generator, c: Configuration) -> Values:
    """Each query picks one key out of all by its code; O is a row of V, whatever V holds.

    Codes are words of ±1 that overlap by at most 16 of 128 (_codes). A causal query also carries
    twice the code of the first key that it must not see, which would win if it were seen. Gap:
    at least (128 - 5·16)·64·SCALE_LOG2E = 391.
    """
    q, k, v = _normal(rng, c)
    v[v == 0] = 1
    seq, positions = c["seq"], np.arange(c["seq"])
    for batch in range(c["batch"]):
        for head in range(c["kv_heads"]):
            words = _codes(rng, seq)
            k[batch, :, head] = 64 * words
            for query_head in range(head * c["group"], (head + 1) * c["group"]):
                last = positions if c["causal"] else np.full(seq, seq - 1)
                q[batch, :, query_head] = words[rng.integers(0, last + 1)]
                if c["causal"]:
                    q[batch, :-1, query_head] += 2 * words[1:]
    return q, k, v


def _codes(rng: np.random.Generator, count: int) -> Float:
    """Different words (-1)^Tr(a·x³ + b·x), x in GF(2^7): any two overlap by at most 16 (Gold)."""
    x = list(range(HEAD_DIM))
    cubes = [_times(_times(y, y), y) for y in x]
    basis = [[_trace(_times(1 << bit, y)) for y in of] for of in (x, cubes) for bit in range(7)]
    chosen = rng.choice(HEAD_DIM**2, count, replace=False)
    bits = (chosen[:, None] >> np.arange(14)) & 1
    odd = (bits.astype(np.float32) @ np.array(basis, dtype=np.float32)) % 2
    word: Float = 1 - 2 * odd
    return word


def _times(a: int, b: int) -> int:
    """Product in GF(2^7), modulo x^7 + x + 1."""
    product = 0
    for bit in range(7):
        product ^= a if b >> bit & 1 else 0
        a = a << 1 ^ (0x83 if a & 0x40 else 0)
    return product


def _trace(a: int) -> int:
    """The sum of a, a^2, a^4 … a^64: 0 or 1."""
    total = 0
    for _ in range(7):
        total, a = total ^ a, _times(a, a)
    return total


def _ramp(rng: np.random.Generator, c: Configuration) -> Values:
    """Means of small integers: the first n of up to 96 live keys average to n + offset.

    Live keys score exactly 0 through cancellation over all 128 dimensions: their codes are Walsh
    words (columns shuffled) orthogonal to those of the queries, so one skipped slice of head_dim
    spoils it. Dead keys score -2048 (gap 261). Key 0 lives, so every causal row has a live key.
    """
    q, k, v = _normal(rng, c)
    seq, walsh = c["seq"], _walsh()
    for batch in range(c["batch"]):
        for head in range(c["kv_heads"]):
            words = walsh[:, rng.permutation(HEAD_DIM)]
            live = np.append(0, 1 + rng.permutation(seq - 1)[:95])
            live.sort()
            k[batch, :, head] = 2 * words[rng.integers(32, HEAD_DIM, seq)]
            k[batch, np.setdiff1d(np.arange(seq), live), head] -= 8 * words[0]
            odd = 2 * np.arange(1, live.size + 1)[:, None] - 1
            sign = rng.choice([-1.0, 1.0], HEAD_DIM)
            v[batch, live, head] = (odd + rng.integers(0, 33, HEAD_DIM)) * sign
            for query_head in range(head * c["group"], (head + 1) * c["group"]):
                own = words[rng.integers(1, 32, seq)]
                q[batch, :, query_head] = 2 * words[0] + own
    return q, k, v


def _walsh() -> Float:
    word = np.ones((1, 1), dtype=np.float32)
    for _ in range(7):
        word = np.block([[word, word], [word, -word]])
    return word


EXACT: Mapping[str, Callable[..., Values]] = {
    "constant": _constant,
    "onehot": _onehot,
    "ramp": _ramp,
}
VALUES: Mapping[str, Callable[..., Values]] = {
    "normal": _normal,
    "scaled": _multiplied(3, 3, 1),
    "peaked": _multiplied(8, 8, 1),
    "flat": _multiplied(2**-20, 1, 1),
    "huge": _multiplied(2**30, 2**-30, 2**100),
    "tiny": _multiplied(2**-60, 2**-60, 2**-100),
    "growing": _growing,
    "falling": _falling,
    "sunken": _sunken,
    "anticorrelated": _anticorrelated,
    "suffix": _suffix,
    "heavy": _heavy,
    **EXACT,
}
