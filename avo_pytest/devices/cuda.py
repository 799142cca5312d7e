# SPDX-License-Identifier: MIT
"""NVIDIA GPUs through the driver API: a candidate is a cubin and a launch plan, never host code.

The worker's context is torch's (the primary one); all work runs on one stream. A sticky error or a
hang loses the context: the failure is `fatal`, closing does nothing, the process has to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cuda.bindings import driver

from avo_pytest import sandbox
from avo_pytest.artifact import load_artifact
from avo_pytest.devices import Arm, ArmFailed
from avo_pytest.devices.cuda_clock import LaunchClock
from avo_pytest.devices.cuda_driver import Context, call, device_uuid
from avo_pytest.devices.cuda_memory import Memory
from avo_pytest.devices.cuda_nvml import Nvml
from avo_pytest.devices.cuda_stage import CudaStage, Gpu, Planned
from avo_pytest.devices.cuda_torch import TorchSide
from avo_pytest.devices.cuda_trusted import Trusted
from avo_pytest.problem import Configuration, DeviceKind, Problem

PACKAGES = ("cuda-bindings", "cuda-core", "nvidia-cuda-nvrtc")


class CudaDevice:
    """See `devices.Device`. `seed` (secret) decides the contents of all timed inputs; what descends
    from the process `judge` is no stranger on the GPU."""

    kind: DeviceKind = "cuda"

    def __init__(self, index: int = 0, *, seed: bytes, judge: int = 0) -> None:
        call(driver.cuInit(0))
        self._uuid = device_uuid(index)
        self._nvml = Nvml(self._uuid, family=judge)
        strangers = self._nvml.pids()
        context = Context(index)
        self._nvml.claim(strangers)
        self.facts = context.facts
        with ExitStack() as cleanup:
            cleanup.callback(context.close)
            trusted = Trusted(context)
            cleanup.callback(trusted.close)
            clock = LaunchClock(context, trusted)
            cleanup.callback(clock.close)
            self._gpu = Gpu(context, Memory(index), trusted, clock, lambda: self._torch, seed)
            self._cleanup = cleanup.pop_all()

    def environment(self) -> dict[str, Any]:
        """Versions, names, limits, isolation."""
        facts = self.facts
        side = self._torch
        return {
            **self._nvml.identity(),
            "uuid": self._uuid,
            "arch": facts.arch,
            "num_sms": facts.num_sms,
            "l2_bytes": facts.l2_bytes,
            "smem_optin": facts.smem_optin,
            "cuda_driver": int(call(driver.cuDriverGetVersion())),
            **{name: _version(name) for name in PACKAGES},
            **(side.versions() if side is not None else {"torch": None}),
            "memory_guard": self._gpu.memory.guard,
            "nvml": self._nvml.absent or "ok",
            "isolation": "none" if sandbox.level()[0] == "none" else "device-only",
            "isolation_reason": sandbox.level()[1],  # of the compiler, where alone code runs here
        }

    def stage(
        self, problem: Problem, configuration: Configuration, arms: Sequence[Arm]
    ) -> CudaStage:
        """Load the arms' artifacts for one configuration. Raises ArmFailed."""
        return self.stage_planned(problem, configuration, [_load(a, configuration) for a in arms])

    def stage_planned(
        self, problem: Problem, configuration: Configuration, arms: Sequence[Planned]
    ) -> CudaStage:
        """The same with plans and cubins at hand."""
        return CudaStage(self._gpu, problem, configuration, arms)

    def observe(self) -> dict[str, Any]:
        """Clocks, power, throttle reasons, energy, foreign processes."""
        return self._nvml.readings()

    def ceiling(self) -> float:
        """TFLOPS of torch's BF16 8192-cubed product; 0 without torch."""
        side = self._torch
        return side.ceiling() if side is not None else 0.0

    def close(self) -> None:
        """Release everything that can still be released."""
        if not self._gpu.context.usable():
            self._cleanup.pop_all()
        self._cleanup.close()

    @cached_property
    def _torch(self) -> TorchSide | None:
        if not TorchSide.available():
            return None
        side = TorchSide(self._gpu.context)
        self._cleanup.callback(side.close)
        return side


def _load(arm: Arm, configuration: Configuration) -> Planned:
    if arm.artifact is None:
        return Planned(arm)
    artifact = load_artifact(arm.artifact)
    plan = artifact.plans.get(configuration.name)
    if plan is None:
        raise ArmFailed(
            arm.name,
            "build_error",
            f"{arm.artifact}: no plan for configuration {configuration.name}",
        )
    return Planned(arm, plan, artifact.codes[plan.code].read_bytes())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
