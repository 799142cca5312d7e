# SPDX-License-Identifier: MIT
"""One configuration on a GPU: shared inputs, an output and workspaces for each arm."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from avo_pytest import inputs
from avo_pytest.devices import Arm, ArmFailed, Timing
from avo_pytest.devices.cuda_arm import PlannedArm
from avo_pytest.devices.cuda_clock import LaunchClock, Work
from avo_pytest.devices.cuda_driver import Context, CudaError, LaunchRefused
from avo_pytest.devices.cuda_inputs import Inputs
from avo_pytest.devices.cuda_launch import Code
from avo_pytest.devices.cuda_memory import Buffer, Canaries, Memory
from avo_pytest.devices.cuda_torch import BaselineArm, TorchSide
from avo_pytest.devices.cuda_trusted import Trusted
from avo_pytest.plan import LaunchPlan
from avo_pytest.problem import Configuration, Problem

ROWS_ONE_BY_ONE = 512
DRAIN_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """What all stages of a worker share. `torch()` is None where there is no torch."""

    context: Context
    memory: Memory
    trusted: Trusted
    clock: LaunchClock
    torch: Callable[[], TorchSide | None]
    seed: bytes


@dataclass(frozen=True, slots=True)
class Planned:
    """An arm with its plan and cubin; a baseline has neither."""

    arm: Arm
    plan: LaunchPlan | None = None
    cubin: bytes = b""


class CudaStage:
    """See `devices.Stage`. Nothing that tells an arm the expected output is on the device while it
    runs: other arms' outputs are poisoned, fingerprints and torch's leftovers wiped."""

    def __init__(
        self, gpu: Gpu, problem: Problem, configuration: Configuration, arms: Sequence[Planned]
    ) -> None:
        self._gpu, self._problem, self._configuration = gpu, problem, configuration
        self._output_spec = problem.output(configuration)
        if self._output_spec.dtype != "bf16":
            raise ValueError(f"{problem.name}: the cuda device checks bf16 outputs only")
        self._key: int | None = None
        self._told: set[int | None] = set()  # keys whose reference may still be in torch's cache
        self._cleanup = ExitStack()
        self._works: dict[str, Work] = {}
        self._outputs: dict[str, Buffer] = {}
        self._written: set[str] = set()
        self._held = False  # once one arm's launch was host-bound, all arms' launches are held
        try:
            self._inputs = Inputs(gpu.context, gpu.trusted, problem, configuration, self._allocate)
            buffers = self._inputs.guarded
            for planned in arms:
                buffers += self._add(planned)
            self._canaries = Canaries(gpu.trusted, buffers)
        except BaseException:
            self.close()
            raise

    def write(self, contents: Mapping[str, Any]) -> None:
        self._forget()
        self._key = None
        self._inputs.write(contents)

    def refresh(self, key: int) -> None:
        if key in self._told:
            self._forget()
        self._key = key
        self._inputs.refresh(self._gpu.seed, key)

    def launch(self, arm: str, *, timeout_s: float, rest_ms: float = 0.0) -> Timing:
        work = self._works[arm]
        lane = inputs.poison(secrets.randbits(16))
        try:
            timing = self._gpu.clock.time(
                work,
                lambda: self._prepare(arm, lane << 16 | lane),
                held=self._held or rest_ms > 0,
                rest_ms=rest_ms,
                timeout_s=timeout_s,
            )
        except (CudaError, LaunchRefused, TimeoutError) as error:
            raise self._failed(arm, error) from error
        self._held = self._held or timing.disturbed is not None
        return timing

    def fingerprint(self, arm: str, secret: int) -> Any:
        spec = self._output_spec
        address = self._outputs[arm].address
        return self._gpu.trusted.fingerprint(address, spec.rows, spec.shape[-1], secret)

    def rows(self, arm: str, rows: Any) -> Any:
        wanted = np.asarray(rows, np.int64)
        if wanted.size > ROWS_ONE_BY_ONE:
            found = self.bits(arm)[wanted]
        else:
            found = np.empty((wanted.size, self._output_spec.shape[-1]), np.uint16)
            row_bytes = found.shape[1] * found.itemsize
            for one, row in zip(found, wanted.tolist(), strict=True):
                self._gpu.context.to_host(one, self._outputs[arm].address + row * row_bytes)
        with np.errstate(invalid="ignore"):  # poison may be a signalling NaN
            return inputs.from_bf16(found).astype(np.float64)

    def bits(self, arm: str) -> Any:
        spec = self._output_spec
        found = np.empty((spec.rows, spec.shape[-1]), np.uint16)
        self._gpu.context.to_host(found, self._outputs[arm].address)
        return found

    def oracle_inputs(self) -> Mapping[str, Any]:
        self._gpu.context.synchronize()
        self._told.add(self._key)
        return self._inputs.arrays(self._gpu.torch())

    def damage(self, arm: str) -> str | None:
        return self._canaries.damage() or self._inputs.damage() or self._workspace_damage()

    def close(self) -> None:
        if self._gpu.context.usable():
            self._gpu.context.synchronize()
        else:
            self._cleanup.pop_all()  # nothing can be freed any more
        self._cleanup.close()
        self._works.clear()

    def _prepare(self, arm: str, poison: int) -> None:
        context = self._gpu.context
        for name in self._written | {arm}:
            context.fill(self._outputs[name].address, self._outputs[name].bytes, poison)
            if name in self._works:
                self._works[name].scrub(poison)
        self._written = {arm}
        self._gpu.trusted.wipe_shared(poison)
        self._works[arm].prepare(poison)

    def _add(self, planned: Planned) -> list[Buffer]:
        """Load one arm and return its buffers. Raises ArmFailed."""
        arm = planned.arm.name
        output = self._allocate(self._output_spec.name, self._output_spec.bytes)
        self._outputs[arm] = output
        self._written.add(arm)
        try:
            if planned.plan is None:
                self._works[arm] = self._baseline(arm, output)
                return [output]
            tensors = self._inputs.addresses | {self._output_spec.name: output.address}
            code = Code(planned.cubin)
            self._cleanup.callback(code.close)
            work = PlannedArm(
                context=self._gpu.context,
                code=code,
                plan=planned.plan,
                tensors=tensors,
                allocate=self._allocate,
            )
            work.set_up()
            if damage := self._workspace_damage():
                raise LaunchRefused(f"its setup {damage}")
            self._works[arm] = work
        except (CudaError, LaunchRefused, TimeoutError) as error:
            raise self._failed(arm, error) from error
        return [output, *work.buffers.values()]

    def _baseline(self, arm: str, output: Buffer) -> BaselineArm:
        side = self._gpu.torch()
        baseline = next((b for b in self._problem.baselines if b.name == arm), None)
        if side is None or baseline is None:
            why = (
                "torch is missing" if side is None else f"{self._problem.name} has no such baseline"
            )
            raise LaunchRefused(f"cannot prepare: {why}")
        views = {
            name: side.view(self._inputs.buffers[name].address, spec)
            for name, spec in self._inputs.specs.items()
        }
        target = side.view(output.address, self._output_spec)
        return BaselineArm(side, self._gpu.context, baseline, self._configuration, views, target)

    def _failed(self, arm: str, error: Exception) -> ArmFailed:
        """The failure for the judge; drains the stream to learn whether the context survived."""
        context = self._gpu.context
        if isinstance(error, LaunchRefused):
            try:
                context.wait(timeout_s=DRAIN_TIMEOUT_S)
            except (CudaError, TimeoutError) as later:
                error = later
        status = "launch_error"
        if isinstance(error, CudaError):
            status, context.lost = error.status, context.lost or error.sticky
        elif isinstance(error, TimeoutError):
            status = "timeout"
        reason = f"{self._configuration.name}: {error}"
        return ArmFailed(arm, status, reason, fatal=context.lost)

    def _allocate(self, name: str, n_bytes: int) -> Buffer:
        buffer = self._gpu.memory.allocate(name, n_bytes)
        self._cleanup.callback(buffer.free)
        return buffer

    def _workspace_damage(self) -> str | None:
        """Of any arm's: the one that ran last did it."""
        return next((d for w in self._works.values() if (d := w.damage())), None)

    def _forget(self) -> None:
        """Contents come back to which the oracle has answered: an arm must not find the answer."""
        side = self._gpu.torch() if self._told else None
        if side is not None:
            side.forget()
        self._told.clear()
