# SPDX-License-Identifier: MIT
"""The job that travels from judge to worker as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one worker does. Paths are strings, configurations are dicts: it travels as JSON."""

    problem: str
    root: str
    device: str
    threads: int
    seed: str  # 64 hex digits; contents of inputs and orders derive from it
    cache: str
    arms: tuple[Mapping[str, Any], ...]
    checks: tuple[Mapping[str, Any], ...] = ()  # {"configuration": …, "seed": …}
    throughput: tuple[Mapping[str, Any], ...] = ()
    blocks: int = 0
    timeout_s: float = 20.0
    regime: str = "refreshed"
    shuffle: bool = False  # load the arms and stage the configurations in an order drawn here
    judge: int = 0  # process whose descendants are no strangers on the device
    replicate: int = 0  # number of this process in its run
