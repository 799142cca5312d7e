# SPDX-License-Identifier: MIT
"""A device without hardware: outputs are computed and checked, times are scripted, nothing sleeps.

The whole judge runs on it. It is no place for a candidate to be promoted: its isolation is `none`.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avo_pytest import inputs
from avo_pytest.devices import Arm, ArmFailed, Timing
from avo_pytest.devices.scenarios import DEVICE, Scenario
from avo_pytest.devices.scripts import FAULTS, Script, load
from avo_pytest.devices.simulated_clock import SimulatedClock
from avo_pytest.fingerprints import fingerprint
from avo_pytest.plan import DeviceFacts
from avo_pytest.problem import Configuration, DeviceKind, Problem

Bits = NDArray[np.uint16]


class SimulatedDevice:
    """A `Device`. `seed` decides inputs and times; `replicate` is the number of this process."""

    kind: DeviceKind = "cpu"

    def __init__(self, scenario: Scenario, *, seed: bytes, replicate: int = 0) -> None:
        self.facts = DeviceFacts(arch=DEVICE)
        self.seed, self.replicate = seed, replicate
        self.clock = SimulatedClock(scenario, seed=seed, replicate=replicate)
        self._scenario = scenario
        self._launches = 0
        self._of_arm: dict[str, int] = {}

    def environment(self) -> dict[str, Any]:
        """Says what it is, wherever a record of a real device names its own."""
        return {"device": DEVICE, "scenario": self._scenario.name, "isolation": "none"}

    def stage(
        self, problem: Problem, configuration: Configuration, arms: Sequence[Arm]
    ) -> SimulatedStage:
        """Load the arms' scripts; a baseline is an arm without one. Raises ArmFailed."""
        scripts = {arm.name: _script(arm) for arm in arms}
        for name, script in scripts.items():
            self.clock.load(name, script)
        return SimulatedStage(self, problem, configuration, scripts)

    def observe(self) -> dict[str, Any]:
        """What the scenario wants seen, under the names that a GPU's readings have."""
        self.clock.next_block()
        throttled = self.clock.throttled
        return {
            "throttle": 0x40 if throttled else 0,
            "throttle_reasons": ["hardware thermal slowdown"] if throttled else [],
            "foreign_processes": list(self._scenario.incidents.foreign),
        }

    def ceiling(self) -> float:
        """None: there is nothing to be near to."""
        return 0.0

    def close(self) -> None:
        """Nothing to release."""

    def begin_launch(self, arm: str) -> int:
        """Count a launch and give its number among the arm's own; the worker may be lost here."""
        incidents = self._scenario.incidents
        here = not incidents.lost_in or self.replicate in incidents.lost_in
        if here and self._launches == incidents.lost_at:
            _lose_the_worker()
        self._launches += 1
        self._of_arm[arm] = self._of_arm.get(arm, -1) + 1
        return self._of_arm[arm]


class SimulatedStage:
    """A `Stage`: an arm's output is the honest kernel's, less what its script does to it."""

    def __init__(
        self,
        device: SimulatedDevice,
        problem: Problem,
        configuration: Configuration,
        scripts: Mapping[str, Script],
    ) -> None:
        self._device, self._problem, self._configuration = device, problem, configuration
        self._scripts = scripts
        self._specs = [s for s in problem.tensors(configuration) if s.role == "input"]
        scales = problem.input_scale(configuration)
        self._scales = {s.name: scales.get(s.name, 1.0) for s in self._specs}
        self._inputs: dict[str, Any] = {}
        self._honest: Bits | None = None  # of the inputs as they stand
        output = problem.output(configuration)
        self._outputs: dict[str, Bits] = {
            name: np.zeros((output.rows, output.shape[-1]), np.uint16) for name in scripts
        }
        self._first: dict[str, Bits] = {}
        self._damage: dict[str, str] = {}

    def write(self, contents: Mapping[str, Any]) -> None:
        self._inputs = {spec.name: np.array(contents[spec.name]) for spec in self._specs}
        self._honest = None

    def refresh(self, key: int) -> None:
        seed, scales = self._device.seed, self._scales
        self.write({s.name: inputs.fill(s, seed, key, scales[s.name]) for s in self._specs})

    def launch(self, arm: str, *, timeout_s: float, rest_ms: float = 0.0) -> Timing:
        """The next scripted time; `rest_ms` costs nothing. Raises ArmFailed."""
        script = self._scripts[arm]
        fault = script.faulty(self._device.begin_launch(arm), self._device.replicate)
        if fault == "lost":
            _lose_the_worker()
        if fault in ("crash", "timeout"):
            status = {"crash": "crashed", "timeout": "timeout"}[fault]
            raise ArmFailed(arm, status, f"{self._configuration.name}: {FAULTS[fault]} (scripted)")
        self._outputs[arm][:] = inputs.poison(secrets.randbits(16))
        self._compute(arm, fault)
        ms, disturbed = self._device.clock.launch(arm, self._configuration.name)
        return Timing(ms=ms, host_ms=ms, disturbed=disturbed)

    def fingerprint(self, arm: str, secret: int) -> NDArray[np.float32]:
        with np.errstate(invalid="ignore"):  # poison is a signalling NaN
            return fingerprint(self._outputs[arm], secret)

    def rows(self, arm: str, rows: Any) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return inputs.from_bf16(self._outputs[arm][rows]).astype(np.float64)

    def bits(self, arm: str) -> Bits:
        return self._outputs[arm].copy()

    def oracle_inputs(self) -> Mapping[str, Any]:
        return MappingProxyType(self._inputs)

    def damage(self, arm: str) -> str | None:
        return self._damage.pop(arm, None)

    def close(self) -> None:
        self._outputs.clear()

    def _compute(self, arm: str, fault: str) -> None:
        output, honest = self._outputs[arm], self._right_output()
        self._first.setdefault(arm, honest)
        output[:] = self._first[arm] if fault == "stale" else honest
        if fault == "zeros":
            output[:] = 0
        elif fault == "row":
            output[-1] = inputs.poison(0)
        elif fault in ("input", "canary"):
            self._damage[arm] = FAULTS[fault]

    def _right_output(self) -> Bits:
        """Once for all arms of a turn, which see the same inputs."""
        if self._honest is None:
            oracle = self._problem.oracle(self._configuration, self.oracle_inputs(), None)
            self._honest = inputs.to_bf16(oracle.honest)
        return self._honest


def _script(arm: Arm) -> Script:
    if arm.artifact is None:
        return Script()
    try:
        return load(arm.artifact)
    except (OSError, ValueError, KeyError) as error:
        raise ArmFailed(arm.name, "build_error", f"{arm.artifact}: {error}") from error


def _lose_the_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
