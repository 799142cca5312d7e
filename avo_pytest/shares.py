# SPDX-License-Identifier: MIT
"""Which replicates of a confirm are whose, where N machines share it: the K-th takes every N-th.

The places of different shares are disjoint by construction, whatever each machine plans.
"""

from __future__ import annotations

import re

MOST = 8  # the fewest processes that can promote at the usual level: each share has one


def parse(text: str) -> tuple[int, int]:
    """(K, N) of "K/N". Raises ValueError saying what is allowed."""
    found = re.fullmatch(r"([1-9])/([1-9])", text)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count <= MOST:
        raise ValueError(f"K/N with K from 1 to N and N at most {MOST}, such as 1/2")
    return number, count


def text(number: int, count: int) -> str:
    """As text; empty where one machine does all of it."""
    return f"{number}/{count}" if count > 1 else ""


def places(number: int, count: int, total: int) -> range:
    """The places, from 0, of share K of N among `total` replicates."""
    return range(number - 1, total, count)


def own(share: str, total: int) -> range:
    """The same of a share as text; empty text: all of them."""
    return places(*parse(share or "1/1"), total)
