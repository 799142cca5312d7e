# SPDX-License-Identifier: MIT
"""Manifest + configuration + device facts → LaunchPlan: expressions become checked integers."""

from __future__ import annotations

import math
from dataclasses import replace

from avo_pytest import expressions, tensor_maps
from avo_pytest.architectures import capability
from avo_pytest.evaluation import Occupancy, OccupancyKind, Point, evaluate
from avo_pytest.plan import Argument, DeviceFacts, Launch, LaunchPlan, Workspace
from avo_pytest.problem import Configuration, Problem
from avo_pytest.specification import ArgumentSpec, Integer, LaunchSpec, Manifest

MAX_ARGUMENT_BYTES = 4096
MAX_WORKSPACE_BYTES = 16 << 30
# On a CPU the judge shares them: every arm of every configuration holds its own, all at once.
MAX_CPU_WORKSPACE_BYTES = 256 << 20
_GRID = (2**31 - 1, 65535, 65535)
_BLOCK = (1024, 1024, 64)
_THREADS = 1024
_CLUSTER = 16  # above 8 not portable; the device allows it where it can
_RANGES = {
    "i32": range(-(2**31), 2**31),
    "u32": range(2**32),
    "i64": expressions.INT64,
    "fastdiv": range(1, 2**31),
}
_SIZES = {"i32": 4, "u32": 4, "i64": 8, "f32": 4, "fastdiv": 12}  # fastdiv: three u32


def resolve(
    manifest: Manifest,
    problem: Problem,
    configuration: Configuration,
    facts: DeviceFacts,
    *,
    code: str = "",
    occupancy: Occupancy | None = None,
) -> LaunchPlan:
    """The launch plan of one configuration. Raises ManifestError with key, value and limit."""
    point = evaluate(manifest, problem, configuration, facts, occupancy)
    launches = tuple(
        _launch(point, spec)
        for spec in point.variant.launches
        if point.holds(f"{spec.key}.when", spec.when)
    )
    _check_order(point, launches)
    used = {(a.kind, a.name) for launch in launches for a in launch.arguments}
    maps = tuple(
        tensor_maps.resolve(point, name, spec)
        for name, spec in point.variant.tensor_maps.items()
        if ("tensor_map", name) in used
    )
    named = {name for kind, name in used if kind == "workspace"} | {m.source for m in maps}
    return LaunchPlan(
        configuration=configuration.name,
        variant=point.variant.name,
        code=code,
        workspaces=tuple(w for w in _workspaces(point) if w.name in named),
        tensor_maps=maps,
        launches=launches,
    )


def _workspaces(point: Point) -> tuple[Workspace, ...]:
    """Sizes are rounded up to 16 bytes, so that poison and comparison need no odd ends."""
    cpu = point.manifest.target == "cpu"
    most = MAX_CPU_WORKSPACE_BYTES if cpu else MAX_WORKSPACE_BYTES
    within = range(1, most + 1)
    sizes = {
        name: point.integer(f"{spec.key}.bytes", spec.bytes, within)
        for name, spec in point.variant.workspaces.items()
    }
    if cpu and (total := sum(sizes.values())) > most:
        raise point.error("workspace", f"{total} bytes in all; target cpu has {most} for a launch")
    return tuple(
        Workspace(name, spec.kind, -(-sizes[name] // 16) * 16)
        for name, spec in point.variant.workspaces.items()
    )


def _check_order(point: Point, launches: tuple[Launch, ...]) -> None:
    run = [launch for launch in launches if launch.phase == "run"]
    if not run:
        raise point.error(point.variant.launches[0].key, "no run launch is left; see their `when`")
    if run[0].programmatic:
        reason = f"{run[0].function} is the first run launch, so it cannot be programmatic"
        raise point.error(point.variant.launches[0].key, reason)


def _launch(point: Point, spec: LaunchSpec) -> Launch:
    if point.manifest.target == "cpu":
        return _cpu_launch(point, spec)
    launch = Launch(
        function=spec.function,
        phase=spec.phase,
        grid=(1, 1, 1),
        block=_extent(point, f"{spec.key}.block", spec.block, _BLOCK),
        cluster=_cluster(point, spec),
        cooperative=spec.cooperative,
        programmatic=spec.programmatic and capability(point.facts.arch) >= 90,
        shared_bytes=_shared(point, spec),
        carveout_percent=spec.carveout,
        arguments=tuple(_argument(point, a) for a in spec.arguments),
    )
    if math.prod(launch.block) > _THREADS:
        said = " × ".join(map(str, launch.block))
        raise point.error(f"{spec.key}.block", f"{said} threads; a CTA has at most {_THREADS}")
    _check_argument_bytes(point, spec, launch.arguments)
    return replace(launch, grid=_grid(point, spec, launch))


def _cpu_launch(point: Point, spec: LaunchSpec) -> Launch:
    return Launch(
        function=spec.function,
        phase="run",
        grid=(1, 1, 1),
        block=(1, 1, 1),
        cluster=None,
        cooperative=False,
        programmatic=False,
        shared_bytes=0,
        carveout_percent=None,
        arguments=tuple(_argument(point, a) for a in spec.arguments),
    )


def _extent(
    point: Point, key: str, extent: tuple[Integer, ...], limits: tuple[int, int, int]
) -> tuple[int, int, int]:
    padded = (*extent, *(1,) * (3 - len(extent)))
    x, y, z = (
        point.integer(f"{key}[{i}]", expression, range(1, limit + 1))
        for i, (expression, limit) in enumerate(zip(padded, limits, strict=True))
    )
    return x, y, z


def _cluster(point: Point, spec: LaunchSpec) -> tuple[int, int, int] | None:
    if spec.cluster is None:
        return None
    cluster = _extent(point, f"{spec.key}.cluster", spec.cluster, (_CLUSTER,) * 3)
    if math.prod(cluster) > _CLUSTER:
        reason = f"{' × '.join(map(str, cluster))} CTAs; a cluster has at most {_CLUSTER}"
        raise point.error(f"{spec.key}.cluster", reason)
    return cluster


def _shared(point: Point, spec: LaunchSpec) -> int:
    limit = point.facts.smem_optin or 1 << 20
    return point.integer(f"{spec.key}.shared", spec.shared, range(limit + 1))


def _grid(point: Point, spec: LaunchSpec, launch: Launch) -> tuple[int, int, int]:
    """Last, because occupancy depends on everything else."""
    key = f"{spec.key}.grid"
    used = frozenset().union(*(expressions.names_of(e) for e in spec.grid))
    kinds: tuple[OccupancyKind, ...] = ("max_active_blocks", "max_active_clusters")
    for kind in kinds:
        if kind not in used:
            continue
        if point.occupancy is None:
            reason = (
                f"{kind} needs the driver of the device, which is not at hand here; "
                "__launch_bounds__(threads, CTAS) and grid = num_sms * CTAS do without"
            )
            raise point.error(key, reason)
        point = replace(point, names={**point.names, kind: point.occupancy(kind, launch)})
    grid = _extent(point, key, spec.grid, _GRID)
    for i, (size, part) in enumerate(zip(grid, launch.cluster or (1, 1, 1), strict=True)):
        if size % part:
            raise point.error(
                f"{key}[{i}]", f"{size} CTAs cannot be divided by the cluster's {part}"
            )
    return grid


def _argument(point: Point, spec: ArgumentSpec) -> Argument:
    name, type_ = spec.value, spec.type
    if type_ == "fastdiv":
        return Argument("fastdiv", value=_typed(point, spec))
    if type_ == "f32" or (type_ is None and name in point.scalars):
        value = point.scalars[name] if isinstance(name, str) else float(name)
        if not abs(value) < 3.4e38:  # also NaN
            raise point.error(spec.key, f"{name} = {value} is not a finite 32-bit float")
        return Argument("scalar", str(name) if isinstance(name, str) else "", "f32", value)
    if type_ is not None:
        return Argument("scalar", "", type_, _typed(point, spec))
    name = str(name)
    if name in point.tensors:
        return Argument("tensor", name)
    if name.startswith("map."):
        return Argument("tensor_map", name.removeprefix("map."))
    if name in point.variant.workspaces:
        return Argument("workspace", name)
    return Argument("threads", type="i32")


def _typed(point: Point, spec: ArgumentSpec) -> int:
    assert spec.type is not None and not isinstance(spec.value, float)
    return point.integer(spec.key, spec.value, _RANGES[spec.type])


def argument_sizes(arguments: tuple[Argument, ...]) -> list[int]:
    """The size of each kernel parameter in bytes."""
    sized = {"tensor": 8, "workspace": 8, "tensor_map": 128, "fastdiv": 12, "threads": 4}
    return [sized.get(a.kind) or _SIZES[a.type or ""] for a in arguments]


def _check_argument_bytes(point: Point, spec: LaunchSpec, arguments: tuple[Argument, ...]) -> None:
    total = 0
    for size in argument_sizes(arguments):
        alignment = {128: 64, 12: 4}.get(size, size)
        total = -(-total // alignment) * alignment + size
    if total > MAX_ARGUMENT_BYTES:
        reason = f"{total} bytes of arguments; at most {MAX_ARGUMENT_BYTES} are allowed"
        raise point.error(f"{spec.key}.arguments", reason)
