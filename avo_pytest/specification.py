# SPDX-License-Identifier: MIT
"""What a `kernel.toml` says, before any configuration: frozen values. `key` is where it was said.

`Integer` is a plain integer or the text of an expression (see expressions.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Integer = int | str
Target = Literal["cpu", "sm80", "sm90", "sm100"]
TypedArgument = Literal["i32", "u32", "i64", "f32", "fastdiv"]


class ManifestError(ValueError):
    """A `kernel.toml` that cannot be used: file, key, what is wrong and what is allowed."""

    def __init__(self, file: Path, key: str, reason: str) -> None:
        super().__init__(f"{file}: {key}: {reason}" if key else f"{file}: {reason}")
        self.file, self.key, self.reason = file, key, reason


@dataclass(frozen=True, slots=True)
class Constant:
    """A tunable integer; `sweep` searches minimum…maximum by step."""

    value: int
    minimum: int
    maximum: int
    step: int

    def allows(self, value: int) -> bool:
        in_range = self.minimum <= value <= self.maximum
        return in_range and (value - self.minimum) % self.step == 0

    def __str__(self) -> str:
        if self.minimum == self.maximum:
            return f"{self.value} only (no range is declared)"
        return f"{self.minimum} to {self.maximum} in steps of {self.step}"


@dataclass(frozen=True, slots=True)
class DerivedSpec:
    """A named integer; it may use the names above it."""

    key: str
    expression: Integer


@dataclass(frozen=True, slots=True)
class WorkspaceSpec:
    """See plan.Workspace."""

    key: str
    kind: Literal["scratch", "zeroed", "restored"]
    bytes: Integer


@dataclass(frozen=True, slots=True)
class TensorMapSpec:
    """See plan.TensorMap. Over a tensor, or over a workspace with a dtype. All in elements."""

    key: str
    tensor: str | None
    workspace: str | None
    dtype: str | None
    offset: Integer
    dims: tuple[Integer, ...]
    strides: tuple[Integer, ...] | None
    box: tuple[Integer, ...]
    element_strides: tuple[Integer, ...] | None
    swizzle: Literal[0, 32, 64, 128]
    l2_promotion: Literal[0, 64, 128, 256]
    oob_fill: Literal["zero", "nan"]


@dataclass(frozen=True, slots=True)
class ArgumentSpec:
    """A bare name (`type` None), or a typed value: an expression, for f32 a scalar or a number."""

    key: str
    type: TypedArgument | None
    value: int | float | str


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """See plan.Launch. A launch whose `when` does not hold is left out."""

    key: str
    function: str
    phase: Literal["run", "setup"]
    when: Integer | None
    grid: tuple[Integer, ...]
    block: tuple[Integer, ...]
    cluster: tuple[Integer, ...] | None
    shared: Integer
    cooperative: bool
    programmatic: bool
    carveout: int | None
    arguments: tuple[ArgumentSpec, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to launch, complete: what the manifest says for all, with this variant's changes."""

    key: str
    name: str
    when: Integer | None
    constants: Mapping[str, int]
    derived: Mapping[str, DerivedSpec]
    workspaces: Mapping[str, WorkspaceSpec]
    tensor_maps: Mapping[str, TensorMapSpec]
    launches: tuple[LaunchSpec, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked `kernel.toml`. `specialise`: symbol → values that get a macro (None: every one)."""

    path: Path
    kernel: str
    target: Target
    source: str
    flags: tuple[str, ...]
    specialise: Mapping[str, tuple[int, ...] | None]
    constants: Mapping[str, Constant]
    variants: tuple[Variant, ...]

    def error(self, key: str, reason: str) -> ManifestError:
        """A ManifestError about this file."""
        return ManifestError(self.path, key, reason)


def did_you_mean(wrong: str, allowed: Iterable[str]) -> str:
    """'; did you mean …?' with the nearest allowed word, or an empty string."""
    near = difflib.get_close_matches(wrong, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
