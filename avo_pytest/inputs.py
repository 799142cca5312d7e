# SPDX-License-Identifier: MIT
"""Fast counter-based contents of timed launches, and BF16 conversions: the definition, in numpy.

The devices' own generators are tested for bitwise equality with `fill`. Contents follow from a
secret seed through a one-way hash, so no launch's contents predict another's.
"""

from __future__ import annotations

import functools
import hashlib
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avo_pytest.problem import TensorSpec

GOLDEN = 0x9E3779B97F4A7C15
TABLE_SIZE = 4096
_WORDS_AT_ONCE = 1 << 20  # 8 MiB of counters: stays in a large cache, bounds the temporaries


def base(seed: bytes, key: int, name: str) -> int:
    """The 64-bit start of one tensor's counter stream for launch `key`."""
    digest = hashlib.blake2b(key.to_bytes(8, "little") + name.encode(), key=seed).digest()
    return int.from_bytes(digest[:8], "little")


def mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64, elementwise."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def counters(start: int, first: int, count: int) -> NDArray[np.uint64]:
    """mix(start + (i + 1)·GOLDEN mod 2^64) for i = first … first + count - 1."""
    steps = np.arange(first + 1, first + count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    return mix(steps + np.uint64(start))


def table(scale: float = 1.0) -> NDArray[np.uint16]:
    """BF16 patterns of the half-normal quantiles times `scale`, 4096 equally likely magnitudes."""
    quantile = NormalDist().inv_cdf
    chances = 0.5 + (np.arange(TABLE_SIZE) + 0.5) / (2 * TABLE_SIZE)
    return to_bf16(scale * np.array([quantile(chance) for chance in chances]))


def fill(spec: TensorSpec, seed: bytes, key: int, scale: float = 1.0) -> NDArray[np.uint16]:
    """Contents of a BF16 input at launch `key`: about N(0, scale²), as bit patterns.

    A 64-bit counter word gives four elements: 12 bits for the magnitude, the top bit for the sign.
    """
    if spec.dtype != "bf16":
        raise ValueError(f"tensor {spec.name}: fast inputs are bf16 only, not {spec.dtype}")
    magnitudes, start = _kept_table(scale), base(seed, key, spec.name)
    words = -(-spec.elements // 4)
    out = np.empty(4 * words, dtype=np.uint16)
    for first in range(0, words, _WORDS_AT_ONCE):
        count = min(_WORDS_AT_ONCE, words - first)
        # The low 16 bits are element 0 whatever this machine's byte order.
        lanes = counters(start, first, count).astype("<u8").view("<u2").astype(np.uint16)
        out[4 * first : 4 * (first + count)] = magnitudes[lanes & 0xFFF] | (lanes & 0x8000)
    return out[: spec.elements].reshape(spec.shape)


@functools.lru_cache(maxsize=8)
def _kept_table(scale: float) -> NDArray[np.uint16]:
    """`table`, which takes milliseconds, for those who fill at every launch."""
    return table(scale)


def poison(entropy: int) -> int:
    """One 16-bit lane of output poison: a BF16 NaN whose sign and payload come from `entropy`."""
    return 0x7F81 | (entropy & 0x807E)


def to_bf16(values: ArrayLike) -> NDArray[np.uint16]:
    """Round to nearest even BF16, once, from float32 or float64. NaN stays NaN, quiet."""
    given = np.asarray(values)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        single = np.ascontiguousarray(given, dtype=np.float32).reshape(given.shape)
    bits = single.view(np.uint32)
    if given.dtype == np.float64:
        bits = _odd(given, single)
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    quiet = ((bits >> 16) | 0x40).astype(np.uint16)
    return np.where(np.isnan(given), quiet, rounded)


def from_bf16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The float32 values of BF16 patterns (exact)."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _odd(given: NDArray[Any], single: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Float64 → float32 bits rounded to odd, so that the second rounding is as good as one."""
    bits = single.view(np.uint32)
    away = np.abs(single.astype(np.float64)) > np.abs(given)
    return np.where(single == given, bits, (bits - away) | 1).astype(np.uint32)
