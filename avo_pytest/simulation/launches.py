# SPDX-License-Identifier: MIT
"""Launch times of many candidates at once, in the order and with the pairing of the protocol.

The same kinds of noise as on the simulated device (devices/scenarios.py), as arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avo_pytest.devices.scenarios import Noise
from avo_pytest.simulation.measured import SlowMode
from avo_pytest.statistics import Array

ARMS = ("candidate", "incumbent", "null")
TURNS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is launched for one candidate."""

    replicates: int
    blocks: int
    configurations: int

    @property
    def of_a_candidate(self) -> int:
        """Timed launches."""
        return self.replicates * self.blocks * self.configurations * TURNS * len(ARMS)


@dataclass(frozen=True, slots=True, eq=False)
class Launches:
    """Axes: candidate, replicate, block, configuration, turn, arm (as in ARMS).

    `log_ms` is ln(milliseconds) of a launch that takes 1 ms without noise; `position` counts within
    the turn.
    """

    log_ms: Array
    position: NDArray[np.intp]

    def paired(self, a: int = 0, b: int = 1) -> Array:
        """d (candidate, replicate, block, configuration): mean over turns of ln t_b − ln t_a."""
        return np.asarray((self.log_ms[..., b] - self.log_ms[..., a]).mean(axis=-1))

    def process_values(self, a: int = 0, b: int = 1) -> Array:
        """(candidate, replicate): mean over configurations of the medians over blocks."""
        return np.asarray(np.median(self.paired(a, b), axis=2).mean(axis=-1))

    def block_values(self) -> Array:
        """(candidate, replicate, block): mean over configurations."""
        return np.asarray(self.paired().mean(axis=-1))


def draw(
    noise: Noise, size: Size, gains: Array, random: np.random.Generator, *, heat: float = 0.0,
    mode: SlowMode | None = None,
) -> Launches:  # fmt: skip
    """Everything that is timed for candidates of these true gains (log ratios).

    `heat`: a launch after one of the candidate's is slower by that, whoever's it is. With a slow
    `mode` the gains are those of the other processes.
    """
    shape = (len(gains), size.replicates, size.blocks, size.configurations)
    order = np.argsort(random.random((*shape, len(ARMS))), axis=-1)
    primer = random.integers(len(ARMS), size=(*shape, 1))
    launched = np.concatenate([primer, order, order[..., ::-1]], axis=-1)
    log_ms = _common(noise, launched.shape, random) + _launch(noise, launched.shape, random)
    log_ms += _carried(noise, launched, heat)
    biases = _loaded(noise, shape[:2], random)
    biases[..., 0] -= gains[:, None]
    if mode is not None:
        biases[..., 0] += mode.by * (random.random(shape[:2]) < mode.share)
    log_ms += np.take_along_axis(biases[:, :, None, None], launched, axis=-1)
    position = np.argsort(order, axis=-1)
    turns = log_ms[..., 1 : len(ARMS) + 1], log_ms[..., : len(ARMS) : -1]
    by_arm = [np.take_along_axis(turn, position, axis=-1) for turn in turns]
    positions = np.stack([position, len(ARMS) - 1 - position], axis=-2)
    return Launches(np.stack(by_arm, axis=-2), positions)


def _common(noise: Noise, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Drift and steps of the machine, through all launches of a process."""
    if not (noise.drift or noise.step_share):
        return np.zeros(shape)
    moves = noise.drift * random.standard_normal(shape)
    jumps = random.random(shape) < noise.step_share
    moves += noise.step * jumps * random.choice([-1, 1], size=shape)
    return np.cumsum(moves.reshape(*shape[:2], -1), axis=-1).reshape(shape)


def _launch(noise: Noise, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """What concerns one launch alone."""
    if math.isinf(noise.degrees):
        own = noise.launch * random.standard_normal(shape)
    else:
        own = noise.launch * random.standard_t(noise.degrees, size=shape)
    if noise.slow_launches:
        own += noise.slow * (random.random(shape) < noise.slow_launches)
    return own


def _loaded(noise: Noise, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """(candidate, replicate, arm): what loading made of an arm in a process."""
    biases = noise.layout * random.standard_normal((*shape, len(ARMS)))
    return np.asarray(biases + noise.slow * (random.random(biases.shape) < noise.slow_loads))


def _carried(noise: Noise, launched: NDArray[np.intp], heat: float) -> Array:
    """What the arm before leaves to a launch."""
    sequence = launched.reshape(*launched.shape[:2], -1)
    before = np.concatenate([sequence[..., :1], sequence[..., :-1]], axis=-1)
    carried = noise.carry * (before != sequence) + heat * (before == 0)
    return np.asarray(carried.reshape(launched.shape), dtype=np.float64)
