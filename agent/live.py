# SPDX-License-Identifier: MIT
"""What a run shows while it runs: a table that is redrawn on a terminal, else one line an event."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent.briefing import line
from agent.state import (
    ACCEPTED,
    ATTEMPT,
    BEGUN,
    BROKEN,
    DIRECTED,
    ENDED,
    JUDGED,
    MIGRATED,
    QUEUED,
    RESET,
    Event,
    History,
    Plan,
)
from avo_pytest.printable import printable

SHOWN = 10  # steps
LIMITS = {"usd": "max_usd", "hours": "max_hours", "gpu_seconds": "max_gpu_seconds"}


class View:
    """Listens to a run's journal."""

    def __init__(self, plan: Plan, stream: TextIO = sys.stdout) -> None:
        self.plan = plan
        self._console = Console(file=stream, highlight=False, markup=False, soft_wrap=True)
        self._live: Live | None = None
        self._history: Callable[[], History] = lambda: History(())
        self._spent: Callable[[], Mapping[str, float]] = dict

    def watch(
        self, history: Callable[[], History], spent: Callable[[], Mapping[str, float]]
    ) -> None:
        """Where the table's figures come from."""
        self._history, self._spent = history, spent

    def __enter__(self) -> View:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self.table, console=self._console, refresh_per_second=2,
                transient=True,
            )  # fmt: skip
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(printable(text))

    def event(self, event: Event) -> None:
        """A line for what people wait for."""
        if text := told(event):
            self.say(f"step {event.step}: {text}" if event.step else text)

    def table(self) -> Table:
        """Where the run stands."""
        history, spent = self._history(), self._spent()
        table = Table(title=f"{self.plan.run}  {self.plan.kernel}/{self.plan.target}", expand=False)
        table.add_column("steps")
        for step in history.steps[-SHOWN:]:
            table.add_row(Text(printable(f"{line(step)}  ({len(step.attempts)} attempts)", " ")))
        table.add_row(Text(standing(self.plan, history, spent)))
        return table


def told(event: Event) -> str:
    """An event in words; nothing for those that only the journal needs."""
    facts = event.facts
    gain = "" if facts.get("gain") is None else f" {facts['gain']:+.2%}"
    match event.kind:
        case kind if kind == BEGUN:
            return f"begun{_after(': ', facts.get('direction'))}"
        case kind if kind == ATTEMPT:
            why = _after(": ", facts.get("reason"))
            return f"{facts.get('mode')} {facts.get('verdict')}{gain}{why}"
        case kind if kind == QUEUED:
            where = facts.get("branch")
            return f"proposed as {where}, waiting for its verdict" if where else "confirm started"
        case kind if kind == JUDGED:
            return f"{facts.get('verdict')}{gain}{_after(': ', facts.get('reason'))}"
        case kind if kind in (DIRECTED, RESET):
            return f"{kind}: {facts.get('text') or facts.get('reason')}"
        case kind if kind == MIGRATED and facts["source"] != facts["island"]:
            return f"island {facts['island']} goes on from island {facts['source']}"
        case kind if kind == BROKEN:
            return f"the operator broke: {facts.get('reason')}"
        case kind if kind == ENDED:
            return f"ended: {facts.get('result')}"
    return ""


def standing(plan: Plan, history: History, spent: Mapping[str, float]) -> str:
    """Versions, attempts, what was spent of what may be."""
    versions = [e for e in history.of(ACCEPTED) if e.facts.get("landed")]
    best = max((e.facts["gain"] for e in history.of(JUDGED) if "gain" in e.facts), default=None)
    parts = [
        f"{len(versions)} versions",
        f"{len(history.of(ATTEMPT))} attempts",
        f"best verdict {best:+.2%}" if best is not None else "no verdict with a gain yet",
    ]
    for unit, name in LIMITS.items():
        limit = getattr(plan, name)
        amount = spent.get(unit, 0.0)
        if amount or limit:
            parts.append(f"{amount:.3g}{'' if limit is None else f' of {limit:g}'} {unit}")
    return " · ".join(parts)


def _after(separator: str, text: Any) -> str:
    return f"{separator}{text}" if text else ""
