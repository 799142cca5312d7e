# SPDX-License-Identifier: MIT
"""A run as its phases see it: the plan, what is on disk, and the parts that do the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from agent.clone import Clone
from agent.config import Settings
from agent.knowledge import Knowledge
from agent.memory import Memory
from agent.state import ACCEPTED, MIGRATED, RESET, Event, History, Journal, Plan, StepState
from agent.step import Operator, Spend, Submission, Tool
from agent.supervisor import Ask
from agent.working import Accepted


class Space(Protocol):
    """What a run needs of `agent.workspace.Workspace`."""

    def begin(self, run: str, kernel: str, target: str) -> str: ...
    def tip(self) -> str: ...
    def main(self) -> str: ...
    def worktree(self, number: int) -> Path: ...
    def folder(self, number: int) -> Path: ...
    def propose(self, number: int, submission: Submission) -> str: ...
    def accept(self, commit: str) -> str: ...
    def return_to_main(self) -> str: ...
    def keep_failed(self, number: int, reason: str) -> str: ...
    def changes(self, number: int) -> str: ...
    def close(self, number: int) -> None: ...


Toolbox = Callable[[StepState, Path], Sequence[Tool]]
Spent = Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that a phase may use."""

    plan: Plan
    home: Path
    journal: Journal
    clone: Clone
    spaces: Sequence[Any]  # one `Space` an island
    evaluator: Any  # agent.evaluate.Evaluator
    operator: Operator
    spend: Spend
    spent: Spent
    settings: Settings
    knowledge: Knowledge
    memory: Memory
    ask: Ask | None = None  # the supervisor's model
    confirm_s: float = 0.0  # how long one takes here

    @property
    def history(self) -> History:
        """What has happened."""
        return self.journal.history

    def step(self, number: int) -> StepState:
        """One step as it stands."""
        return next(step for step in self.history.steps if step.number == number)

    def space(self, step: StepState) -> Any:
        """The branches and worktrees of a step's island."""
        return self.spaces[step.island]

    def directory(self, number: int) -> Path:
        """Where a step keeps its trajectory and outputs, for ever."""
        path = self.home / "steps" / f"{number:04d}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def accepted(self, island: int) -> list[Accepted]:
        """The island's working lineage since it last stood at `main`."""
        found: list[Accepted] = []
        for event in self.history.events:
            if event.facts.get("island", 0) != island:
                continue
            if event.kind == RESET or (event.kind == ACCEPTED and event.facts.get("landed")):
                found = []
            elif event.kind == MIGRATED and event.facts["source"] != island:
                found = [_moved(event)]
            elif event.kind == ACCEPTED:
                found.append(_moved(event))
        return found


def _moved(event: Event) -> Accepted:
    """A step of the working lineage, or all that came over from another island."""
    return Accepted(
        commit=str(event.facts["commit"]),
        at=datetime.fromisoformat(event.at),
        gain=float(event.facts["gain"]),
    )
