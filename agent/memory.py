# SPDX-License-Identifier: MIT
"""What was learned about one kernel and target, kept across steps and runs.

`.avo/memory/<kernel>-<target>.jsonl`: appended only, under a lock, by any number of processes. What
is said again is a confirmation of what is there, not a second note.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from agent.lines import Line, Lines, read
from avo_pytest.printable import printable

MOST_CHARACTERS = 2000  # of a note
WORTH = 10  # a confirmation outweighs so many newer notes


class Kind(StrEnum):
    """What a note is."""

    FACT = "fact"  # measured, with its number
    FAILED = "failed"  # tried, and why it did not work
    IDEA = "idea"  # not tried yet
    HANDOFF = "handoff"  # where a conversation stood when its context was full


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """`steps`: the distinct (run, step) that said it, oldest first."""

    kind: Kind
    text: str
    steps: tuple[tuple[str, int], ...]
    last: int  # place in the file of the newest line that says it

    @property
    def confirmations(self) -> int:
        return len(self.steps) - 1


class Memory:
    """The notes of one kernel and target."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, root: Path, kernel: str, target: str) -> Memory:
        """That of a repository's kernel and target."""
        return cls(root / ".avo" / "memory" / f"{kernel}-{target}.jsonl")

    def add(self, kind: Kind | str, text: str, *, run: str, step: int) -> None:
        """Keep a note, or count another confirmation. Raises ValueError for kind or empty text."""
        line = " ".join(printable(text).split())[:MOST_CHARACTERS]
        if not line:
            raise ValueError("a note needs a text")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        note = {"at": now, "kind": Kind(kind), "run": run, "step": step, "text": line}
        lines = Lines(self.path)
        try:
            lines.append(note)
        finally:
            lines.close()

    def recall(self, limit: int = 20) -> list[Note]:
        """The newest and the most confirmed first."""
        notes = list(_merged(_valid(read(self.path))).values())
        notes.sort(key=lambda note: -(note.last + WORTH * note.confirmations))
        return notes[:limit]

    def text(self, limit: int = 20) -> str:
        """The same, a line each, to go into a brief."""
        return "\n".join(_said(note) for note in self.recall(limit))


def _said(note: Note) -> str:
    run, step = note.steps[-1]
    times = f", said {len(note.steps)} times" if note.confirmations else ""
    return f"- {note.kind}: {note.text} ({run} step {step}{times})"


def _merged(lines: Iterator[Line]) -> dict[tuple[Kind, str], Note]:
    notes: dict[tuple[Kind, str], Note] = {}
    for place, line in enumerate(lines):
        kind, text = Kind(line["kind"]), str(line["text"])
        key = (kind, _key(text))
        said = (str(line["run"]), int(line["step"]))
        steps = notes[key].steps if key in notes else ()
        steps = tuple(step for step in steps if step != said) + (said,)
        notes[key] = Note(kind=kind, text=text, steps=steps, last=place)
    return notes


def _key(text: str) -> str:
    """Words and numbers alone: case, punctuation and spacing make no new note."""
    return " ".join(re.findall(r"\w+(?:\.\d+)?", text.casefold()))


def _valid(lines: Iterable[Line]) -> Iterator[Line]:
    """What a newer version wrote, or a hand broke, is passed over."""
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            Kind(line["kind"]), str(line["text"]), str(line["run"]), int(line["step"])
            yield line
