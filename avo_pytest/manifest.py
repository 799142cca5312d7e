# SPDX-License-Identifier: MIT
"""`kernel.toml` → Manifest: read, checked against the JSON Schema, then against the problem.

The language is described in `schemas/kernel.schema.json`. What needs numbers (sizes, limits of the
device) is checked for each configuration by `resolution.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from avo_pytest import manifest_rules, manifest_schema
from avo_pytest.evaluation import variant_of
from avo_pytest.problem import Problem
from avo_pytest.specification import (
    ArgumentSpec,
    Constant,
    DerivedSpec,
    LaunchSpec,
    Manifest,
    ManifestError,
    TensorMapSpec,
    TypedArgument,
    Variant,
    WorkspaceSpec,
)

__all__ = ["Manifest", "ManifestError", "load", "variant_of"]


def load(path: Path, problem: Problem) -> Manifest:
    """Read and check a manifest. Raises ManifestError: file, key, value, and what is allowed."""
    raw = manifest_schema.read(path)
    compile_ = raw["compile"]
    manifest = Manifest(
        path=path,
        kernel=problem.name,
        target=raw["target"],
        source=compile_["source"],
        flags=tuple(compile_.get("flags", ())),
        specialise=_specialise(compile_.get("specialise", [])),
        constants={name: _constant(c) for name, c in raw.get("constants", {}).items()},
        variants=_variants(raw),
    )
    manifest_rules.check(manifest, problem)
    return manifest


def _specialise(raw: list[str] | dict[str, list[int]]) -> dict[str, tuple[int, ...] | None]:
    if isinstance(raw, list):
        return dict.fromkeys(raw)
    return {symbol: tuple(values) for symbol, values in raw.items()}


def _constant(raw: int | Mapping[str, int]) -> Constant:
    if isinstance(raw, int):
        return Constant(raw, raw, raw, 1)
    value = raw["value"]
    return Constant(value, raw.get("min", value), raw.get("max", value), raw.get("step", 1))


def _variants(raw: Mapping[str, Any]) -> tuple[Variant, ...]:
    if "variant" not in raw:
        return (_variant("", {"name": "default"}, raw),)
    return tuple(_variant(f"variant[{i}].", v, raw) for i, v in enumerate(raw["variant"]))


def _variant(prefix: str, own: Mapping[str, Any], common: Mapping[str, Any]) -> Variant:
    """One variant, merged: its tables go over the common ones, its launches replace all."""

    def merged(table: str, make: Any) -> dict[str, Any]:
        entries = {name: make(f"{table}.{name}", e) for name, e in common.get(table, {}).items()}
        for name, entry in own.get(table, {}).items() if prefix else ():
            entries[name] = make(f"{prefix}{table}.{name}", entry)
        return entries

    where, source = (prefix, own) if "launch" in own else ("", common)
    values = {
        n: c["value"] if isinstance(c, dict) else c for n, c in common.get("constants", {}).items()
    }
    return Variant(
        key=prefix.removesuffix("."),
        name=own["name"],
        when=own.get("when"),
        constants=values | own.get("constants", {}),
        derived=merged("derived", DerivedSpec),
        workspaces=merged("workspace", _workspace),
        tensor_maps=merged("tensor_map", _tensor_map),
        launches=tuple(
            _launch(f"{where}launch[{i}]", entry)
            for i, entry in enumerate(source.get("launch", ()))
        ),
    )


def _workspace(key: str, raw: Mapping[str, Any]) -> WorkspaceSpec:
    return WorkspaceSpec(key, raw["kind"], raw["bytes"])


def _tensor_map(key: str, raw: Mapping[str, Any]) -> TensorMapSpec:
    return TensorMapSpec(
        key=key,
        tensor=raw.get("tensor"),
        workspace=raw.get("workspace"),
        dtype=raw.get("dtype"),
        offset=raw.get("offset", 0),
        dims=tuple(raw["dims"]),
        strides=_optional(raw, "strides"),
        box=tuple(raw["box"]),
        element_strides=_optional(raw, "element_strides"),
        swizzle=raw.get("swizzle", 0),
        l2_promotion=raw.get("l2_promotion", 0),
        oob_fill=raw.get("oob_fill", "zero"),
    )


def _launch(key: str, raw: Mapping[str, Any]) -> LaunchSpec:
    return LaunchSpec(
        key=key,
        function=raw["function"],
        phase=raw.get("phase", "run"),
        when=raw.get("when"),
        grid=tuple(raw.get("grid", ())),
        block=tuple(raw.get("block", ())),
        cluster=_optional(raw, "cluster"),
        shared=raw.get("shared", 0),
        cooperative=raw.get("cooperative", False),
        programmatic=raw.get("programmatic", False),
        carveout=raw.get("carveout"),
        arguments=tuple(
            _argument(f"{key}.arguments[{i}]", entry) for i, entry in enumerate(raw["arguments"])
        ),
    )


def _argument(key: str, raw: str | Mapping[str, Any]) -> ArgumentSpec:
    if isinstance(raw, str):
        return ArgumentSpec(key, None, raw)
    ((type_, value),) = raw.items()
    return ArgumentSpec(key, cast(TypedArgument, type_), value)


def _optional(raw: Mapping[str, Any], name: str) -> tuple[Any, ...] | None:
    return tuple(raw[name]) if name in raw else None
