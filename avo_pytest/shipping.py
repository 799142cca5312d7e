# SPDX-License-Identifier: MIT
"""The lineage that travels with a repository: `docs/lineage/<kernel>-<target>.jsonl.gz`.

A compressed copy of the ledger's lines, byte for byte the same for the same entries, and notes of
failed ideas out of the hand-written tables beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from avo_pytest import packing
from avo_pytest.entries import NOTE, Damaged, Entry, from_line, new_id, to_line

FOLDER = Path("docs") / "lineage"
SUFFIX = ".jsonl.gz"
HEADING = ["idea", "outcome"]


def pack(entries: Iterable[Entry]) -> bytes:
    """Lines in order of their ids, compressed without a date."""
    lines = (f"{to_line(entry)}\n" for entry in sorted(entries, key=lambda e: e.id))
    return packing.pack("".join(lines).encode())


def unpack(content: bytes, where: str) -> list[Entry]:
    """Raises Damaged."""
    try:
        lines = packing.unpack(content).decode("ascii").splitlines()
    except ValueError as error:
        raise Damaged(f"{where}: not a shipped lineage ({error})") from error
    return [from_line(line, f"{where}:{number}") for number, line in enumerate(lines, 1)]


def shipped(root: Path) -> list[Entry]:
    """All entries under docs/lineage. Raises Damaged, OSError."""
    files = sorted((root / FOLDER).glob(f"*{SUFFIX}"))
    return [entry for path in files for entry in unpack(path.read_bytes(), str(path))]


def notes_in(path: Path) -> list[Entry]:
    """Rows of the tables headed `| idea | outcome |` of a `<kernel>-<target>.notes.md`.

    Raises ValueError, OSError.
    """
    found = re.fullmatch(r"(?P<kernel>[a-z0-9_]+)-(?P<target>[a-z0-9_]+)\.notes\.md", path.name)
    if found is None:
        raise ValueError(f"{path.name}: notes are called <kernel>-<target>.notes.md")
    written: list[list[str]] = []
    inside = False
    for line in path.read_text(encoding="utf-8").splitlines():
        row = _cells(line)
        inside = bool(row) and (inside or row == HEADING)
        if inside and len(row) == 2 and row != HEADING and not set(row[1]) <= set("-: "):
            written.append(row)
    now = datetime.now(UTC)
    return [
        note(found["kernel"], found["target"], idea, outcome, now=now, number=number)
        for number, (idea, outcome) in enumerate(written)
    ]


def note(
    kernel: str, target: str, idea: str, outcome: str, *,
    now: datetime, device: str = "", number: int = 0,
) -> Entry:  # fmt: skip
    """A failed idea with its numbers."""
    return Entry(
        id=new_id(now, number), kind=NOTE, created=now.isoformat(timespec="seconds"), kernel=kernel,
        target=target, device=device, idea=idea, reasons=({"rule": NOTE, "text": outcome},),
    )  # fmt: skip


def unknown_notes(notes: Sequence[Entry], entries: Sequence[Entry]) -> list[Entry]:
    """Those that the ledger does not have, by what they say."""
    known = {_said(entry) for entry in entries if entry.kind == NOTE}
    return [entry for entry in notes if _said(entry) not in known]


def _said(entry: Entry) -> tuple[str, ...]:
    return (entry.kernel, entry.target, entry.idea, *(r.get("text", "") for r in entry.reasons))


def _cells(line: str) -> list[str]:
    inside = line.strip().removeprefix("|").removesuffix("|")
    return [part.strip() for part in inside.split("|")] if line.strip().startswith("|") else []
