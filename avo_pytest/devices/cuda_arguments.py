# SPDX-License-Identifier: MIT
"""Kernel arguments as bytes; needs no driver."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TypeVar

from avo_pytest.plan import Argument

_T = TypeVar("_T")
_FORMATS = {"i32": "<i", "u32": "<I", "i64": "<q", "f32": "<f"}


def fastdiv(divisor: int) -> tuple[int, int, int]:
    """(divisor, multiplier, shift) for exact division of any u32 n by a u32 divisor >= 1:

        n / divisor == (uint32_t)(((uint64_t)__umulhi(n, multiplier) + n) >> shift)

    shift = ceil(log2(divisor)), multiplier = floor(2^32 (2^shift - divisor) / divisor) + 1
    (Granlund and Montgomery 1994, round-up method). For n < 2^31 the sum fits 32 bits, so that
    `(__umulhi(n, multiplier) + n) >> shift` is enough.
    """
    if not 1 <= divisor < 1 << 32:
        raise ValueError(f"fastdiv of {divisor}: the divisor is between 1 and 2^32 - 1")
    shift = (divisor - 1).bit_length()
    return divisor, (((1 << shift) - divisor) << 32) // divisor + 1, shift


def pack(argument: Argument, addresses: Mapping[str, int], maps: Mapping[str, bytes]) -> bytes:
    """The bytes of one argument. Raises ValueError naming what does not fit."""
    if argument.kind in ("tensor", "workspace"):
        return struct.pack("<Q", _named(argument, addresses))
    if argument.kind == "tensor_map":
        return _named(argument, maps)
    if argument.kind == "fastdiv":
        return struct.pack("<III", *fastdiv(int(argument.value)))
    if argument.kind == "scalar" and argument.type in _FORMATS:
        try:
            return struct.pack(_FORMATS[argument.type], argument.value)
        except struct.error as error:
            raise ValueError(f"{argument.value} is no {argument.type}: {error}") from error
    raise ValueError(f"a CUDA kernel takes no {argument.kind} argument")


def _named(argument: Argument, values: Mapping[str, _T]) -> _T:
    if argument.name not in values:
        raise ValueError(f"there is no {argument.kind.replace('_', ' ')} {argument.name!r}")
    return values[argument.name]
