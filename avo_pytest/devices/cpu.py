# SPDX-License-Identifier: MIT
"""The CPU device: every arm is a frozen process over shared memory; one of them runs at a time.

A candidate gets one confined process per configuration (`native/child.cpp`), a baseline one process
for all (`torch_arm.py`). Clock, poison, copies and checks stay here, in the trusted worker.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from avo_pytest import sandbox
from avo_pytest.confine import landlock_abi
from avo_pytest.devices import Arm, native, torch_arm
from avo_pytest.devices.child import Child
from avo_pytest.devices.cpu_arms import BaselineArm, CandidateArm, Limits
from avo_pytest.devices.cpu_stage import CpuStage, Machine
from avo_pytest.devices.disturbance import Probes, cpu_times, foreign_ms
from avo_pytest.plan import DeviceFacts
from avo_pytest.problem import Configuration, DeviceKind, Problem

CEILING_S = 0.1
_FLAGS_OF_INTEREST = (
    *("fma", "avx2", "avx512f", "avx512bw", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx10"),
    *("amx_tile", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm", "sve", "sve2", "sme"),
)


class CpuDevice:
    """A `Device`: this machine's CPU, used with so many threads."""

    kind: DeviceKind = "cpu"

    def __init__(
        self,
        *,
        problem_ref: str,
        root: Path,
        threads: int,
        seed: bytes,
        cache: Path,
        limits: Limits | None = None,
    ) -> None:
        self.facts = DeviceFacts(arch=architecture())
        self.isolation, self.isolation_reason = isolation()
        self._problem_ref, self._root = problem_ref, root
        self._limits = limits or Limits()
        self._loader = native.loader(cache)
        trusted = native.Trusted(cache, threads)
        self._machine = Machine(
            trusted=trusted, probes=Probes(trusted), threads=threads, seed=seed, arms=set()
        )
        self._baselines: dict[str, Child] = {}
        self._stages = 0
        self._seen = cpu_times()
        self._ceilings: dict[str, float] = {}

    def environment(self) -> dict[str, Any]:
        """CPU, flags, threads, kernel, compiler, torch, isolation."""
        model, flags = _cpu_model()
        return {
            "device": model,
            "flags": [flag for flag in _FLAGS_OF_INTEREST if flag in flags],
            "threads": self._machine.threads,
            "cpus": len(self._machine.probes.cpus),
            "kernel": f"{platform.system()} {platform.release()}",
            "libc": " ".join(platform.libc_ver()),
            "compiler": native.compiler_version(),
            "python": platform.python_version(),
            "numpy": _version("numpy"),
            "torch": _version("torch"),
            "isolation": self.isolation,
            "isolation_reason": self.isolation_reason,
        }

    def stage(
        self, problem: Problem, configuration: Configuration, arms: Sequence[Arm]
    ) -> CpuStage:
        """Allocate shared memory and start (or attach) the arms. Raises ArmFailed."""
        self._stages += 1
        stage = CpuStage(problem, configuration, self._machine)
        try:
            for arm in arms:
                stage.add(self._start(arm, stage))
        except BaseException:
            stage.close()
            raise
        return stage

    def observe(self) -> dict[str, Any]:
        """Core rates now and usually, the CPU time of others since the last call, last ceilings."""
        before, self._seen = self._seen, cpu_times()
        probes, own = self._machine.probes, self._machine.arms | {os.getpid()}
        return {
            "probe_gflops": [round(float(rate), 1) for rate in probes.read()],
            "usual_gflops": [round(float(rate), 1) for rate in probes.usual()],
            "foreign_cpu_ms": round(foreign_ms(before, self._seen, own), 3),
            "load": os.getloadavg()[0],
            "ceilings_tflops": {unit: round(rate, 4) for unit, rate in self._ceilings.items()},
        }

    def ceiling(self) -> float:
        """TFLOPS of the fastest multiply-add unit, on as many cores as the arms have threads."""
        cpus = self._machine.probes.cpus[: self._machine.threads]
        self._ceilings = ceilings(self._machine.trusted, cpus)
        return max(self._ceilings.values())

    def close(self) -> None:
        """End the baselines' processes. Safe to call twice."""
        for child in self._baselines.values():
            child.close()
        self._baselines.clear()

    def _start(self, arm: Arm, stage: CpuStage) -> CandidateArm | BaselineArm:
        if arm.artifact is None:
            child = self._baseline(arm.name)
            return BaselineArm(child, self._stages, stage.configuration, stage.specs, stage.inputs)
        started = CandidateArm(
            arm,
            stage.configuration,
            stage.specs,
            stage.inputs,
            loader=self._loader,
            threads=self._machine.threads,
            confined=self.isolation == "child",
            limits=self._limits,
        )
        self._machine.arms.add(started.child.pid)
        return started

    def _baseline(self, name: str) -> Child:
        """A baseline's process: importing torch is slow, so it serves all stages until it dies."""
        child = self._baselines.get(name)
        if child is not None and child.alive:
            return child
        if child is not None:
            child.close()
        command = (sys.executable, "-P", "-m", torch_arm.__name__)
        arguments = (str(self._root), self._problem_ref, name, str(self._machine.threads))
        child = Child(
            name,
            lambda fd: (*command, str(fd), *arguments),
            env=torch_arm.environment(self._machine.threads),
        )
        self._baselines[name] = child
        self._machine.arms.add(child.pid)
        child.ask(b"", b"r", timeout_s=self._limits.baseline_start_s)
        return child


def ceilings(trusted: native.Trusted, cpus: Sequence[int]) -> dict[str, float]:
    """TFLOPS of each kind of multiply-add unit of these CPUs, all of them busy."""
    units = enumerate(trusted.units())
    return {name: sum(trusted.probe(cpus, CEILING_S, unit)) / 1e3 for unit, name in units}


def architecture() -> str:
    """The machine's name as plans know it."""
    return {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())


def isolation() -> tuple[sandbox.Level, str]:
    """The level at which candidates run here, and what it rests on or lacks."""
    level, reason = sandbox.level()
    if level == "child" and not landlock_abi():
        return "none", "the loader needs Landlock (Linux 5.13 with lsm=…,landlock); " + reason
    return level, reason


@functools.cache
def _cpu_model() -> tuple[str, frozenset[str]]:
    """Name and feature flags, from /proc/cpuinfo where there is one."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    model = fields.get("model name") or platform.processor() or platform.machine()
    return model, frozenset((fields.get("flags") or fields.get("Features") or "").split())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
