# SPDX-License-Identifier: MIT
"""What is asked of the rule, in pieces that any process can run: a task in, counts out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from avo_pytest.policy import Policy
from avo_pytest.promotion import Kind, Verdict, decide
from avo_pytest.screen import scale
from avo_pytest.simulation import naive
from avo_pytest.simulation.measured import OURS, SLOW_MODES, STREAM, SlowMode
from avo_pytest.simulation.screening import promising
from avo_pytest.simulation.world import World, small, world
from avo_pytest.statistics import Array

# Some candidates are as fast as the incumbent and leave the device hot: who runs after them pays.
HEAT = 0.005
SCREEN_PROCESSES = 2  # as the judge has them, where the first does not decide
PEEKS = 60  # blocks after which the peeking rule gives up
# Candidates of a search (measuring against the incumbent of the moment, in ln): nine of ten are
# about as good or worse, one is better.
WORSE, BETTER, SPREAD, BETTER_SHARE = -0.004, 0.004, 0.003, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """`count` candidates (or streams of them) of one trial under one kind of noise.

    `excess`: their true gain above the world's min_gain, where the trial asks for one.
    """

    trial: str
    noise: str
    count: int
    seed: tuple[int, ...]
    policy: Policy
    excess: float = 0.0


Counts = Counter[str]
Trial = Callable[[World, Task, np.random.Generator], Mapping[str, float]]


def run(task: Task) -> Counts:
    """Counts and sums of one task; the same for the same seed."""
    random = np.random.default_rng(task.seed)
    here = world(task.noise, small(task.policy), random)
    return Counter(dict(TRIALS[task.trial](here, task, random)))


def no_change(here: World, task: Task, random: np.random.Generator) -> Mapping[str, float]:
    """Confirms of candidates that are no faster, without the screen that most of them die in.

    Where there is carry-over, every second one leaves the device hot.
    """
    hot = task.count // 2 if here.noise.carry else 0
    verdicts = decided(here, np.zeros(hot), random, heat=HEAT)
    return _kinds(verdicts + decided(here, np.zeros(task.count - hot), random))


def above_min_gain(here: World, task: Task, random: np.random.Generator) -> Mapping[str, float]:
    """Confirms of candidates that gain min_gain and `excess`; at 0 the error is largest."""
    return _kinds(decided(here, np.full(task.count, here.min_gain + task.excess), random))


def slow_mode(here: World, task: Task, random: np.random.Generator) -> Mapping[str, float]:
    """Candidates with a rare slow mode of their own, whose true mean gain is just min_gain."""
    counts: dict[str, float] = {}
    for name, mode in SLOW_MODES.items():
        gains = np.full(task.count, here.min_gain + mode.mean)
        verdicts = decided(here, gains, random, mode=mode)
        counts[f"{name}: confirms"] = len(verdicts)
        counts[f"{name}: promoted"] = sum(v.kind is Kind.PROMOTE for v in verdicts)
    return counts


def both_stages(here: World, task: Task, random: np.random.Generator) -> Mapping[str, float]:
    """Candidates that are no faster, through the screen and, those that pass it, the confirm."""
    passed, verdicts = _screened(here, task.policy, np.zeros(task.count), random)
    return {"screened": task.count, "passed": int(passed.sum()), **_kinds(verdicts)}


def old_rules(here: World, task: Task, random: np.random.Generator) -> Mapping[str, float]:
    """The same candidates before the rules that ours replaces: how many each promotes."""
    none = np.zeros(task.count)
    d = here.blocks(none, PEEKS, random)
    counts = {name: rule(d).promoted.sum() for name, rule in naive.PAIRED.items()}
    for name, margin in naive.STORED.items():
        counts[name] = naive.stored_best(none[:, None], random, margin).promoted.sum()
    return {"candidates": task.count, **{name: int(n) for name, n in counts.items()}}


def evolution(here: World, task: Task, random: np.random.Generator) -> Mapping[str, float]:
    """`count` searches of STREAM candidates each: what each rule promotes, claims and gains."""
    gains = _candidates((task.count, STREAM), random)
    flat = gains.ravel()
    d = here.blocks(flat, PEEKS, random)
    found = {name: rule(d) for name, rule in naive.PAIRED.items()}
    for name, margin in naive.STORED.items():
        stored = naive.stored_best(gains, random, margin)
        found[name] = naive.Decided(stored.promoted.ravel(), stored.claimed.ravel())
    found[OURS] = _ours(here, task.policy, flat, random)
    totals: dict[str, float] = {"streams": task.count}
    for name, one in found.items():
        true = flat[one.promoted]
        totals[f"{name}: promoted"] = len(true)
        totals[f"{name}: no better"] = int((true <= 0).sum())
        totals[f"{name}: true gain"] = float(true.sum())
        totals[f"{name}: claimed gain"] = float(one.claimed[one.promoted].sum())
    return totals


TRIALS: Mapping[str, Trial] = MappingProxyType(
    {
        "no change": no_change,
        "min_gain": above_min_gain,
        "power": above_min_gain,
        "slow mode": slow_mode,
        "both stages": both_stages,
        "old rules": old_rules,
        "evolution": evolution,
    }
)


def decided(
    here: World, gains: Array, random: np.random.Generator, *, heat: float = 0.0,
    mode: SlowMode | None = None,
) -> list[Verdict]:  # fmt: skip
    """The real rule on a whole confirm of each candidate."""
    records = here.records(gains, random, heat=heat, mode=mode)
    return [decide(record, here.policy) for record in records]


def _ours(here: World, policy: Policy, gains: Array, random: np.random.Generator) -> naive.Decided:
    passed, verdicts = _screened(here, policy, gains, random)
    promoted = passed.copy()
    promoted[passed] = [v.kind is Kind.PROMOTE for v in verdicts]
    claimed = np.zeros(len(gains))
    claimed[passed] = [v.gain or 0.0 for v in verdicts]
    return naive.Decided(promoted, claimed)


def _screened(
    here: World, policy: Policy, gains: Array, random: np.random.Generator
) -> tuple[NDArray[np.bool_], list[Verdict]]:
    """Who passes the screen, and the verdicts on these."""
    passed = np.ones(len(gains), dtype=np.bool_)
    if policy.screen_blocks:
        d = here.blocks(gains, policy.screen_blocks, random, processes=SCREEN_PROCESSES)
        passed = promising(d, policy, scale(here.calibration.block_sd), here.min_gain)
    return passed, decided(here, gains[passed], random)


def _candidates(shape: tuple[int, int], random: np.random.Generator) -> Array:
    """True gains as a search proposes them."""
    worse = WORSE + SPREAD * random.standard_normal(shape)
    better = np.abs(BETTER + SPREAD * random.standard_normal(shape))
    return np.where(random.random(shape) < BETTER_SHARE, better, worse)


def _kinds(verdicts: list[Verdict]) -> dict[str, float]:
    """How many of each kind; of the INVALID by the rule that spoke first."""
    counts = Counter({"confirms": len(verdicts)})
    counts.update(str(v.kind) for v in verdicts)
    counts.update(f"INVALID: {v.reasons[0].rule}" for v in verdicts if v.kind is Kind.INVALID)
    return dict(counts)
