# SPDX-License-Identifier: MIT
"""What passes between an operator and the run: scored attempts, and a budget that says no."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.evaluation import pathless
from agent.run import Run
from agent.state import ATTEMPT, StepState
from agent.step import Result, Spend, Tool
from avo_pytest.recording import clean

CONTROL_WITHOUT = ("lineage", "memory")  # tools that the control arm has not
KEPT_CHARACTERS = 20_000  # of an attempt's diff


class Metered:
    """A `Spend` that remembers whether it refused, so that a spent budget is told from a limit, and
    which measurements nobody has collected."""

    def __init__(self, spend: Spend) -> None:
        self._spend = spend
        self._measuring: dict[str, tuple[float, float]] = {}  # reservation → begun, seconds at most
        self.refused = ""

    def reserve(self, what: str, *, usd: float = 0.0, gpu_seconds: float = 0.0) -> str:
        """As the budget does. Raises Exhausted."""
        from agent.budget import Exhausted

        try:
            name = self._spend.reserve(what, usd=usd, gpu_seconds=gpu_seconds)
        except Exhausted as error:
            self.refused = str(error)
            raise
        if gpu_seconds:
            self._measuring[name] = time.monotonic(), gpu_seconds
        return name

    def settle(self, reservation: str, *, usd: float = 0.0, gpu_seconds: float = 0.0) -> None:
        """As the budget does."""
        self._measuring.pop(reservation, None)
        self._spend.settle(reservation, usd=usd, gpu_seconds=gpu_seconds)

    def release(self) -> None:
        """Settle measurements that were ended uncollected, at the most they can have taken."""
        for name, (begun, most_s) in tuple(self._measuring.items()):
            self.settle(name, gpu_seconds=min(most_s, time.monotonic() - begun))

    def left(self) -> Mapping[str, float]:
        """As the budget does."""
        return self._spend.left()


@dataclass(frozen=True, slots=True)
class Watched:
    """A tool whose scored results become attempts in the run's journal."""

    tool: Tool
    run_: Run
    step: int

    @property
    def name(self) -> str:
        return self.tool.name

    @property
    def description(self) -> str:
        return self.tool.description

    @property
    def schema(self) -> Mapping[str, Any]:
        return self.tool.schema

    def run(self, given: Mapping[str, Any]) -> Result:
        """As the tool does; a result that the judge has scored is noted once."""
        result = self.tool.run(given)
        ticket = result.facts.get("ticket")
        if "verdict" in result.facts and ticket not in self._known():
            self._note(result.facts)
        return result

    def _known(self) -> set[str]:
        return {str(e.facts.get("ticket")) for e in self.run_.step(self.step).attempts}

    def _note(self, facts: Mapping[str, Any]) -> None:
        number = len(self.run_.step(self.step).attempts) + 1
        diff = self.run_.space(self.run_.step(self.step)).changes(self.step)
        path = self.run_.directory(self.step) / "attempts" / f"{number:03d}.diff"
        path.parent.mkdir(exist_ok=True)
        path.write_text(diff[:KEPT_CHARACTERS], encoding="utf-8")
        kept = ("ticket", "mode", "verdict", "gain", "lower", "upper", "tflops", "correct")
        said = {k: facts[k] for k in kept if facts.get(k) is not None}
        reason = clean(pathless(str(facts.get("reason", ""))))
        self.run_.journal.append(ATTEMPT, self.step, **said, reason=reason, diff=path.name)


def watched(run: Run, step: StepState, worktree: Path, spend: Spend) -> Sequence[Tool]:
    """The tools of a step, in order of their names."""
    from agent import shell
    from agent.tools import toolbox

    found = toolbox(
        worktree,
        run.space(step).folder(step.number),
        workspace=run.space(step),
        evaluator=run.evaluator,
        spend=spend,
        knowledge=run.knowledge,
        memory=run.memory,
        lineage_root=run.clone.root,
        shell=not shell.refusal(),
        author="",  # the operator says who
    )
    left_out = CONTROL_WITHOUT if run.plan.control else ()
    return [Watched(tool, run, step.number) for tool in found if tool.name not in left_out]
