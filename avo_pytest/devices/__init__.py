# SPDX-License-Identifier: MIT
"""What the timing protocol needs from a device; `cuda`, `cpu` and `simulated` provide it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from avo_pytest.plan import DeviceFacts
from avo_pytest.problem import Configuration, DeviceKind, Problem

Role = Literal["candidate", "incumbent", "null", "baseline"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the implementations launched against each other. `artifact` is None for a baseline."""

    name: str
    role: Role
    artifact: Path | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """One timed launch. `ms` is what is scored; `host_ms` cross-checks it.

    `disturbed` is None or the reason why this launch must be repeated (host-bound, foreign load).
    `facts` are raw readings for the record (sm_mhz, cpu_ms, probe_gflops …).
    """

    ms: float
    host_ms: float
    disturbed: str | None = None
    facts: Mapping[str, float] = field(default_factory=dict)


class ArmFailed(Exception):
    """An arm could not launch, hung or died. `status` is a `score.Status` value.

    `fatal` says that the device context is lost: the worker reports and exits.
    """

    def __init__(self, arm: str, status: str, reason: str, *, fatal: bool = False) -> None:
        super().__init__(f"{arm}: {reason}")
        self.arm, self.status, self.reason, self.fatal = arm, status, reason, fatal


class Stage(Protocol):
    """One configuration with its buffers and arms, ready to launch.

    Inputs live in one storage shared by all arms. A candidate cannot be trusted to leave them
    alone, so they are rewritten before each launch and again before the oracle reads them.
    """

    def write(self, contents: Mapping[str, Any]) -> None:
        """Put given host contents (BF16 as uint16 bits) into the inputs."""

    def refresh(self, key: int) -> None:
        """Rewrite all inputs with the contents of `key` (see inputs.py)."""

    def launch(self, arm: str, *, timeout_s: float, rest_ms: float = 0.0) -> Timing:
        """Poison the arm's output and scratch (fresh random poison), launch once, wait.

        The device draws little power for `rest_ms` before, and stays awake; one without a power cap
        may ignore it. Raises ArmFailed.
        """

    def fingerprint(self, arm: str, secret: int) -> Any:
        """float32 [rows, 3]: two Rademacher projections keyed by `secret`, and the squared norm."""

    def rows(self, arm: str, rows: Any) -> Any:
        """float64 [n, width]: the given rows of the arm's last output."""

    def bits(self, arm: str) -> Any:
        """uint16 [rows, width] on the host: the arm's whole last output (BF16 patterns)."""

    def oracle_inputs(self) -> Mapping[str, Any]:
        """The inputs as they stand, for `Problem.oracle`."""

    def damage(self, arm: str) -> str | None:
        """None, or what the last launch changed that it must not (canary, restored workspace)."""

    def close(self) -> None:
        """Free buffers and end this stage's arms. Safe to call twice."""


class Device(Protocol):
    """A device that can stage configurations."""

    kind: DeviceKind
    facts: DeviceFacts

    def environment(self) -> dict[str, Any]:
        """Versions, names, limits, isolation: what a record must say about the machine."""

    def stage(self, problem: Problem, configuration: Configuration, arms: Sequence[Arm]) -> Stage:
        """Allocate and load. Raises ArmFailed when an artifact cannot be loaded or set up."""

    def observe(self) -> dict[str, Any]:
        """Readings around a block: clocks, power, throttle reasons, foreign processes or load."""

    def ceiling(self) -> float:
        """TFLOPS of a short dense matrix (cuda) or FMA (cpu) probe, for '% of ceiling'."""

    def close(self) -> None:
        """Release everything. Safe to call twice."""
