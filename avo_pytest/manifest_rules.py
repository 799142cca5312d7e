# SPDX-License-Identifier: MIT
"""What a manifest must obey before any number is known: source, flags, ranges, variants, names."""

from __future__ import annotations

import stat
from pathlib import PurePosixPath

from avo_pytest import expressions, flags, launch_rules
from avo_pytest.launch_rules import FACTS, OCCUPANCY, Scope, Vocabulary
from avo_pytest.problem import Configuration, Problem
from avo_pytest.specification import Manifest, Variant, did_you_mean

_SUFFIXES = {"cpu": (".cpp", ".cc"), "sm80": (".cu",), "sm90": (".cu",), "sm100": (".cu",)}


def check(manifest: Manifest, problem: Problem) -> None:
    """Raise ManifestError for the first rule that is broken."""
    words = _vocabulary(problem)
    _check_source(manifest)
    if sentence := flags.check(manifest.target, manifest.flags):
        raise manifest.error("compile.flags", sentence)
    _check_specialise(manifest, problem)
    _check_constants(manifest)
    _check_fall_through(manifest)
    for variant in manifest.variants:
        launch_rules.check(_scope(manifest, variant, words))


def _vocabulary(problem: Problem) -> Vocabulary:
    example = _example(problem)
    tensors = problem.tensors(example)
    return Vocabulary(
        symbols=frozenset(problem.symbols),
        inputs=frozenset(t.name for t in tensors if t.role == "input"),
        output=next(t.name for t in tensors if t.role == "output"),
        scalars=frozenset(problem.scalars(example)),
    )


def _example(problem: Problem) -> Configuration:
    """Names of tensors and scalars are the same in all configurations, so any will do."""
    sets = (s for by_name in problem.throughput.values() for s in by_name.values())
    return next(c for configurations in sets for c in configurations)


def _check_source(manifest: Manifest) -> None:
    source, folder = PurePosixPath(manifest.source), manifest.path.parent
    if source.suffix not in _SUFFIXES[manifest.target]:
        wanted = " or ".join(_SUFFIXES[manifest.target])
        raise manifest.error("compile.source", f"{source}: target {manifest.target} needs {wanted}")
    for path in [folder / p for p in [source, *source.parents][:-1]]:
        try:
            mode = path.lstat().st_mode
        except OSError:
            raise manifest.error("compile.source", f"{path}: no such file") from None
        if not (stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and path != folder / source)):
            raise manifest.error("compile.source", f"{path}: must be a regular file, not a link")


def _check_specialise(manifest: Manifest, problem: Problem) -> None:
    allowed = problem.specialisable
    for symbol in manifest.specialise:
        if symbol not in allowed:
            near = did_you_mean(symbol, allowed)
            choice = ", ".join(allowed) or "none"
            reason = f"{symbol!r} cannot be specialised{near}; {problem.name} allows: {choice}"
            raise manifest.error("compile.specialise", reason)
        if symbol.upper() in manifest.constants:
            reason = f"the macro {symbol.upper()} is already the name of a constant"
            raise manifest.error("compile.specialise", reason)


def _check_constants(manifest: Manifest) -> None:
    for name, constant in manifest.constants.items():
        if not constant.allows(constant.value):
            raise manifest.error(
                f"constants.{name}", f"value {constant.value} is not in {constant}"
            )
    for variant in manifest.variants:
        for name, value in variant.constants.items():
            key = f"{variant.key}.constants.{name}"
            if name not in manifest.constants:
                near = did_you_mean(name, manifest.constants)
                raise manifest.error(key, f"{name!r} is not declared in [constants]{near}")
            if not manifest.constants[name].allows(value):
                reason = f"{value} is out of range: allowed is {manifest.constants[name]}"
                raise manifest.error(key, reason)


def _check_fall_through(manifest: Manifest) -> None:
    names = [v.name for v in manifest.variants]
    for variant in manifest.variants:
        if names.count(variant.name) > 1:
            raise manifest.error(f"{variant.key}.name", f"{variant.name!r} is used twice")
    *guarded, last = manifest.variants
    if last.when is not None:
        reason = (
            f"{last.name!r} is the last variant, so it must have no `when`: it takes what is left"
        )
        raise manifest.error(f"{last.key}.when", reason)
    for variant in guarded:
        if variant.when is None:
            reason = f"{variant.name!r} has no `when`, so the variants after it are never taken"
            raise manifest.error(variant.key, reason)


def _scope(manifest: Manifest, variant: Variant, words: Vocabulary) -> Scope:
    """Check `when` and the derived integers, each of which knows the ones above it."""
    known = frozenset(words.symbols | manifest.constants.keys() | set(FACTS))
    scope = Scope(manifest, variant, words, known)
    scope.check_names(f"{variant.key}.when", variant.when)
    taken = known | words.scalars | expressions.FUNCTIONS | set(OCCUPANCY)
    for name, derived in variant.derived.items():
        if name in taken:
            raise manifest.error(
                derived.key, f"{name!r} already has a meaning; choose another name"
            )
        scope.check_names(derived.key, derived.expression)
        scope = Scope(manifest, variant, words, scope.known | {name})
    return scope
