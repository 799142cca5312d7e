# SPDX-License-Identifier: MIT
"""A manifest at one configuration: which variant is taken, and what its names are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from avo_pytest import expressions
from avo_pytest.plan import DeviceFacts, Launch
from avo_pytest.problem import Configuration, Problem, TensorSpec
from avo_pytest.specification import Integer, Manifest, ManifestError, Variant

# (kind, launch as far as it is known: its grid is (1, 1, 1)) → CTAs per SM, or clusters per device
OccupancyKind = Literal["max_active_blocks", "max_active_clusters"]
Occupancy = Callable[[OccupancyKind, Launch], int]


@dataclass(frozen=True, slots=True)
class Point:
    """One variant at one configuration: names have values."""

    manifest: Manifest
    variant: Variant
    configuration: Configuration
    facts: DeviceFacts
    names: Mapping[str, int]
    tensors: Mapping[str, TensorSpec]
    scalars: Mapping[str, float]
    occupancy: Occupancy | None

    def error(self, key: str, reason: str) -> ManifestError:
        return self.manifest.error(key, f"{reason} (configuration {self.configuration.name})")

    def integer(self, key: str, expression: Integer, within: range) -> int:
        """The expression's value. Raises ManifestError if there is none or it is out of range."""
        try:
            value = expressions.evaluate(expression, self.names)
        except expressions.ExpressionError as error:
            raise self.error(key, str(error)) from None
        if value not in within:
            said = f"{expression!r} = {value}" if isinstance(expression, str) else str(value)
            raise self.error(key, f"{said}: must be {within.start} to {within.stop - 1}")
        return value

    def holds(self, key: str, condition: Integer | None) -> bool:
        """Whether a `when` is absent or true."""
        try:
            return condition is None or expressions.holds(condition, self.names)
        except expressions.ExpressionError as error:
            raise self.error(key, str(error)) from None


def variant_of(
    manifest: Manifest, problem: Problem, configuration: Configuration, facts: DeviceFacts
) -> str:
    """The name of the variant that this configuration takes on this device."""
    return _chosen(manifest, problem, configuration, facts, None).variant.name


def macros(
    manifest: Manifest, problem: Problem, configuration: Configuration, facts: DeviceFacts
) -> dict[str, int]:
    """The macros this configuration's code is compiled with, in order of their names."""
    variant = _chosen(manifest, problem, configuration, facts, None).variant
    found = dict(variant.constants)
    for symbol, listed in manifest.specialise.items():
        if listed is None or configuration[symbol] in listed:
            found[symbol.upper()] = configuration[symbol]
    return dict(sorted(found.items()))


def evaluate(
    manifest: Manifest,
    problem: Problem,
    configuration: Configuration,
    facts: DeviceFacts,
    occupancy: Occupancy | None,
) -> Point:
    """The chosen variant with its derived integers. Raises ManifestError."""
    point = _chosen(manifest, problem, configuration, facts, occupancy)
    for name, derived in point.variant.derived.items():
        value = point.integer(derived.key, derived.expression, expressions.INT64)
        point = replace(point, names={**point.names, name: value})
    return point


def _chosen(
    manifest: Manifest,
    problem: Problem,
    configuration: Configuration,
    facts: DeviceFacts,
    occupancy: Occupancy | None,
) -> Point:
    """The variant whose `when` holds first, seeing symbols, facts and the declared constants."""
    names = {symbol: configuration[symbol] for symbol in problem.symbols}
    names |= {"num_sms": facts.num_sms, "l2_bytes": facts.l2_bytes, "smem_optin": facts.smem_optin}
    point = Point(
        manifest=manifest,
        variant=manifest.variants[-1],
        configuration=configuration,
        facts=facts,
        names=names | {name: constant.value for name, constant in manifest.constants.items()},
        tensors={t.name: t for t in problem.tensors(configuration)},
        scalars=problem.scalars(configuration),
        occupancy=occupancy,
    )
    variant = next(v for v in manifest.variants if point.holds(f"{v.key}.when", v.when))
    return replace(point, variant=variant, names={**names, **variant.constants})
