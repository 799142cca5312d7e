# SPDX-License-Identifier: MIT
"""The outer loop: Vary(P_t) = Agent(P_t, K, f), step after step, until the first limit.

What happened is in the run's journal before the next thing begins; `agent.phases` says how each
part of a step may be repeated. A run that was killed anywhere goes on here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from agent import islands, phases, steering
from agent.budget import Exhausted
from agent.run import Run
from agent.state import CLOSED, ENDED, StepState
from agent.step import Ending


class Exit(IntEnum):
    """How the process ends; a contract for scripts."""

    DONE = 0  # all steps, or nothing left to try
    FAILED = 1
    USAGE = 2
    SUSPENDED = 3  # proposals wait for their verdicts elsewhere
    LIMIT = 4  # a budget is spent
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Why a run stopped here; `--resume` goes on from anything but DONE."""

    exit: Exit
    reason: str


def evolve(run: Run) -> Conclusion:
    """Everything that can be done now."""
    try:
        while True:
            moved = [advance(run, step) for step in run.history.unfinished]
            if any(moved):
                continue
            if stop := finished(run):
                return concluded(run, stop)
            island = islands.free(run)
            if island is None:
                return Conclusion(Exit.SUSPENDED, "proposals wait for their verdicts")
            islands.migrate(run, island)
            phases.begin(run, island, steering.steer(run, island))
    except Exhausted as error:
        return Conclusion(Exit.LIMIT, str(error))
    except KeyboardInterrupt:
        return Conclusion(Exit.INTERRUPTED, f"--resume {run.plan.run} goes on with it")


def advance(run: Run, step: StepState) -> bool:
    """Take a step as far as it goes; whether it went anywhere."""
    moved = False
    while kind := run.step(step.number).following:
        facts = phases.PHASES[kind](run, run.step(step.number))
        if facts is None:
            return moved
        run.journal.append(kind, step.number, **facts)
        moved = True
        if facts.get("ending") == Ending.INTERRUPTED:
            raise KeyboardInterrupt
    return moved


def finished(run: Run) -> str:
    """Why no further step begins; empty: one does."""
    history = run.history
    ended = sum(step.has(ENDED) for step in history.steps)
    if len(history.steps) >= run.plan.steps:
        return f"{ended} steps" if ended == len(history.steps) else ""
    if stopped := steering.stopped(run):
        return stopped
    if run.spend.left().get("hours", 1.0) <= 0:
        raise Exhausted("the hours are spent")
    return ""


def concluded(run: Run, reason: str) -> Conclusion:
    """The end of a run that has nothing left to do."""
    if not run.history.of(CLOSED):
        run.journal.append(CLOSED, reason=reason)
    return Conclusion(Exit.DONE, reason)
