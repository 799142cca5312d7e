# SPDX-License-Identifier: MIT
"""The operator that needs neither key nor network: a search over the manifest's constants.

The constants that a kernel ships are the best known. That nothing better is found is a result, not
a failure: the step ends without a proposal, and the manifest is as it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from agent import constants
from agent.budget import Exhausted
from agent.config import ConfigurationError, Settings
from agent.constants import ConstantsError, Dimension, Values
from agent.search import QUICK, SCREEN, Search, Trial
from agent.step import Ending, Outcome, Step, Submission
from avo_pytest.journal import write_atomically

START = "start.json"
AUTHOR = "avo sweep (optuna)"


def create(settings: Settings) -> Sweep:
    """The operator; nothing of the settings concerns it."""
    return Sweep()


class Sweep:
    """`agent.step.Operator`."""

    name = "sweep"

    def preflight(self) -> None:
        """Whether the optimiser is installed."""
        try:
            import optuna  # noqa: F401
        except ImportError as error:
            raise ConfigurationError(
                "the sweep needs optuna: pip install -e '.[agent]' (make evolve does so)"
            ) from error

    def vary(self, step: Step) -> Outcome:
        """Try settings until one is worth a proposal, or turns, time or budget are spent."""
        try:
            dimensions = _start(step)
        except ConstantsError as error:
            return Outcome(ending=Ending.FAILED, reason=str(error))
        search = Search(
            step.directory.parent,
            dimensions,
            seed=step.seed,
            step=step.number,
            region=step.region,
        )
        try:
            return _searched(step, search)
        except Exhausted as error:
            return _held(step, search, Ending.LIMIT, str(error))
        finally:
            search.close()


def _searched(step: Step, search: Search) -> Outcome:
    began = time.monotonic()
    for line in search.mine:  # of a process that was killed before it could say so
        if line["promising"]:
            return _submitted(step, search, line["values"], line["gains"][str(SCREEN)])
    while len(search.mine) < step.limits.turns:
        trial = search.ask()
        if trial is None:
            return _held(step, search, Ending.ABANDONED, "every setting of this region was tried")
        gain = _climbed(step, trial)
        if gain is not None:
            return _submitted(step, search, trial.values, gain)
        if time.monotonic() - began > 60 * step.limits.minutes_without_score:
            return _held(step, search, Ending.LIMIT, "the step's time is spent")
    return _held(step, search, Ending.ABANDONED, "its turns are spent")


def _climbed(step: Step, trial: Trial) -> float | None:
    """The gain of a setting that the screen, too, found faster; None for any other."""
    constants.write(step.folder, trial.values)
    for rung, mode in ((QUICK, "quick"), (SCREEN, "screen")):
        facts = _scored(step, mode)
        if not facts.get("correct") or facts.get("gain") is None:
            trial.end(note=str(facts.get("reason", ""))[:200])
            return None
        gain = float(facts["gain"])
        if not trial.climbs(rung, gain):
            trial.end()
            return None
    promising = (facts.get("lower") or 0.0) > 0
    trial.end(promising=promising)
    return gain if promising else None


def _scored(step: Step, mode: str) -> Mapping[str, Any]:
    """What the judge says of the folder as it is now, through the step's own tools."""
    tools = {tool.name: tool for tool in step.tools}
    result = tools["score"].run({"mode": mode, "against": "tip"})
    while not result.is_error and (ticket := result.facts.get("ticket")):
        result = tools["wait"].run({"ticket": ticket})
        if "gain" in result.facts:
            break
    if result.is_error and "gain" not in result.facts:
        return {"correct": False, "reason": result.text}
    return result.facts


def _start(step: Step) -> tuple[Dimension, ...]:
    """The dimensions with the values of the tip, whatever a killed sweep left in the manifest."""
    path = step.directory / START
    if path.exists():
        constants.write(step.folder, json.loads(path.read_text(encoding="utf-8")))
    dimensions = constants.read(step.folder)
    if not path.exists():
        write_atomically(path, json.dumps({d.key: d.value for d in dimensions}))
    return dimensions


def _submitted(step: Step, search: Search, values: Values, gain: float) -> Outcome:
    constants.write(step.folder, values)
    changed = constants.told(search.start, values)
    submission = Submission(
        idea=f"constants: {changed}"[:120],
        rationale=f"A sweep tried {len(search.known)} settings; this one passed a screen.",
        measured_gain=gain,
        author=AUTHOR,
    )
    return Outcome(ending=Ending.SUBMITTED, submission=submission, attempts=len(search.mine))


def _held(step: Step, search: Search, ending: Ending, why: str) -> Outcome:
    constants.write(step.folder, search.start)
    best = search.best()
    tried = f"{len(search.known)} settings tried"
    seen = f"; the best, {constants.told(search.start, best[0])}, at {best[1]:+.2%}" if best else ""
    return Outcome(
        ending=ending,
        reason=f"the incumbent's constants held: {tried}{seen} ({why})",
        attempts=len(search.mine),
    )
