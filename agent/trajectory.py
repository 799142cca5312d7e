# SPDX-License-Identifier: MIT
"""What happened in a step, one JSON line an event, only ever added to.

What is sent is what is kept is what is shown: a conversation is exactly its `begin`, its `message`
lines and its `shed` lines, so that a killed step goes on from here. Every line has `event` and `at`
(UTC); those of a conversation have its number as `talk`.

    manifest  model, effort, sdk, hashes, prices, seed: how it was asked
    begin     talk, system, tools, brief: a fresh conversation
    message   talk, role, content: as in the Messages API, content always a list of blocks
    shed      talk, before, keep: old tool results and all thinking up to then were let go
    request   talk, number, attempt, model, max_tokens, reserved_usd; talk 0: of the summary model
    response  talk, number, request_id, model, stop_reason, refusal, usage, usd, seconds
    failure   talk, number, attempt, kind, action, text, status, request_id, wait_s, billed, usd
    tool      talk, id, name, input, text, is_error, more, facts, submission, seconds
    fault     tool, error: a tool of ours broke; the model is told that it did, not how
    handoff   talk, text: the next conversation begins with it
    ending    turns and all of `agent.step.Outcome`
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.lines import Line, Lines, read
from agent.redaction import Redactor

FILE = "trajectory.jsonl"


class Trajectory:
    """The events of one step. `redactor` sees every line before it is written."""

    def __init__(self, directory: Path, redactor: Redactor | None = None) -> None:
        self.path = directory / FILE
        self.redactor = redactor or Redactor.of_environment()
        self._lines = Lines(self.path)

    def add(self, event: str, **about: Any) -> None:
        """One event, now."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._lines.append({"event": event, "at": at, **self.redactor.value(about)})

    def close(self) -> None:
        """Safe to call twice."""
        self._lines.close()


def events(directory: Path) -> Iterator[Line]:
    """What a step's trajectory says so far, oldest first."""
    return read(directory / FILE)
