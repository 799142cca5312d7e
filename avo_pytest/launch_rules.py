# SPDX-License-Identifier: MIT
"""What launches, arguments, workspaces and tensor maps must obey before any number is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from avo_pytest import expressions
from avo_pytest.specification import (
    ArgumentSpec,
    Integer,
    LaunchSpec,
    Manifest,
    ManifestError,
    TensorMapSpec,
    Variant,
    did_you_mean,
)

FACTS = ("num_sms", "l2_bytes", "smem_optin")
OCCUPANCY = ("max_active_blocks", "max_active_clusters")
_CPU_TYPES = (None, "i32", "u32", "i64", "f32")
_Field = Integer | tuple[Integer, ...] | None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of a problem that a manifest may use."""

    symbols: frozenset[str]
    inputs: frozenset[str]
    output: str
    scalars: frozenset[str]

    @property
    def tensors(self) -> frozenset[str]:
        return self.inputs | {self.output}


@dataclass(frozen=True, slots=True)
class Scope:
    """One variant of a manifest, and the names its expressions may use."""

    manifest: Manifest
    variant: Variant
    words: Vocabulary
    known: frozenset[str]

    @property
    def cpu(self) -> bool:
        return self.manifest.target == "cpu"

    def error(self, key: str, reason: str) -> ManifestError:
        return self.manifest.error(key, reason)

    def check_word(self, key: str, kind: str, word: str, allowed: Collection[str]) -> None:
        """Raise unless `word` is one of the allowed."""
        if word not in allowed:
            near, choice = did_you_mean(word, allowed), ", ".join(sorted(allowed)) or "none"
            raise self.error(key, f"unknown {kind} {word!r}{near}; there are: {choice}")

    def check_names(self, key: str, field: _Field, extra: Collection[str] = ()) -> None:
        """Raise unless every expression of a field parses and uses known names only."""
        fields = field if isinstance(field, tuple) else () if field is None else (field,)
        known = self.known | set(extra)
        for expression in fields:
            try:
                unknown = expressions.names_of(expression) - known
            except expressions.ExpressionError as error:
                raise self.error(key, str(error)) from None
            for name in sorted(unknown):
                near, choice = did_you_mean(name, known), ", ".join(sorted(known))
                near = " (it is known in a grid only)" if name in OCCUPANCY else near
                reason = f"{expression!r}: unknown name {name!r}{near}; there are: {choice}"
                raise self.error(key, reason)


def check(scope: Scope) -> None:
    """Raise ManifestError for the first rule that is broken."""
    for name, workspace in scope.variant.workspaces.items():
        if scope.cpu and workspace.kind == "restored":
            text = "target cpu has no setup launch that could fill it; scratch or zeroed"
            raise scope.error(f"{workspace.key}.kind", text)
        if name in scope.words.tensors | scope.words.scalars | {"threads"}:
            raise scope.error(workspace.key, f"{name!r} is already a tensor or scalar")
        scope.check_names(f"{workspace.key}.bytes", workspace.bytes)
    for tensor_map in scope.variant.tensor_maps.values():
        _check_tensor_map(scope, tensor_map)
    _check_launches(scope)


def _check_tensor_map(scope: Scope, spec: TensorMapSpec) -> None:
    if scope.manifest.target not in ("sm90", "sm100"):
        raise scope.error(spec.key, "tensor maps need target sm90 or sm100")
    sources = (spec.tensor is not None, spec.workspace is not None)
    if sources not in ((True, False), (False, True)) or (spec.dtype is not None) != sources[1]:
        reason = "needs either tensor = … (whose dtype is known), or workspace = … and dtype = …"
        raise scope.error(spec.key, reason)
    if spec.tensor is not None:
        scope.check_word(f"{spec.key}.tensor", "tensor", spec.tensor, scope.words.tensors)
    if spec.workspace is not None:
        workspaces = scope.variant.workspaces
        scope.check_word(f"{spec.key}.workspace", "workspace", spec.workspace, workspaces)
    rank = len(spec.dims)
    lengths = {"dims": rank, "box": rank, "strides": rank - 1, "element_strides": rank}
    for field, length in lengths.items():
        value: tuple[Integer, ...] | None = getattr(spec, field)
        if value is not None and len(value) != length:
            reason = f"has {len(value)} entries, but dims has {rank}: {length} are needed"
            raise scope.error(f"{spec.key}.{field}", reason)
        scope.check_names(f"{spec.key}.{field}", value)
    scope.check_names(f"{spec.key}.offset", spec.offset)


def _check_launches(scope: Scope) -> None:
    variant = scope.variant
    if not any(launch.phase == "run" for launch in variant.launches):
        raise scope.error(variant.key or "launch", f"variant {variant.name!r} has no run launch")
    if scope.cpu and len(variant.launches) > 1:
        raise scope.error(variant.launches[1].key, "target cpu has one launch only")
    for launch in variant.launches:
        _check_launch(scope, launch)
        for argument in launch.arguments:
            _check_argument(scope, launch, argument)
    if scope.words.output not in set(_reached(variant)):
        reason = f"no run launch receives the output tensor {scope.words.output!r}"
        raise scope.error(variant.launches[-1].key, reason)


def _reached(variant: Variant) -> Iterable[str | None]:
    """Tensors that the run launches receive, directly or through a map."""
    for launch in variant.launches:
        for argument in launch.arguments if launch.phase == "run" else ():
            name = str(argument.value) if argument.type is None else ""
            is_map = name.startswith("map.")
            yield variant.tensor_maps[name[4:]].tensor if is_map else name


def _check_launch(scope: Scope, launch: LaunchSpec) -> None:
    if scope.cpu:
        _check_cpu_launch(scope, launch)
        return
    for field in ("grid", "block"):
        if not getattr(launch, field):
            raise scope.error(launch.key, f"the key {field!r} is missing")
    if launch.cluster and scope.manifest.target == "sm80":
        raise scope.error(f"{launch.key}.cluster", "clusters need target sm90 or sm100")
    if launch.phase == "setup" and launch.programmatic:
        raise scope.error(f"{launch.key}.programmatic", "is for run launches only")
    scope.check_names(f"{launch.key}.grid", launch.grid, OCCUPANCY)
    for field in ("when", "block", "cluster", "shared"):
        scope.check_names(f"{launch.key}.{field}", getattr(launch, field))


def _check_cpu_launch(scope: Scope, launch: LaunchSpec) -> None:
    cuda_only = ("grid", "block", "cluster", "shared", "when", "cooperative", "programmatic")
    given = [field for field in cuda_only if getattr(launch, field)]
    given += ["phase"] if launch.phase != "run" else []
    given += ["carveout"] if launch.carveout is not None else []
    if given:
        reason = "target cpu knows function and arguments only (threads come as an argument)"
        raise scope.error(f"{launch.key}.{given[0]}", reason)


def _check_argument(scope: Scope, launch: LaunchSpec, argument: ArgumentSpec) -> None:
    if scope.cpu and argument.type not in _CPU_TYPES:
        raise scope.error(argument.key, f"{argument.type} arguments are not offered on target cpu")
    if argument.type is None:
        _check_bare(scope, launch, argument.key, str(argument.value))
    elif argument.type != "f32":
        assert not isinstance(argument.value, float)  # by the schema
        scope.check_names(argument.key, argument.value)
    elif isinstance(argument.value, str):
        scope.check_word(argument.key, "scalar", argument.value, scope.words.scalars)


def _check_bare(scope: Scope, launch: LaunchSpec, key: str, name: str) -> None:
    words, variant = scope.words, scope.variant
    maps = {f"map.{m}" for m in variant.tensor_maps}
    device = variant.workspaces.keys() | ({"threads"} if scope.cpu else maps)
    if name in scope.known:
        raise scope.error(key, f'{name!r} is an integer; write {{ i32 = "{name}" }}')
    scope.check_word(key, "argument", name, words.tensors | words.scalars | device)
    restored = {n for n, w in variant.workspaces.items() if w.kind == "restored"}
    if launch.phase == "setup" and name not in restored | words.scalars:
        reason = f"{name!r}: a setup launch may have restored workspaces and scalars only"
        raise scope.error(key, reason)
