# SPDX-License-Identifier: MIT
"""All trials under all kinds of noise, on as many cores as there are, added up."""

from __future__ import annotations

import math
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context

import numpy as np

from avo_pytest.confine import die_with_parent
from avo_pytest.policy import Policy
from avo_pytest.power import minimum_detectable_gain, power
from avo_pytest.simulation.measured import Measured
from avo_pytest.simulation.trials import Counts, Task, run
from avo_pytest.simulation.world import process_sd, small

WANTED_POWER = 0.9
EVOLVED = ("normal", "layout")  # searches are long; these two show what matters
MODES_UNDER = "normal"  # a slow mode is the candidate's own, whatever the machine does
# 600 without a promotion are the fewest that bound a rate at 0.5 % with 95 % confidence: 3 / α
ALL, QUICK = 10_000, 640
AT_ONCE = {"old rules": 2500, "both stages": 1000, "evolution": 1}
FEW = 250  # of the others in one task: about a second


def simulate(
    policy: Policy,
    noises: Sequence[str],
    candidates: int,
    *,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Measured]:
    """Run everything with so many no-change candidates under each kind of noise.

    The counts depend on policy, candidates and seed, not on the workers.
    """
    blank = _promises(noises, policy, seed)
    tasks = [task for one in blank for task in _tasks(one, policy, candidates, seed)]
    # not forked: threads of numerical libraries do not survive it
    context = get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
    try:
        running = [pool.submit(run, task) for task in tasks]
        for done, future in enumerate(as_completed(running), 1):
            future.result()
            progress(done, len(tasks))
    finally:  # once: a second shutdown, as of a `with`, would take the cancelling back
        pool.shutdown(cancel_futures=True)
    # in the order of the tasks, so that sums are the same to the last bit
    results = list(zip(tasks, (future.result() for future in running), strict=True))
    return [replace(one, counts=_added(one.noise, results)) for one in blank]


def _begin_worker() -> None:
    """Ctrl-C is for the command, which then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def _added(noise: str, results: Sequence[tuple[Task, Counts]]) -> dict[str, dict[str, float]]:
    """Counts under one kind of noise by trial."""
    totals: dict[str, Counts] = {}
    for task, counts in results:
        if task.noise == noise:
            totals.setdefault(task.trial, Counter()).update(counts)
    return {trial: dict(counts) for trial, counts in totals.items()}


def _promises(noises: Sequence[str], policy: Policy, seed: int) -> list[Measured]:
    """The gain that a confirm of this size should find WANTED_POWER of the time, per noise."""
    reduced = small(policy)
    processes, alpha = reduced.replicates or 0, policy.alpha_confirm
    effect = minimum_detectable_gain(  # in units of the sd
        processes=processes, sd=1.0, min_gain=0.0, alpha=alpha, wanted=WANTED_POWER
    )
    promised = power(effect, processes=processes, sd=1.0, min_gain=0.0, alpha=alpha)
    found = []
    for noise in noises:
        sd = process_sd(noise, reduced, np.random.default_rng([seed, 0]))
        found.append(Measured(noise, sd, effect * sd, promised, {}))
    return found


def _tasks(one: Measured, policy: Policy, candidates: int, seed: int) -> list[Task]:
    searches = max(1, candidates // 500) if one.noise in EVOLVED else 0
    counts = {
        "no change": candidates,
        "min_gain": math.ceil(0.4 * candidates),
        "power": math.ceil(0.1 * candidates),
        "both stages": candidates,
        "old rules": candidates,
        "evolution": searches,
        "slow mode": math.ceil(0.1 * candidates) if one.noise == MODES_UNDER else 0,
    }
    tasks = []
    for trial_number, (trial, count) in enumerate(counts.items(), 1):
        at_once = AT_ONCE.get(trial, FEW)
        for part in range(math.ceil(count / at_once)):
            tasks.append(
                Task(
                    trial=trial,
                    noise=one.noise,
                    count=min(at_once, count - part * at_once),
                    seed=(seed, *one.noise.encode(), trial_number, part),
                    policy=policy,
                    excess=one.excess if trial == "power" else 0.0,
                )
            )
    return tasks
