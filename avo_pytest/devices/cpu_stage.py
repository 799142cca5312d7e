# SPDX-License-Identifier: MIT
"""One configuration on the CPU device: shared inputs, its arms, and one launch at a time."""

from __future__ import annotations

import os
import secrets
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avo_pytest import inputs
from avo_pytest.devices import ArmFailed, Timing
from avo_pytest.devices.child import Span
from avo_pytest.devices.cpu_arms import BaselineArm, CandidateArm
from avo_pytest.devices.disturbance import Probes, cpu_times, crowded, foreign_ms
from avo_pytest.devices.native import Trusted
from avo_pytest.devices.shared import SEALABLE, Shared
from avo_pytest.problem import Configuration, Problem, TensorSpec

# What this process needs itself to ask an arm, to stop it and to wait for that: the same for all
# arms (0.13 to 0.25 ms on a slow core), and far less than a thread that spins.
ASKING_NS = 300_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What all stages share. `arms` are the arms' processes.

    While an arm runs, the CPU time of all others is foreign, the worker's own included: a thread of
    its libraries that spins takes a core like any stranger's.
    """

    trusted: Trusted
    probes: Probes
    threads: int
    seed: bytes
    arms: set[int]


class CpuStage:
    """A `Stage`. Outputs are copied when the arm stands still, so nothing later can change them."""

    def __init__(self, problem: Problem, configuration: Configuration, machine: Machine) -> None:
        self.configuration = configuration
        self.specs: tuple[TensorSpec, ...] = problem.tensors(configuration)
        self.inputs = {
            spec.name: Shared(spec.name, spec.bytes, sealed=True)
            for spec in self.specs
            if spec.role == "input"
        }
        self._machine = machine
        self._output = problem.output(configuration)
        scales = problem.input_scale(configuration)
        self._tables = {name: inputs.table(scales.get(name, 1.0)) for name in self.inputs}
        self._arms: dict[str, CandidateArm | BaselineArm] = {}
        self._outputs: dict[str, NDArray[np.uint16]] = {}
        self._checksum = 0

    def add(self, arm: CandidateArm | BaselineArm) -> None:
        """Take an arm in; the stage closes it."""
        self._arms[arm.name] = arm
        self._outputs[arm.name] = np.zeros((self._output.rows, self._output.shape[-1]), np.uint16)

    def write(self, contents: Mapping[str, Any]) -> None:
        """Put given host contents (BF16 as uint16 bits) into the inputs."""
        for name, memory in self.inputs.items():
            raw = np.ascontiguousarray(contents[name]).reshape(-1).view(np.uint8)
            if raw.size != memory.bytes:
                where = f"{self.configuration.name}, {name}"
                raise ValueError(f"{where}: {raw.size} bytes given, {memory.bytes} needed")
            memory.contents[:] = raw
        self._remember()

    def refresh(self, key: int) -> None:
        """Rewrite all inputs with the contents of `key`."""
        for spec in self.specs:
            if spec.role == "input":
                start = inputs.base(self._machine.seed, key, spec.name)
                table = self._tables[spec.name]
                self._machine.trusted.fill(self.inputs[spec.name].lanes, start, table)
        self._remember()

    def launch(self, arm: str, *, timeout_s: float, rest_ms: float = 0.0) -> Timing:
        """Poison the arm's output and scratch, launch once, copy the output. Raises ArmFailed."""
        running = self._arms[arm]
        machine = self._machine
        try:
            running.prepare(inputs.poison(secrets.randbits(16)))
            rate_before = machine.probes.settled()
            times_before = cpu_times()
            own_before = time.process_time_ns()
            span = running.run(timeout_s)
            own_after = time.process_time_ns()
            times_after = cpu_times()
            rate_after = machine.probes.read()
            running.publish()
        except ArmFailed as failure:
            reason = f"{self.configuration.name}: {failure.reason}"
            raise ArmFailed(failure.arm, failure.status, reason) from None
        np.copyto(self._outputs[arm].reshape(-1), running.output.lanes)
        # reading all those clocks cost more than the launch itself let this process do
        times_before[os.getpid()] = own_before
        times_after[os.getpid()] = max(own_before, own_after - ASKING_NS)
        foreign = foreign_ms(times_before, times_after, machine.arms)
        return self._timing(span, rate_before, rate_after, foreign)

    def fingerprint(self, arm: str, secret: int) -> NDArray[np.float32]:
        """float32 [rows, 3]: see fingerprints.py."""
        return self._machine.trusted.fingerprint(self._outputs[arm], secret)

    def rows(self, arm: str, rows: Any) -> NDArray[np.float64]:
        """float64 [n, width]: the given rows of the arm's last output."""
        with np.errstate(invalid="ignore"):  # poison is a signalling NaN
            return inputs.from_bf16(self._outputs[arm][rows]).astype(np.float64)

    def bits(self, arm: str) -> NDArray[np.uint16]:
        """uint16 [rows, width]: a copy of the arm's whole last output."""
        return self._outputs[arm].copy()

    def oracle_inputs(self) -> Mapping[str, NDArray[Any]]:
        """The inputs as they stand (BF16 as uint16 bits), not to be written."""
        kinds = {"bf16": np.uint16, "f16": np.float16, "f32": np.float32, "i32": np.int32}
        views = {}
        for spec in self.specs:
            if spec.role == "input":
                view = self.inputs[spec.name].contents.view(kinds[spec.dtype]).reshape(spec.shape)
                view.flags.writeable = False
                views[spec.name] = view
        return MappingProxyType(views)

    def damage(self, arm: str) -> str | None:
        """None, or what the last launch changed that it must not."""
        if not SEALABLE and self._inputs_checksum() != self._checksum:
            return "changed its inputs"
        return self._arms[arm].damage()

    def close(self) -> None:
        """End this stage's processes and free its memory. Safe to call twice."""
        for arm in self._arms.values():
            arm.close()
        self._arms.clear()
        for memory in self.inputs.values():
            memory.close()

    def _timing(
        self,
        span: Span,
        rate_before: NDArray[np.float64],
        rate_after: NDArray[np.float64],
        foreign: float,
    ) -> Timing:
        ms = span.ns / 1e6
        probes, threads = self._machine.probes, self._machine.threads
        evidence = (
            probes.slow(rate_before),
            probes.slow(rate_after),
            crowded(foreign, ms, threads=threads, cpus=len(probes.cpus)),
        )
        facts = {
            "probe_before": float(rate_before.mean()),
            "probe_after": float(rate_after.mean()),
            "foreign_ms": foreign,
        }
        if span.cpu_ns is not None:
            facts["cpu_ms"] = span.cpu_ns / 1e6
        disturbed = next((reason for reason in evidence if reason is not None), None)
        return Timing(ms=ms, host_ms=ms, disturbed=disturbed, facts=facts)

    def _remember(self) -> None:
        if not SEALABLE:
            self._checksum = self._inputs_checksum()

    def _inputs_checksum(self) -> int:
        total = 0
        for memory in self.inputs.values():
            total = zlib.crc32(memory.contents.data, total)
        return total
