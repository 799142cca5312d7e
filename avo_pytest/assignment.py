# SPDX-License-Identifier: MIT
"""From what was asked (Request) to what will be judged (Assignment): cheap, builds nothing."""

from __future__ import annotations

import fnmatch
import os
import platform
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avo_pytest.devices import scenarios
from avo_pytest.devices.probe import find_cuda
from avo_pytest.loading import load_problem, problem_reference
from avo_pytest.plan import DeviceFacts
from avo_pytest.problem import Baseline, Configuration, DeviceKind, Problem

TARGETS = ("cpu", "sm80", "sm90", "sm100")
THREADS_PER_CORE, LEAST_MAX_THREADS = 4, 16


class RequestError(Exception):
    """A request that cannot be served; the sentence says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for. None means: decide for me."""

    root: Path
    kernel: str
    target: str = "auto"
    device: str | None = None
    devices: tuple[str, ...] = ()  # over which the replicates of a confirm are shared out
    share: str = ""  # "K/N": of a confirm that N machines do; empty: all of it
    candidate: str | None = None
    incumbent: str | None = None
    set: str | None = None
    configuration: str | None = None
    baselines: tuple[str, ...] | None = None
    blocks: int | None = None
    seed: int | None = None
    mode: str = "measure"
    regime: str = "refreshed"
    threads: int | None = None
    timeout_s: float = 20.0
    twin: bool = False
    subset: bool = False
    processes: int | None = None  # of a calibration or an audit
    json: Path | None = None
    nonce: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A request with every default filled in."""

    request: Request
    problem: Problem
    problem_ref: str
    target: str
    device: str
    devices: tuple[str, ...]
    kind: DeviceKind
    facts: DeviceFacts
    set: str
    whole_set: tuple[str, ...]  # names, whatever was filtered
    throughput: tuple[Configuration, ...]
    baselines: tuple[Baseline, ...]
    seed: int
    threads: int
    locks: tuple[str, ...]  # one a device
    subset: bool

    @property
    def decides(self) -> bool:
        """Whether candidate, incumbent and null twin are timed, for a verdict; no baselines."""
        return self.request.mode != "measure"

    @property
    def index(self) -> int:
        """Number of the CUDA device."""
        return _cuda_index(self.device)


def assign(request: Request) -> Assignment:
    """Resolve target, device, configurations and baselines. Raises RequestError."""
    request = _consistent(request)
    reference = problem_reference(request.kernel, request.root)
    try:
        problem = load_problem(reference, root=request.root)
    except FileNotFoundError as error:
        raise RequestError(f"kernel {request.kernel!r}: {error}") from error
    except Exception as error:  # a problem is somebody's code, which may fail in any way
        told = f"{type(error).__name__}: {error}"
        raise RequestError(f"kernel {request.kernel!r}: {reference}: {told}") from error
    target, device, facts, lock = _target_and_device(request)
    kind: DeviceKind = "cpu" if target in ("cpu", scenarios.DEVICE) else "cuda"
    name, configurations = _throughput_set(problem, kind, request.set)
    chosen = _filter(configurations, request.configuration)
    return Assignment(
        request=request,
        problem=problem,
        problem_ref=reference,
        target=target,
        device=device,
        devices=(device, *request.devices[1:]),
        kind=kind,
        facts=facts,
        set=name,
        whole_set=tuple(c.name for c in configurations),
        throughput=chosen,
        baselines=_baselines(problem, kind, request.baselines),
        seed=secrets.randbits(63) if request.seed is None else request.seed,
        threads=_threads(request.threads),
        locks=(lock, *_more_locks(request, facts)),
        subset=request.subset or len(chosen) < len(configurations),
    )


def _consistent(request: Request) -> Request:
    """Without what has no meaning in its mode. Raises RequestError for what contradicts it."""
    if request.share:
        _refuse_share(request)
    if request.devices:
        if request.device not in (None, request.devices[0]):
            raise RequestError(f"device {request.device} is not the first of --avo-devices")
        if len(set(request.devices)) < len(request.devices):
            raise RequestError(f"--avo-devices {','.join(request.devices)}: one of them twice")
        request = replace(request, device=request.devices[0])
    if request.mode == "measure":
        if len(request.devices) > 1:
            raise RequestError(
                "--avo-devices: a measurement uses one device; screen, confirm and "
                "avo calibrate use several"
            )
        return request
    if request.blocks is not None:
        raise RequestError(
            f"--avo-blocks: in mode {request.mode} the policy decides "
            "([tool.avo.policy] screen_blocks and confirm_blocks)"
        )
    return replace(request, baselines=(), twin=False)


def _refuse_share(request: Request) -> None:
    """Raises RequestError. Without a common nonce anybody's shares would fit together, and one
    could choose among them."""
    if request.mode != "confirm":
        raise RequestError(f"--avo-share {request.share}: only a confirm is shared")
    if not request.nonce:
        raise RequestError(
            f"--avo-share {request.share}: the shares of a confirm know each other by their "
            "--avo-nonce, which is new for each confirm"
        )


def _more_locks(request: Request, first: DeviceFacts) -> Iterator[str]:
    """Locks of the devices after the first, which are like it. Raises RequestError."""
    for device in request.devices[1:]:
        if device.partition(":")[0] == scenarios.DEVICE == first.arch:
            yield _simulated(replace(request, device=device))[3]
            continue
        if device.partition(":")[0] != "cuda" or not device.partition(":")[2]:
            raise RequestError(f"--avo-devices: {device}: several devices are cuda:N each")
        facts, identity, reason = find_cuda(_cuda_index(device))
        if facts is None:
            raise RequestError(f"device {device}: {reason}")
        if facts != first:
            raise RequestError(
                f"--avo-devices: {device} ({facts.arch}, {facts.num_sms} SMs) is another model "
                f"than {request.device} ({first.arch}, {first.num_sms} SMs)"
            )
        yield str(identity.get("uuid", device))


def _threads(wanted: int | None) -> int:
    """As many as asked for, within reason: each is a stack in a child of limited memory."""
    cores = usable_cores()
    most = max(LEAST_MAX_THREADS, THREADS_PER_CORE * cores)
    if wanted is not None and wanted > most:
        raise RequestError(
            f"--avo-threads {wanted}: this machine has {cores} cores, so at most {most}"
        )
    return wanted or cores


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def existing_targets(root: Path, kernel: str) -> tuple[str, ...]:
    """Targets of a kernel that have a manifest, oldest first."""
    return tuple(t for t in TARGETS if (root / "kernels" / kernel / t / "kernel.toml").is_file())


def _target_and_device(request: Request) -> tuple[str, str, DeviceFacts, str]:
    """Target, device, its facts, and the name of the lock that guards it."""
    if (request.device or "").partition(":")[0] == scenarios.DEVICE:
        return _simulated(request)
    index = _cuda_index(request.device)
    if request.target == "cpu" and request.device not in (None, "cpu"):
        raise RequestError(f"target cpu does not run on device {request.device}")
    wants_cpu = request.target == "cpu" or request.device == "cpu"
    facts, identity, reason = (None, {}, "the CPU was asked for") if wants_cpu else find_cuda(index)
    targets = existing_targets(request.root, request.kernel)
    wants_gpu = request.device is not None and not wants_cpu
    if wants_gpu and facts is None:
        raise RequestError(f"device {request.device}: {reason}")
    if request.target == "auto":
        able = [t for t in targets if _runs(t, facts) and not (wants_gpu and t == "cpu")]
        if not able:
            raise RequestError(
                f"kernel {request.kernel!r} has no target for this machine (targets: "
                f"{', '.join(targets) or 'none'}; GPU: {reason or 'present'})"
            )
        target = able[-1]
    else:
        target = request.target
        if target not in TARGETS:
            raise RequestError(f"target {target!r}: one of auto, {', '.join(TARGETS)}")
        if not _runs(target, facts):
            arch = facts.arch if facts else f"no GPU ({reason})"
            raise RequestError(f"target {target} needs another device than this one: {arch}")
    if target == "cpu":
        return target, "cpu", DeviceFacts(arch=platform.machine()), "cpu"
    assert facts is not None
    return target, f"cuda:{index}", facts, str(identity.get("uuid", f"cuda-{index}"))


def _simulated(request: Request) -> tuple[str, str, DeviceFacts, str]:
    """Its own target, and nothing to be shared or locked."""
    device = str(request.device)
    if request.target not in ("auto", scenarios.DEVICE):
        raise RequestError(f"target {request.target} does not run on device {device}")
    try:
        scenarios.load(device, request.root)
    except (OSError, ValueError) as error:
        raise RequestError(str(error)) from error
    return scenarios.DEVICE, device, DeviceFacts(arch=scenarios.DEVICE), f"{device}-{os.getpid()}"


def _cuda_index(device: str | None) -> int:
    if device in (None, "cpu", "cuda"):
        return 0
    kind, _, index = str(device).partition(":")
    if kind == scenarios.DEVICE:
        return 0
    if kind != "cuda" or not index.isdigit():
        raise RequestError(f"device {device!r}: cpu, cuda or cuda:N")
    return int(index)


def _runs(target: str, facts: DeviceFacts | None) -> bool:
    """sm80 code is built for whatever device there is; sm90 and sm100 need their own family."""
    if target == "cpu":
        return True
    if facts is None:
        return False
    major = int(facts.arch.removeprefix("sm_").rstrip("af")) // 10
    return {"sm80": major >= 8, "sm90": major == 9, "sm100": major == 10}[target]


def _throughput_set(
    problem: Problem, kind: DeviceKind, wanted: str | None
) -> tuple[str, tuple[Configuration, ...]]:
    sets = problem.throughput.get(kind, {})
    if not sets:
        raise RequestError(f"problem {problem.name!r} has no throughput set for {kind}")
    name = wanted or next(iter(sets))
    if name not in sets:
        raise RequestError(f"set {name!r}: {problem.name} on {kind} has {', '.join(sets)}")
    return name, sets[name]


def _filter(configurations: Sequence[Configuration], glob: str | None) -> tuple[Configuration, ...]:
    if glob is None:
        return tuple(configurations)
    chosen = tuple(c for c in configurations if fnmatch.fnmatchcase(c.name, glob))
    if not chosen:
        names = ", ".join(c.name for c in configurations)
        raise RequestError(f"configuration {glob!r} matches none of {names}")
    return chosen


def _baselines(
    problem: Problem, kind: DeviceKind, wanted: tuple[str, ...] | None
) -> tuple[Baseline, ...]:
    """Those asked for, present or not: only a worker can tell what runs on its device."""
    fitting = [b for b in problem.baselines if b.device == kind]
    names = [b.name for b in fitting]
    for name in wanted or ():
        if name not in names:
            raise RequestError(
                f"baseline {name!r}: {problem.name} on {kind} has {', '.join(names)}"
            )
    return tuple(b for b in fitting if wanted is None or b.name in wanted)
