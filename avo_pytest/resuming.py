# SPDX-License-Identifier: MIT
"""A confirm that was killed goes on where it stopped: same plan, same seed, finished replicates.

Nobody has seen its values, so going on is no second look. The half-finished replicate is dropped.
A journal whose writer lives is locked; one that does not hold what it should cannot be continued.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from avo_pytest.attempts import Attempt, Identity
from avo_pytest.journal import FILE
from avo_pytest.replicates import Running
from avo_pytest.score import Replicate, Stage, Status

FIXED = ("policy", "plan", "calibration", "attempts")


@dataclass(slots=True, kw_only=True)
class Unfinished:
    """A killed confirm. `journal` is open at its end and locked, until a run takes it over;
    `reason` says why it cannot go on, or is empty."""

    attempt: Attempt
    journal: TextIO | None
    fixed: Mapping[str, Any] = field(default_factory=dict)  # FIXED, as they were
    finished: list[tuple[Replicate, Running]] = field(default_factory=list)
    dropped: int = 0
    reason: str = ""


def find(home: Path, attempts: Sequence[Attempt], identity: Identity) -> Unfinished | None:
    """The last confirm of this identity that was killed and is nobody's any more."""
    for attempt in reversed(attempts):
        if attempt.verdict or attempt.identity != identity:
            continue
        try:
            journal = (home / "runs" / attempt.run / FILE).open("r+", encoding="utf-8")
        except OSError:
            continue  # it stays an attempt that was killed
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            journal.close()  # its judge is alive
            continue
        return _read(Unfinished(attempt=attempt, journal=journal), journal)
    return None


def _read(unfinished: Unfinished, journal: TextIO) -> Unfinished:
    try:
        _replay(unfinished, journal)
    except (ValueError, KeyError, TypeError) as error:
        said = f"{type(error).__name__}: {error}"
        unfinished.reason = f"its journal cannot be continued ({said})"
    return unfinished


def _replay(unfinished: Unfinished, journal: TextIO) -> None:
    begun: dict[int, Running] = {}
    for message in _messages(journal):
        kind, number = message.get("kind"), message.get("replicate")
        if kind == "plan":
            begun.clear()  # what was before it belongs to a confirm that began anew
            unfinished.finished.clear()
            unfinished.fixed = {name: message[name] for name in FIXED}
        elif kind == "replicate" and number is not None:
            begun[number] = _running(message["begun"])
        elif kind == "replicate_end":
            ended = _replicate(message["ended"])
            running = begun.pop(ended.number)
            if len(running.samples) != message["samples"]:
                raise ValueError(f"replicate {ended.number} lacks samples")
            if ended.status is Status.OK:
                unfinished.finished.append((ended, running))
        elif number in begun:
            told = {k: v for k, v in message.items() if k != "replicate"}
            begun[number].take(told)
    if not unfinished.fixed:
        raise ValueError("no plan in it")
    unfinished.dropped = sum(running.number >= 0 for running in begun.values())


def _messages(journal: TextIO) -> Iterator[Mapping[str, Any]]:
    """Whole lines; half a line at the end was being written when the judge was killed."""
    text = journal.read()
    whole, newline, half = text.rpartition("\n")
    if half:
        journal.seek(0)
        journal.truncate(len((whole + newline).encode()))
        journal.seek(0, 2)
    for line in whole.splitlines():
        yield json.loads(line)


def _running(raw: Mapping[str, Any]) -> Running:
    made = _replicate(raw)
    return Running(number=made.number, stage=made.stage, device=made.device, blocks=made.blocks)


def _replicate(raw: Mapping[str, Any]) -> Replicate:
    parsed = {"stage": Stage(raw["stage"]), "status": Status(raw["status"])}
    return Replicate(**{**raw, **parsed, "loaded": tuple(raw["loaded"])})
