# SPDX-License-Identifier: MIT
"""Candidate folder + problem + device facts → Artifact: compiled, checked, resolved, cached.

Code is cached by all it depends on (sources, macros, flags, compiler, architecture), so that a
changed grid does not compile again; plans are resolved anew. Of two builders at once, one wins.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from avo_pytest.architectures import compile_arch
from avo_pytest.artifact import Artifact, load_artifact, plan_identity, store
from avo_pytest.codes import BuildError, Code, Codes, Limits, MachineError
from avo_pytest.evaluation import Occupancy, OccupancyKind, macros
from avo_pytest.identity import read_tree, tree_hash
from avo_pytest.manifest import Manifest, ManifestError, load
from avo_pytest.plan import DeviceFacts, Launch, LaunchPlan
from avo_pytest.problem import Configuration, DeviceKind, Problem
from avo_pytest.resolution import argument_sizes, resolve
from avo_pytest.specification import Target

__all__ = [
    "Artifact",
    "BuildError",
    "Limits",
    "MachineError",
    "build",
    "load_artifact",
    "tree_hash",
]

# What a candidate cannot help; other errors of files are those of its own folder.
MACHINE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO}

# (kind, code file, launch without its grid) → CTAs per SM, or clusters per device; needs a driver
AskDriver = Callable[[OccupancyKind, Path, Launch], int]


def build(
    kernel_dir: Path,
    problem: Problem,
    configurations: Sequence[Configuration],
    facts: DeviceFacts,
    cache: Path,
    *,
    confine: bool = True,
    ask_driver: AskDriver | None = None,
    limits: Limits | None = None,
) -> Artifact:
    """Build a candidate for these configurations on this device. Raises BuildError(reason, log),
    and its subclass MachineError where nothing could be built here.

    `ask_driver` answers `max_active_blocks` and `max_active_clusters`; without it, a manifest that
    uses them does not build.
    """
    try:
        manifest = load(kernel_dir / "kernel.toml", problem)
        tree = read_tree(kernel_dir)
        arch = compile_arch(manifest.target, facts.arch)
        if arch is None:
            raise BuildError(f"target {manifest.target} does not run on {facts.arch}")
        codes = Codes(manifest, tree, arch, cache, confine=confine, limits=limits or Limits())
        wanted = _distinct(configurations)
        codes.prepare(_promising(manifest, problem, wanted, facts))
        plans = [_plan(manifest, problem, c, facts, codes, ask_driver) for c in wanted]
        return _stored(problem, manifest.target, arch, codes, plans, cache)
    except OSError as error:
        if error.errno in MACHINE_FAULTS:
            raise MachineError(f"cannot build in {cache}: {error.strerror}") from error
        raise BuildError(str(error)) from error
    except ManifestError as error:
        raise BuildError(str(error)) from error


def _promising(
    manifest: Manifest,
    problem: Problem,
    configurations: Sequence[Configuration],
    facts: DeviceFacts,
) -> list[dict[str, int]]:
    """The macros of all configurations, if all seem to resolve: a mistake in a manifest is told
    before a compiler is started. A driver's answers are taken to be 1."""
    try:
        for configuration in configurations:
            resolve(manifest, problem, configuration, facts, occupancy=lambda *_: 1)
        return [dict(macros(manifest, problem, c, facts)) for c in configurations]
    except ManifestError:
        return []


def _stored(
    problem: Problem,
    target: Target,
    arch: str,
    codes: Codes,
    plans: Sequence[LaunchPlan],
    cache: Path,
) -> Artifact:
    made = {code.key: code for code in codes.made}
    description = {
        "kernel": problem.name,
        "target": target,
        "arch": arch,
        "hash": _hash(plans, _defined(problem, target), target),
        "plans": [asdict(plan) for plan in plans],
        "report": {code.key: code.report for code in made.values()},
    }
    return load_artifact(store(cache, description, {key: code.path for key, code in made.items()}))


def _plan(
    manifest: Manifest,
    problem: Problem,
    configuration: Configuration,
    facts: DeviceFacts,
    codes: Codes,
    ask_driver: AskDriver | None,
) -> LaunchPlan:
    """Resolve first: it is quick and says more than a compiler. Then compile, then compare."""
    wanted = macros(manifest, problem, configuration, facts)
    tensors = {t.name: t for t in problem.tensors(configuration)}
    occupancy: Occupancy | None = None
    if ask_driver is not None:

        def occupancy(kind: OccupancyKind, launch: Launch) -> int:
            return ask_driver(kind, codes.get(wanted, [launch], tensors).path, launch)

    plan = resolve(manifest, problem, configuration, facts, occupancy=occupancy)
    code = codes.get(wanted, plan.launches, tensors)
    for launch in plan.launches:
        _check_launch(manifest, launch, code, facts)
    return replace(plan, code=code.key)


def _check_launch(manifest: Manifest, launch: Launch, code: Code, facts: DeviceFacts) -> None:
    """A launch against the kernel that was compiled: it exists, takes these arguments, fits."""
    if manifest.target == "cpu":
        return
    kernels: Mapping[str, Any] = code.report["kernels"]
    if launch.function not in kernels:
        there = ", ".join(sorted(kernels)) or "none"
        reason = f'no kernel {launch.function!r} (extern "C" __global__) in {manifest.source}'
        raise BuildError(f"{manifest.path}: {reason}; there are: {there}")
    figures = kernels[launch.function]
    given, taken = argument_sizes(launch.arguments), figures["parameter_bytes"]
    if given != taken:
        raise BuildError(
            f"{manifest.path}: {launch.function} takes {len(taken)} parameters of {taken} bytes, "
            f"but the manifest gives {len(given)} arguments of {given} bytes"
        )
    static = figures["static_shared_bytes"]
    if facts.smem_optin and static + launch.shared_bytes > facts.smem_optin:
        raise BuildError(
            f"{manifest.path}: {launch.function} needs {static} bytes of static and "
            f"{launch.shared_bytes} of dynamic shared memory; {facts.arch} has {facts.smem_optin}"
        )


def _distinct(configurations: Sequence[Configuration]) -> list[Configuration]:
    """Each configuration once. Two different ones of one name would share a plan."""
    found: dict[str, Configuration] = {}
    for configuration in configurations:
        known = found.setdefault(configuration.name, configuration)
        if dict(known.symbols) != dict(configuration.symbols):
            raise BuildError(f"two different configurations are called {configuration.name!r}")
    return list(found.values())


def _defined(problem: Problem, target: str) -> frozenset[str]:
    """Names of the configurations that the problem itself defines, not drawn ones."""
    kind: DeviceKind = "cpu" if target == "cpu" else "cuda"
    sets = problem.throughput.get(kind, {}).values()
    throughput = [c.name for configurations in sets for c in configurations]
    return frozenset([*throughput, *(c.name for c in problem.correctness(kind))])


def _hash(plans: Sequence[LaunchPlan], defined: frozenset[str], target: str) -> str:
    """Codes are named by their bytes, so plans alone say everything."""
    kept = [p for p in plans if p.configuration in defined] or plans
    identities = [plan_identity(p) for p in sorted(kept, key=lambda p: p.configuration)]
    text = json.dumps([target, identities], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
