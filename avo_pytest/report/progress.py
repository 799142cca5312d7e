# SPDX-License-Identifier: MIT
"""What the judge is doing now: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import rich.progress

BAR_EVERY_S = 0.1
LINE_EVERY_S = 15.0
BAR_WIDTH, FIGURES_WIDTH = 20, 26
PATIENCE_S = 1.0  # a bar that comes and goes with each quick test would only flicker


class Progress:
    """Takes the judge's events. `due` says whether an event would be shown, which costs nothing."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._interactive = out.isatty()
        self._shown_at = self._begun_at = time.monotonic()
        self._stage = ""
        self._bar: rich.progress.Progress | None = None

    def begin(self) -> None:
        """Somebody starts to wait."""
        self._begun_at = time.monotonic()

    def due(self, event: str) -> bool:
        """Stages and notes are always shown, progress and estimates now and then."""
        if event not in ("progress", "estimate"):
            return True
        now = time.monotonic()
        if not self._interactive:
            return now - self._shown_at >= LINE_EVERY_S
        waiting = self._bar is not None or now - self._begun_at >= PATIENCE_S
        return waiting and now - self._shown_at >= BAR_EVERY_S

    def show(self, event: str, text: str, done: int = 0, total: int = 0) -> None:
        """Show one event."""
        self._shown_at = time.monotonic()
        if event == "stage":
            self._stage = text
        if self._interactive:
            self._draw(event, text, done, total)
        elif event == "progress":
            self._print(f"{self._stage}: {done} of {total} ({text})")
        else:
            self._print(text)

    def stop(self) -> None:
        """Take the bar off the screen. Safe to call twice."""
        if self._bar is not None:
            bar, self._bar = self._bar, None
            bar.stop()

    def _print(self, text: str) -> None:
        self._out.write(f"avo: {text}\n")
        self._out.flush()

    def _draw(self, event: str, text: str, done: int, total: int) -> None:
        bar = self._bar or self._start()
        if event == "note":
            bar.console.print(f"avo: {text}", markup=False, highlight=False)
        else:
            room = max(10, bar.console.width - BAR_WIDTH - FIGURES_WIDTH)
            bar.update(
                bar.task_ids[0],
                description=(text if event == "estimate" else self._stage)[:room],
                completed=done,
                total=total or None,
            )
        bar.refresh()

    def _start(self) -> rich.progress.Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self._bar = Progress(
            BarColumn(bar_width=BAR_WIDTH),
            MofNCompleteColumn(),
            Remaining(),
            TextColumn("{task.description}", markup=False),
            console=Console(file=self._out),
            transient=True,
            auto_refresh=False,  # pytest owns the screen between two events
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._bar.add_task(self._stage, total=None)
        self._bar.start()
        return self._bar
