# SPDX-License-Identifier: MIT
"""What to do about a search that goes nowhere: several directions, each given one full step.

A ladder: new directions, then bolder ones, then another starting point, then a stop with a report.
A gain leads back to its foot. It only ever writes briefs and regions; it edits no code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from typing import Any

from agent.detector import Attempted, Finding, Thresholds, detect
from agent.directions import Direction, built_in, directions, distinct
from avo_pytest.printable import printable

Ask = Callable[[str, str], str]  # system and text to the model's answer
AT_ONCE = 3  # directions of one intervention


class Rung(IntEnum):
    """How far the search has been pushed since its last gain."""

    NONE = 0
    DIRECTIONS = 1  # same operator, same tip, somewhere else to look
    BOLDER = 2  # structure instead of details
    RESTART = 3  # from `main` or another island's tip
    STOP = 4  # with a report


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Where a run's supervision stands: kept in the run's state, plain values only."""

    rung: Rung = Rung.NONE
    since: int = 0  # attempts before the last intervention; the detector starts counting here
    queue: tuple[Direction, ...] = ()  # to be given a step each
    tried: tuple[Direction, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the state on disk."""
        return {**asdict(self), "rung": int(self.rung)}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Course:
        """The same back. Raises KeyError, TypeError or ValueError."""
        return cls(
            rung=Rung(raw["rung"]),
            since=int(raw["since"]),
            queue=tuple(Direction(**d) for d in raw["queue"]),
            tried=tuple(Direction(**d) for d in raw["tried"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """What the next step is told. `direction` is None only on the last rung, which ends the run."""

    rung: Rung
    direction: Direction | None
    finding: Finding | None = None  # None: a direction that had been waiting
    text: str


def supervise(
    course: Course,
    history: Sequence[Attempted],
    *,
    digest: str = "",
    model: Ask | None = None,
    thresholds: Thresholds | None = None,
) -> tuple[Course, Intervention | None]:
    """After each step: how the next one is steered, if at all, and the course from there on.

    Without a model the ladder has directions of its own. Whatever `model` raises is passed on.
    """
    if any(attempt.gained for attempt in history[course.since :]):
        course = replace(course, rung=Rung.NONE)
    if course.queue:
        return _next(course, len(history), None)
    finding = detect(history, since=course.since, thresholds=thresholds)
    if not finding:
        return course, None
    rung = Rung(min(course.rung + 1, Rung.STOP))
    course = replace(course, rung=rung, since=len(history))
    if rung is Rung.STOP:
        return course, Intervention(
            rung=rung, direction=None, finding=finding, text=_report(course, finding)
        )
    found = _found(finding, digest, model, course)
    return _next(replace(course, queue=tuple(found)), len(history), finding)


def brief(intervention: Intervention) -> str:
    """What goes into the next step's brief."""
    direction = intervention.direction
    if direction is None:
        return intervention.text
    why = f"\nWhy: {direction.why}" if direction.why else ""
    return (
        f"The supervisor's direction for this step, a strong suggestion and not an order "
        f"({intervention.text}):\n{direction.title}\n{direction.brief}{why}"
    )


def digest(
    history: Sequence[Attempted], *, lineage: str = "", notes: str = "", last: int = 60
) -> str:
    """The trajectory in a line an attempt, with lineage and notes, for the supervisor's model."""
    first = max(len(history) - last, 0)
    lines = [_line(i, a) for i, a in enumerate(history[first:], first + 1)]
    parts = (("Attempts", "\n".join(lines)), ("Lineage", lineage), ("Notes", notes))
    return "\n\n".join(f"{title}:\n{text}" for title, text in parts if text)


def _found(finding: Finding, text: str, model: Ask | None, course: Course) -> list[Direction]:
    """A new starting point gets one direction: each further one would start anew again."""
    bolder = course.rung > Rung.DIRECTIONS
    known = list(course.tried)
    asked = directions(finding, text, model, tried=known, bolder=bolder) if model else []
    spare = built_in(finding.kind, bolder=bolder)
    found = asked or distinct(spare, known) or spare
    return found[: 1 if course.rung is Rung.RESTART else AT_ONCE]


def _next(course: Course, attempts: int, finding: Finding | None) -> tuple[Course, Intervention]:
    direction, *rest = course.queue
    moved = replace(course, since=attempts, queue=tuple(rest), tried=(*course.tried, direction))
    text = finding.text if finding else f"{len(rest)} more are waiting"
    rung = course.rung or Rung.DIRECTIONS
    return moved, Intervention(rung=rung, direction=direction, finding=finding, text=text)


def _report(course: Course, finding: Finding) -> str:
    tried = "\n".join(f"- {direction.title}" for direction in course.tried)
    return f"stopped: {finding.text}, after these directions had a step each:\n{tried}"


def _line(number: int, attempt: Attempted) -> str:
    gain = "" if attempt.gain is None else f" {100 * attempt.gain:+.2f} %"
    mark = " ACCEPTED" if attempt.gained else ""
    failure = f" {printable(attempt.failure, ' ')[:160]}" if attempt.failure else ""
    changed = [line for line in attempt.diff.splitlines() if line[:1] in ("+", "-")]
    code = [line for line in changed if not line.startswith(("+++", "---"))]
    first = next((line for line in code if line[0] == "+"), "")
    edit = f", {len(code)} lines changed, first {printable(first)[:80]}" if code else ""
    return f"{number} (step {attempt.step}{edit}) {attempt.verdict}{gain}{mark}{failure}"
