# SPDX-License-Identifier: MIT
"""A resolved launch plan: the integers a manifest's expressions gave for one configuration.

`manifest.py` makes it, `build.py` hashes it, the devices execute it. Nothing here is executable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ScalarType = Literal["i32", "u32", "i64", "f32"]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What an expression may know about the device. Zero where a CPU has no such thing."""

    arch: str  # "sm_90", "sm_100", "x86_64", "aarch64"
    num_sms: int = 0
    l2_bytes: int = 0
    smem_optin: int = 0


@dataclass(frozen=True, slots=True)
class Argument:
    """One kernel argument. `name` is the tensor, workspace or map; scalars carry a value.

    `fastdiv` is a struct {u32 divisor, u32 multiplier, u32 shift} for exact u32 division by a
    constant; `value` is the divisor.
    """

    kind: Literal["tensor", "workspace", "tensor_map", "scalar", "fastdiv", "threads"]
    name: str = ""
    type: ScalarType | None = None
    value: int | float = 0


@dataclass(frozen=True, slots=True)
class Workspace:
    """Scratch memory. scratch: poisoned before each launch; zeroed: memset inside the timed span;
    restored: written by setup launches once, compared bitwise after each launch."""

    name: str
    kind: Literal["scratch", "zeroed", "restored"]
    bytes: int


@dataclass(frozen=True, slots=True)
class TensorMap:
    """A tiled TMA descriptor; innermost dimension first; strides from dimension 1 on."""

    name: str
    source: str
    dtype: str
    offset_bytes: int
    dims: tuple[int, ...]
    strides_bytes: tuple[int, ...]
    box: tuple[int, ...]
    element_strides: tuple[int, ...]
    swizzle: Literal[0, 32, 64, 128]
    interleave: Literal[0, 16, 32]
    l2_promotion: Literal[0, 64, 128, 256]
    oob_fill: Literal["zero", "nan"]


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel launch; grid counts CTAs."""

    function: str
    phase: Literal["run", "setup"]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    cluster: tuple[int, int, int] | None
    cooperative: bool
    programmatic: bool
    shared_bytes: int
    carveout_percent: int | None
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """Everything one configuration's launch needs. `code` is the key of the code object."""

    configuration: str
    variant: str
    code: str
    workspaces: tuple[Workspace, ...]
    tensor_maps: tuple[TensorMap, ...]
    launches: tuple[Launch, ...]
