# SPDX-License-Identifier: MIT
"""What a kernel must compute: configurations, inputs, reference, FLOPs, baselines.

A problem lives in `bench/<kernel>/problem.py` under the name PROBLEM and is trusted. This module
holds its types only; it imports neither numpy nor torch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

BYTES_OF_DTYPE: Mapping[str, int] = MappingProxyType({"bf16": 2, "f16": 2, "f32": 4, "i32": 4})
DeviceKind = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One dense, row-major tensor. The last dimension of an output is its *row*."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: Literal["input", "output"]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * BYTES_OF_DTYPE[self.dtype]

    @property
    def rows(self) -> int:
        return self.elements // self.shape[-1]


@dataclass(frozen=True, slots=True)
class Configuration:
    """One test point. `symbols` are the integers a manifest's expressions may use.

    `values` names the distribution of the inputs, `exact` asks for a bitwise comparison, `group`
    is the scoreboard's geomean row (for attention the mask).
    """

    name: str
    symbols: Mapping[str, int] = field(hash=False)
    values: str = "normal"
    group: str = ""
    exact: bool = False

    def __getitem__(self, symbol: str) -> int:
        return self.symbols[symbol]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A fixed outside implementation to compare with.

    `absent()` returns None or the reason why it cannot run here. `prepare(configuration, tensors)`
    receives the inputs as torch tensors (name → tensor, on the device, in the kernel's layout) and
    returns `launch()`, whose result has the output's logical shape (strides are free). Everything
    that a user of that implementation would do once (dtype casts, views) belongs in `prepare`,
    everything per call in `launch`; a baseline in another dtype casts in `refresh` (untimed),
    which `prepare` may return as a second callable.
    """

    name: str
    dtype: str
    device: DeviceKind
    absent: Callable[[], str | None]
    prepare: Callable[[Configuration, Mapping[str, Any]], BaselineCalls]


@dataclass(frozen=True, slots=True)
class BaselineCalls:
    """`launch` is timed; `refresh` (optional, untimed) runs after the inputs were rewritten."""

    launch: Callable[[], Any]
    refresh: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Oracle:
    """Rows of the exact result and of an honest kernel's in its own precision; both float64."""

    exact: Any
    honest: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What the judge needs to know about a kernel. All callables are pure.

    tensors(c)            specs of inputs and the one output, in any order
    scalars(c)            named float arguments, e.g. {"scale": …}
    flops(c)              floating-point operations by the field's convention
    throughput            set name → configurations, per device kind
    correctness(kind)     fixed configurations, small and awkward
    draw(random, base)    a random correctness configuration; `base` may be a configuration whose
                          symbols it should resemble (to land inside a variant's guard)
    inputs(c, seed)       name → numpy array, BF16 as uint16 bit patterns: contents for correctness
    oracle(c, inputs, rows)  rows of the output's 2-d view [rows, width]: see Oracle. `inputs` maps
                          names to numpy (uint16 bits) or torch (bfloat16) arrays; `rows` is an
                          integer array, or None for all rows
    input_scale(c)        name → standard deviation of the normal contents of timed launches
    """

    name: str
    symbols: tuple[str, ...]
    specialisable: tuple[str, ...]
    tensors: Callable[[Configuration], tuple[TensorSpec, ...]]
    scalars: Callable[[Configuration], Mapping[str, float]]
    flops: Callable[[Configuration], float]
    throughput: Mapping[DeviceKind, Mapping[str, tuple[Configuration, ...]]]
    correctness: Callable[[DeviceKind], tuple[Configuration, ...]]
    draw: Callable[[random.Random, Configuration | None], Configuration]
    inputs: Callable[[Configuration, int], Mapping[str, Any]]
    oracle: Callable[[Configuration, Mapping[str, Any], Any], Oracle]
    baselines: tuple[Baseline, ...] = ()
    input_scale: Callable[[Configuration], Mapping[str, float]] = lambda _: {}

    def output(self, configuration: Configuration) -> TensorSpec:
        """The one output tensor of a configuration."""
        return next(spec for spec in self.tensors(configuration) if spec.role == "output")
