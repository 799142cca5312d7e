# SPDX-License-Identifier: MIT
"""The two kinds of arm on a CPU, alike from outside: prepare, run (timed), publish, close."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avo_pytest import sandbox
from avo_pytest.artifact import load_artifact
from avo_pytest.devices import Arm, ArmFailed, torch_arm
from avo_pytest.devices.child import Child, Span
from avo_pytest.devices.libraries import standard_libraries
from avo_pytest.devices.shared import Shared
from avo_pytest.plan import Argument, LaunchPlan
from avo_pytest.problem import Configuration, TensorSpec

ASK_S = 60.0  # for what the trusted side of an arm does outside the clock

_NAMESPACES = ("user", "mount", "net", "ipc")  # not pid: the process must stay our own child


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one candidate process may use, and how long a start may take."""

    memory_bytes: int = 16 << 30
    thread_memory_bytes: int = 256 << 20  # address space for each thread's stack and heap
    cpu_s: int = 24 * 3600
    log_bytes: int = 1 << 20
    start_s: float = 30.0
    baseline_start_s: float = 180.0


class CandidateArm:
    """A candidate (incumbent, null twin): one fresh confined process for one configuration."""

    def __init__(
        self,
        arm: Arm,
        configuration: Configuration,
        specs: Sequence[TensorSpec],
        inputs: Mapping[str, Shared],
        *,
        loader: Path,
        threads: int,
        confined: bool,
        limits: Limits,
    ) -> None:
        assert arm.artifact is not None
        self.name = arm.name
        artifact = load_artifact(arm.artifact)
        plan = artifact.plans.get(configuration.name)
        if plan is None:
            raise ArmFailed(arm.name, "build_error", f"no launch plan for {configuration.name}")
        self._kinds = {workspace.name: workspace.kind for workspace in plan.workspaces}
        self._workspaces = {w.name: Shared(w.name, w.bytes) for w in plan.workspaces}
        self.output = _output_memory(specs)
        blocks = {**inputs, **self._workspaces, self.output.name: self.output}
        items = tuple(self._items(plan, blocks, inputs, threads))
        code = artifact.codes[plan.code].resolve()
        rights = {
            "AS": limits.memory_bytes + threads * limits.thread_memory_bytes,
            "CPU": limits.cpu_s,
            "FSIZE": limits.log_bytes,
            "NOFILE": 64 + len(blocks),
            "CORE": 0,
        }
        self.child = Child(
            arm.name,
            lambda fd: sandbox.wrapped(
                [str(loader), str(fd), str(code), str(threads), *items],
                readable=[loader, code, *standard_libraries()],
                limits=rights,
                env={},
                namespaces=_NAMESPACES,
                mechanism="landlock" if confined else "none",
            ),
            env={},
            descriptors=[block.fd for block in blocks.values()],
        )
        try:
            self.child.ask(b"", b"c" if confined else b"cu", timeout_s=limits.start_s)
            self.child.ask(b"", b"r", timeout_s=limits.start_s)
        except ArmFailed:
            self.close()
            raise

    def prepare(self, poison: int) -> None:
        """Poison output and scratch; clear what the arm must leave as it was."""
        self.output.lanes.fill(poison)
        for name, memory in self._workspaces.items():
            if self._kinds[name] == "scratch":
                memory.lanes.fill(poison)
            elif self._kinds[name] == "restored":
                memory.contents.fill(0)

    def run(self, timeout_s: float) -> Span:
        """One timed launch."""
        return self.child.time(b"g", b"d", timeout_s=timeout_s)

    def publish(self) -> None:
        """Nothing to do: the output was written in place."""

    def damage(self) -> str | None:
        """What the last launch changed that it must not have."""
        for memory in (self.output, *self._workspaces.values()):
            if count := memory.trespass():
                return f"wrote past the end of {memory.name} ({count} bytes changed)"
        for name, memory in self._workspaces.items():
            if self._kinds[name] == "restored" and memory.contents.any():
                return f"left workspace {name} changed, which is declared restored"
        return None

    def close(self) -> None:
        """End the process and free its memory. Safe to call twice."""
        self.child.close()
        for memory in (self.output, *self._workspaces.values()):
            memory.close()

    def _items(
        self,
        plan: LaunchPlan,
        blocks: Mapping[str, Shared],
        inputs: Mapping[str, Shared],
        threads: int,
    ) -> Iterator[str]:
        if len(plan.launches) != 1 or plan.launches[0].phase != "run":
            raise ArmFailed(self.name, "build_error", "a cpu target has exactly one run launch")
        for argument in plan.launches[0].arguments:
            if argument.kind == "threads":
                yield f"i32:{threads}"
            elif argument.kind == "scalar":
                yield f"{argument.type}:{_number(argument)}"
            elif argument.kind in ("tensor", "workspace"):
                memory = blocks[argument.name]
                how = "in" if argument.name in inputs else "out"
                how = "zero" if self._kinds.get(argument.name) == "zeroed" else how
                yield f"{how}:{memory.fd}:{memory.bytes}"
            else:
                reason = f"argument {argument.name}: a cpu target has no {argument.kind}"
                raise ArmFailed(self.name, "build_error", reason)


class BaselineArm:
    """A torch baseline: one stage of a process that serves many."""

    def __init__(
        self,
        child: Child,
        number: int,
        configuration: Configuration,
        specs: Sequence[TensorSpec],
        inputs: Mapping[str, Shared],
    ) -> None:
        self.name, self.child, self._number = child.arm, child, number
        self.output = _output_memory(specs)
        blocks = {**inputs, self.output.name: self.output}
        try:
            child.ask(
                torch_arm.stage_message(number, configuration, specs),
                b"s",
                timeout_s=ASK_S,
                descriptors=[blocks[spec.name].fd for spec in specs],
            )
        except ArmFailed:
            self.output.close()
            raise

    def prepare(self, poison: int) -> None:
        """Poison the output and let the baseline convert the inputs, if it does."""
        self.output.lanes.fill(poison)
        self._ask(b"f")

    def run(self, timeout_s: float) -> Span:
        """One timed launch."""
        return self.child.time(torch_arm.HEADER.pack(b"g", self._number), b"g", timeout_s=timeout_s)

    def publish(self) -> None:
        """Have the result written into the output, contiguous and in BF16."""
        self._ask(b"w")

    def damage(self) -> str | None:
        """A baseline is trusted."""
        return None

    def close(self) -> None:
        """Forget the stage; the process goes on. Safe to call twice."""
        if self.child.alive and self.output.fd >= 0:
            with contextlib.suppress(ArmFailed):
                self._ask(b"x")
        self.output.close()

    def _ask(self, letter: bytes) -> None:
        message = torch_arm.HEADER.pack(letter, self._number)
        self.child.ask(message, letter, timeout_s=ASK_S)


def _output_memory(specs: Sequence[TensorSpec]) -> Shared:
    spec = next(spec for spec in specs if spec.role == "output")
    if spec.dtype != "bf16":
        raise ValueError(f"output {spec.name}: the CPU device judges bf16, not {spec.dtype}")
    return Shared(spec.name, spec.bytes)


def _number(argument: Argument) -> str:
    """As text that the loader reads back exactly."""
    if argument.type == "f32":
        return repr(float(np.float32(argument.value)))
    return str(int(argument.value))
