# SPDX-License-Identifier: MIT
"""One kind of noise, the policy in force and a calibration under it: where candidates live."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from avo_pytest.calibration import Calibration, calibrate
from avo_pytest.devices.scenarios import NOISES, Noise
from avo_pytest.policy import SIMULATED, Policy
from avo_pytest.sample_size import effective_min_gain
from avo_pytest.score import Record
from avo_pytest.simulation.launches import Launches, Size, draw
from avo_pytest.simulation.measured import SlowMode
from avo_pytest.simulation.records import Recorder, recorder
from avo_pytest.statistics import Array

# A confirm as small as the statistics allow, so that ten thousand of them take a minute.
BLOCKS, CONFIGURATIONS = 4, 2
CALIBRATION_PROCESSES = 32
AT_ONCE = 200  # candidates whose launches are drawn together: some megabytes


@dataclass(frozen=True, slots=True)
class World:
    """Everything that the record of a simulated candidate needs."""

    noise: Noise
    policy: Policy
    calibration: Calibration
    recorder: Recorder

    @property
    def min_gain(self) -> float:
        """What a confirm has to find (log ratio)."""
        return effective_min_gain(self.policy, self.calibration)

    def records(
        self, gains: Array, random: np.random.Generator, *, heat: float = 0.0,
        mode: SlowMode | None = None,
    ) -> Iterator[Record]:  # fmt: skip
        """A whole confirm of each candidate."""
        for start in range(0, len(gains), AT_ONCE):
            some = gains[start : start + AT_ONCE]
            size = self.recorder.size
            launches = draw(self.noise, size, some, random, heat=heat, mode=mode)
            yield from (self.recorder.record(launches, i) for i in range(len(some)))

    def blocks(
        self, gains: Array, count: int, random: np.random.Generator, *, processes: int = 1
    ) -> Array:
        """Block values (candidate, block), as a screen or an old rule sees: `count` or one more,
        from as many processes in turn."""
        blocks = math.ceil(count / processes)
        size = Size(replicates=processes, blocks=blocks, configurations=CONFIGURATIONS)
        parts = [
            draw(self.noise, size, gains[start : start + AT_ONCE], random).block_values()
            for start in range(0, len(gains), AT_ONCE)
        ]
        return np.concatenate([part.reshape(len(part), -1) for part in parts])


def small(policy: Policy) -> Policy:
    """The policy in force, for confirms of the smallest size that can promote, without screen."""
    replicates = max(8, math.ceil(math.log2(1 / policy.alpha_confirm)))
    return replace(
        policy,
        isolation=SIMULATED,
        error_budget="none",
        set="simulated",
        harness="simulated",
        configurations=tuple(f"configuration-{c}" for c in range(CONFIGURATIONS)),
        confirm_blocks=BLOCKS,
        screen_blocks=0,
        replicates=replicates,
    )


def world(kind: str, policy: Policy, random: np.random.Generator) -> World:
    """Calibrated by an A/A of its own, as a machine is before its first confirm."""
    noise = NOISES[kind]
    aa = draw(noise, _size(policy, CALIBRATION_PROCESSES), np.zeros(1), random)
    made = calibrate(recorder(_size(policy, CALIBRATION_PROCESSES), policy, None).record(aa, 0))
    size = _size(policy, policy.replicates or 0)
    return World(noise, policy, made, recorder(size, policy, made))


def _size(policy: Policy, replicates: int) -> Size:
    return Size(
        replicates=replicates,
        blocks=policy.confirm_blocks,
        configurations=len(policy.configurations),
    )


def process_sd(kind: str, policy: Policy, random: np.random.Generator, count: int = 20000) -> float:
    """The true sd of a process value, from more processes than any calibration has."""
    launches: list[Launches] = []
    size = _size(policy, 1)
    for _ in range(0, count, 2000):
        launches.append(draw(NOISES[kind], size, np.zeros(2000), random))
    return float(np.std(np.concatenate([one.process_values() for one in launches]), ddof=1))
