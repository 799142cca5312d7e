# SPDX-License-Identifier: MIT
"""How long a simulated launch takes. Time is virtual, so nothing sleeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from avo_pytest.devices.scenarios import Scenario
from avo_pytest.devices.scripts import Script


@dataclass(frozen=True, slots=True)
class Loaded:
    """What this process makes of an arm, in ln(time), whatever the arm does."""

    script: Script
    bias: float


class SimulatedClock:
    """One process's times. Seed and replicate decide all of them, given the order of calls."""

    def __init__(self, scenario: Scenario, *, seed: bytes, replicate: int) -> None:
        self._noise, self._incidents, self._ms = scenario.noise, scenario.incidents, scenario.ms
        self._random = np.random.default_rng([int.from_bytes(seed), replicate])
        self._loaded: dict[str, Loaded] = {}
        self._before: str | None = None
        self._drift = 0.0
        self.throttled = False

    def load(self, arm: str, script: Script) -> None:
        """An arm comes into the process, at a place that costs or saves it something."""
        if arm not in self._loaded:
            bias = self._noise.layout * self._random.standard_normal()
            bias += self._noise.slow * self._happens(self._noise.slow_loads)
            self._loaded[arm] = Loaded(script, bias)

    def next_block(self) -> None:
        """Draws whether the machine throttles from now on."""
        self.throttled = self._happens(self._incidents.throttled)

    def launch(self, arm: str, configuration: str) -> tuple[float, str | None]:
        """Milliseconds of the next launch, and what disturbed it."""
        loaded, noise, incidents = self._loaded[arm], self._noise, self._incidents
        script = loaded.script
        log = loaded.bias - script.gain - script.gains.get(configuration, 0.0)
        log += self._common() + noise.launch * self._tailed()
        log += noise.slow * self._happens(noise.slow_launches) + self._carried(arm)
        disturbed = self._happens(incidents.disturbed)
        log += incidents.disturbed_by * disturbed + incidents.throttled_by * self.throttled
        self._before = arm
        return self._ms * math.exp(log), "scripted load of other processes" if disturbed else None

    def _common(self) -> float:
        """Drift and steps, which all arms share."""
        noise = self._noise
        self._drift += noise.drift * self._random.standard_normal()
        if self._happens(noise.step_share):
            self._drift += noise.step * self._random.choice((-1, 1))
        return self._drift

    def _carried(self, arm: str) -> float:
        if self._before is None:
            return 0.0
        heat = self._loaded[self._before].script.heat
        return heat + self._noise.carry * (self._before != arm)

    def _tailed(self) -> float:
        degrees = self._noise.degrees
        draw = self._random.standard_normal
        return float(draw() if math.isinf(degrees) else self._random.standard_t(degrees))

    def _happens(self, share: float) -> bool:
        return bool(self._random.random() < share)
