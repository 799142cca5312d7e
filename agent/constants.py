# SPDX-License-Identifier: MIT
"""The constants of a `kernel.toml` as a search space: what may vary, between which values.

Written back in place, so that comments and layout of the manifest stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

Values = Mapping[str, int]  # key of a dimension → value


class ConstantsError(ValueError):
    """A manifest without constants to vary; the sentence names the file."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One constant, or what a variant has instead of it: its key is then `variant.NAME`."""

    key: str
    low: int
    high: int
    step: int
    value: int

    def neighbours(self) -> list[int]:
        """The values one step away."""
        near = (self.value - self.step, self.value + self.step)
        return [value for value in near if self.low <= value <= self.high]

    @property
    def choices(self) -> int:
        """How many values there are."""
        return (self.high - self.low) // self.step + 1


def read(folder: Path) -> tuple[Dimension, ...]:
    """Every constant that has a range. Raises ConstantsError where there is none."""
    path = folder / "kernel.toml"
    table = _document(path)
    ranges: dict[str, Dimension] = {}
    for name, raw in table.get("constants", {}).items():
        if isinstance(raw, Mapping) and raw.get("min", 0) < raw.get("max", 0):
            low, high, step = (int(raw.get(k, 1)) for k in ("min", "max", "step"))
            ranges[name] = Dimension(name, low, high, step, int(raw["value"]))
    found = dict(ranges)
    for variant in table.get("variant", ()):
        for name, value in variant.get("constants", {}).items():
            if name in ranges:
                of, key = ranges[name], f"{variant['name']}.{name}"
                found[key] = Dimension(key, of.low, of.high, of.step, int(value))
    if not found:
        raise ConstantsError(
            f"{path}: no constant with a range to search: [constants] N = "
            "{ value = 4, min = 2, max = 8, step = 2 }"
        )
    return tuple(found.values())


def write(folder: Path, values: Values) -> None:
    """Put values into the manifest; all else stays as it is."""
    path = folder / "kernel.toml"
    table = _document(path)
    variants = {str(v["name"]): v for v in table.get("variant", ())}
    for key, value in values.items():
        variant, _, name = key.rpartition(".")
        if variant:
            variants[variant]["constants"][name] = int(value)
        else:
            table["constants"][name]["value"] = int(value)
    path.write_text(tomlkit.dumps(table), encoding="utf-8")


def told(before: Values, after: Values) -> str:
    """`KEY_BLOCK 512 -> 384, ...`: what differs."""
    changed = [f"{k} {before[k]} -> {v}" for k, v in sorted(after.items()) if before.get(k) != v]
    return ", ".join(changed)


def _document(path: Path) -> Any:
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConstantsError(f"{path}: {error}") from error
