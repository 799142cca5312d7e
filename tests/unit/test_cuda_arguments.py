# SPDX-License-Identifier: MIT
"""Kernel arguments as bytes, and exact division by a constant."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avo_pytest.devices.cuda_arguments import fastdiv, pack
from avo_pytest.plan import Argument

U32 = st.integers(0, 2**32 - 1)


def divide(n: int, divisor: int) -> int:
    """What a kernel computes."""
    _, multiplier, shift = fastdiv(divisor)
    return ((n * multiplier >> 32) + n) >> shift


def divisors() -> list[int]:
    drawn = random.Random(3).sample(range(1, 2**32), 50_000)
    near_powers = [2**k + d for k in range(33) for d in range(-3, 4)]
    return [d for d in [*range(1, 50_000), *drawn, *near_powers] if 1 <= d < 2**32]


def test_fastdiv_is_exact_for_every_numerator() -> None:
    """Granlund and Montgomery 1994, theorem 4.2: with M = 2^32 + multiplier it is sufficient that
    2^(32 + shift) <= M divisor <= 2^(32 + shift) + 2^shift."""
    for divisor in divisors():
        kept, multiplier, shift = fastdiv(divisor)
        assert kept == divisor and 0 < multiplier < 2**32 and shift <= 32
        product = (2**32 + multiplier) * divisor
        assert 1 << (32 + shift) <= product <= (1 << (32 + shift)) + (1 << shift)


@given(n=U32, divisor=st.integers(1, 2**32 - 1))
def test_fastdiv_divides(n: int, divisor: int) -> None:
    for one in (n, n // divisor * divisor, max(0, n // divisor * divisor - 1), 2**32 - 1):
        assert divide(one, divisor) == one // divisor
        if one < 2**31:  # then the kernel's sum fits 32 bits
            assert (one * fastdiv(divisor)[1] >> 32) + one < 2**32


@pytest.mark.parametrize("divisor", [0, -1, 2**32])
def test_fastdiv_refuses_what_is_no_u32_divisor(divisor: int) -> None:
    with pytest.raises(ValueError, match="fastdiv of"):
        fastdiv(divisor)


def test_arguments_are_packed_by_type() -> None:
    addresses, maps = {"q": 0x7F0000000400, "w": 1024}, {"k": bytes(range(128))}
    cases = [
        (Argument("tensor", "q"), struct.pack("<Q", 0x7F0000000400)),
        (Argument("workspace", "w"), struct.pack("<Q", 1024)),
        (Argument("tensor_map", "k"), bytes(range(128))),
        (Argument("scalar", "", "i32", -1), b"\xff" * 4),
        (Argument("scalar", "", "u32", 2**32 - 1), b"\xff" * 4),
        (Argument("scalar", "", "i64", -2), b"\xfe" + b"\xff" * 7),
        (Argument("scalar", "", "f32", 1), b"\x00\x00\x80\x3f"),
        (Argument("fastdiv", "", None, 8), struct.pack("<III", 8, 1, 3)),
    ]
    for argument, expected in cases:
        assert pack(argument, addresses, maps) == expected


@pytest.mark.parametrize(
    "argument,message",
    [
        (Argument("tensor", "z"), "there is no tensor 'z'"),
        (Argument("tensor_map", "z"), "there is no tensor map 'z'"),
        (Argument("scalar", "", "i32", 2**31), "2147483648 is no i32"),
        (Argument("scalar", "", "u32", -1), "-1 is no u32"),
        (Argument("scalar", "", "i32", 1.5), "1.5 is no i32"),
        (Argument("threads"), "no threads argument"),
        (Argument("scalar"), "no scalar argument"),
    ],
)
def test_what_does_not_fit_is_refused(argument: Argument, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(argument, {}, {})
