# SPDX-License-Identifier: MIT
"""Fingerprints of an output's rows: the definition that devices implement, in numpy.

Secret signs are drawn after a launch, so what was written could not be chosen to suit them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avo_pytest.inputs import GOLDEN, from_bf16, mix

Rows = NDArray[np.float64]

_SIGNS_AT_ONCE = 1 << 13


def fingerprint(bits: NDArray[np.uint16], secret: int) -> NDArray[np.float32]:
    """Of each BF16 row: two projections on secret signs, and its squared norm. Sums are rounded
    once; a device sums in float32 and in its own order."""
    values = from_bf16(bits).astype(np.float64)
    with np.errstate(all="ignore"):
        parts = [projections(values, np.arange(len(values)), secret), (values**2).sum(1)[:, None]]
        return np.concatenate(parts, axis=1).astype(np.float32)


def projections(values: Rows, rows: NDArray[np.int64], secret: int) -> Rows:
    """[n, 2]: sums of each row's values with the signs that `secret` gives to that row number."""
    result = np.empty((len(values), 2))
    for start in range(0, len(values), _SIGNS_AT_ONCE):
        chunk = slice(start, start + _SIGNS_AT_ONCE)
        signs = _signs(rows[chunk], values.shape[1], secret)
        result[chunk] = np.einsum("npc,nc->np", signs, values[chunk])
    return result


def _signs(rows: NDArray[np.int64], width: int, secret: int) -> NDArray[np.int8]:
    """[n, 2, width] of ±1. Bit c % 64 of counter word (2·row + p)·⌈width/64⌉ + c // 64."""
    words_per_sign = -(-width // 64)
    row_words = 2 * words_per_sign
    steps = np.arange(1, row_words + 1, dtype=np.uint64)
    steps = steps + rows.astype(np.uint64)[:, None] * np.uint64(row_words)
    octets = mix(steps * np.uint64(GOLDEN) + np.uint64(secret)).astype("<u8").view(np.uint8)
    bits = np.unpackbits(octets, axis=1, bitorder="little").reshape(len(rows), 2, -1)
    signs: NDArray[np.int8] = 1 - 2 * bits[:, :, :width].astype(np.int8)
    return signs
