# SPDX-License-Identifier: MIT
"""One variation step as values: what an operator gets, what it may call, what comes of it.

The seam between the outer loop (`evolve`), the operators and the tools. No behaviour here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


class Ending(StrEnum):
    """How a step ended."""

    SUBMITTED = "submitted"  # it has a proposal
    ABANDONED = "abandoned"  # it gave up, or was without a scored attempt for too long
    LIMIT = "limit"  # the run's budget, or the step's own limits
    FAILED = "failed"  # the operator broke; the reason says how
    INTERRUPTED = "interrupted"  # Ctrl-C; it can be resumed


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What the operator says of its proposal; gains are fractions (0.01 is 1 %)."""

    idea: str  # one line
    rationale: str = ""
    expected_gain: float | None = None
    measured_gain: float | None = None
    author: str = ""  # who or what wrote it: an AI is named as one


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a tool answers. `more` names how to see what was left out; errors are data."""

    text: str
    is_error: bool = False
    more: str = ""
    submission: Submission | None = None  # of `submit`: the step ends
    facts: Mapping[str, Any] = field(default_factory=dict)  # for the loop and the record


class Tool(Protocol):
    """Something an operator may call. `schema` is the JSON Schema of its input."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def schema(self) -> Mapping[str, Any]: ...
    def run(self, given: Mapping[str, Any]) -> Result: ...


class Spend(Protocol):
    """The budget as an operator sees it: reserve before each request, settle after it."""

    def reserve(self, what: str, *, usd: float = 0.0, gpu_seconds: float = 0.0) -> str:
        """A reservation's name. Raises `agent.budget.Exhausted`."""
        ...

    def settle(self, reservation: str, *, usd: float = 0.0, gpu_seconds: float = 0.0) -> None:
        """What it came to in the end; a reservation that was never settled counts in full."""
        ...

    def left(self) -> Mapping[str, float]:
        """What remains: `usd`, `hours`, `gpu_seconds`; infinite where there is no limit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one step; the first to be reached ends it."""

    turns: int = 80
    minutes_without_score: float = 45.0
    usd_without_score: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Everything an operator needs for one step.

    `worktree` is a checkout of the working lineage's tip; `folder` is the one folder below it that
    may change. `directory` is the step's own place for trajectory and outputs, kept for ever.
    """

    run: str
    number: int
    kernel: str
    target: str
    worktree: Path
    folder: Path
    directory: Path
    brief: str
    tools: Sequence[Tool]
    spend: Spend
    limits: Limits = Limits()
    seed: int = 0
    region: str = ""  # where a sweep looks, one of `agent.directions.REGIONS`


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a step. `usage`: requests, input_tokens, cached_tokens, output_tokens, usd."""

    ending: Ending
    reason: str = ""
    submission: Submission | None = None
    attempts: int = 0  # scored ones
    usage: Mapping[str, float] = field(default_factory=dict)
    note: str = ""  # where it stood, for whoever goes on: of a step that did not submit


class Operator(Protocol):
    """What performs a step: claude, command, sweep."""

    @property
    def name(self) -> str: ...
    def preflight(self) -> None:
        """Raises `agent.config.ConfigurationError` with the fix where it could not work."""
        ...

    def vary(self, step: Step) -> Outcome: ...
