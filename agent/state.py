# SPDX-License-Identifier: MIT
"""A run on disk: its plan, and an append-only journal from which everything else is folded.

Each event is written after what it tells has happened, and what happens can be repeated: a run
that was killed at any instruction goes on where its journal ends.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from agent.lines import Line, Lines, read
from avo_pytest.journal import write_atomically

# of a step, in this order
BEGUN, VARIED, PROPOSED, QUEUED = "begun", "varied", "proposed", "queued"
JUDGED, RECORDED, ACCEPTED, ABANDONED, ENDED = (
    "judged", "recorded", "accepted", "abandoned", "ended",
)  # fmt: skip
ATTEMPT, BROKEN = "attempt", "broken"  # any number, before VARIED
# of the run
OPENED, DIRECTED, RESET, MIGRATED, CLOSED = "opened", "directed", "reset", "migrated", "closed"

PLAN, JOURNAL, LOCK = "run.json", "journal.jsonl", "lock"
HOME = Path(".avo") / "evolve"
LAST = "last"  # instead of a run's name
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class StateError(Exception):
    """A run that cannot be begun or gone on with; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run was asked for; written once, before anything else."""

    run: str
    kernel: str
    target: str
    operator: str
    created: str
    steps: int = 8
    max_usd: float | None = None
    max_hours: float | None = None
    max_gpu_seconds: float | None = None
    device: str | None = None
    remote: str = ""  # empty: a bare repository of the run's own
    score_via: str = "local"
    pull_requests: bool = False
    max_open: int = 1
    islands: int = 1
    migrate_every: int = 4  # steps of an island between two looks at the others
    control: str = ""
    seed: int = 0
    score_arguments: tuple[str, ...] = ()
    operator_settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal. `step` is 0 for what concerns the run."""

    kind: str
    step: int
    at: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StepState:
    """What the journal knows of one step."""

    number: int
    island: int
    events: Mapping[str, Event]  # the last of each kind
    attempts: tuple[Event, ...]

    def fact(self, kind: str, name: str, default: Any = None) -> Any:
        """A fact of the step's event of a kind; the default where there is none."""
        event = self.events.get(kind)
        return default if event is None else event.facts.get(name, default)

    def has(self, kind: str) -> bool:
        """Whether that has happened."""
        return kind in self.events

    @property
    def waiting(self) -> bool:
        """Whether somebody else is to judge it."""
        return self.has(QUEUED) and not self.has(JUDGED)

    @property
    def following(self) -> str:
        """The event that is to happen next; empty once it has ended."""
        if self.has(ENDED) or not self.has(VARIED):
            return "" if self.has(ENDED) else VARIED
        if self.fact(VARIED, "submission") is None or self.fact(PROPOSED, "refusal"):
            return ENDED
        return next((k for k in (PROPOSED, JUDGED, RECORDED) if not self.has(k)), ENDED)


@dataclass(frozen=True, slots=True)
class History:
    """The journal, folded."""

    events: tuple[Event, ...]

    @property
    def steps(self) -> list[StepState]:
        """In order of their numbers."""
        found: dict[int, list[Event]] = {}
        for event in self.events:
            if event.step:
                found.setdefault(event.step, []).append(event)
        return [_step(number, found[number]) for number in sorted(found)]

    @property
    def unfinished(self) -> list[StepState]:
        """Begun and not ended."""
        return [step for step in self.steps if not step.has(ENDED)]

    def of(self, kind: str) -> list[Event]:
        """All events of a kind."""
        return [event for event in self.events if event.kind == kind]

    def island(self, number: int) -> list[StepState]:
        """The steps of one island."""
        return [step for step in self.steps if step.island == number]


class Journal:
    """Open for one process at a time; every line is on the disk before `append` returns."""

    def __init__(self, home: Path, told: Callable[[Event], None] = lambda _: None) -> None:
        self.home, self._told = home, told
        self._lock = _locked(home / LOCK)
        self._lines = Lines(home / JOURNAL, sync=True)
        self.events: list[Event] = list(history(home).events)

    def append(self, kind: str, step: int = 0, /, **facts: Any) -> Event:
        """Write one event, then tell whoever listens."""
        event = Event(kind, step, now(), facts)
        self._lines.append({"event": kind, "step": step, "at": event.at, **facts})
        self.events.append(event)
        self._told(event)
        return event

    @property
    def history(self) -> History:
        """What is known by now."""
        return History(tuple(self.events))

    def close(self) -> None:
        """Let others open it."""
        self._lines.close()
        self._lock.close()


def begin(root: Path, plan: Plan) -> Path:
    """Make a run's folder with its plan. Raises StateError where there is one of that name, and for
    what is no name: it becomes a folder and a part of branches' names."""
    if not NAME.fullmatch(plan.run) or plan.run == LAST:
        raise StateError(f"--name {plan.run!r}: letters, digits, _ and -, and not `{LAST}`")
    home = root / HOME / plan.run
    if (home / PLAN).exists():
        raise StateError(f"run {plan.run} exists: --resume {plan.run} goes on with it")
    write_atomically(home / PLAN, json.dumps(asdict(plan), sort_keys=True, indent=1) + "\n")
    return home


def load(root: Path, run: str) -> tuple[Path, Plan]:
    """Folder and plan of a run; `last` names the one begun last. Raises StateError."""
    folder = root / HOME
    begun = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(f"*/{PLAN}")}
    known = sorted(begun)
    if run == LAST and known:
        run = max(known, key=lambda name: (begun[name], name))
    if run not in known:
        raise StateError(f"no run {run!r} in {folder}; there are: {', '.join(known) or 'none'}")
    try:
        raw = json.loads((folder / run / PLAN).read_text(encoding="utf-8"))
        names = {f.name for f in fields(Plan)}
        kept = {key: value for key, value in raw.items() if key in names}
        return folder / run, Plan(**{**kept, "score_arguments": tuple(raw["score_arguments"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StateError(f"{folder / run / PLAN}: {error}") from error


def history(home: Path) -> History:
    """Of a run that may be running: what its journal says by now."""
    return History(tuple(_event(line) for line in read(home / JOURNAL) if "event" in line))


def now() -> str:
    """ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _step(number: int, events: Sequence[Event]) -> StepState:
    last = {event.kind: event for event in events if event.kind != ATTEMPT}
    attempts = tuple(event for event in events if event.kind == ATTEMPT)
    island = last[BEGUN].facts.get("island", 0) if BEGUN in last else 0
    return StepState(number, int(island), last, attempts)


def _locked(path: Path) -> IO[str]:
    """Held until it is closed or we die. Raises StateError where another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    with contextlib.suppress(ImportError):  # Windows: one process a run, by custom
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise StateError(f"{path.parent.name} is running in another process") from None
    return file


def _event(line: Line) -> Event:
    facts = {k: v for k, v in line.items() if k not in ("event", "step", "at")}
    return Event(str(line["event"]), int(line["step"]), str(line["at"]), facts)
