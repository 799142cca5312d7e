# SPDX-License-Identifier: MIT
"""A record out of an artifact whose maker may be anybody: bytes first, then meaning."""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from pathlib import Path

from avo_pytest.ci import order
from avo_pytest.ci.refusal import refuse
from avo_pytest.score import Record

MOST_PACKED = 64 << 20
MOST_BYTES = 128 << 20  # of JSON; the largest confirm that a policy allows is below
MOST_FILES = 200
NAMES = ("record.json.gz", "record.json")


def read(folder: Path, gate: str) -> Record:
    """The record of a gate. Raises Refused: absent, too big, cut, no record."""
    path = _path(folder, gate)
    try:
        packed = _packed(path)
        _compare(packed, folder)
        return Record.from_json(_unpacked(packed) if path.suffix == ".gz" else packed)
    except (OSError, ValueError, zlib.error, RecursionError, MemoryError) as error:
        raise refuse("artifact", f"{gate}: {path.name}: {error}", "score it again") from error


def folder_of(records: Path, gate: str, alone: bool) -> Path | None:
    """Where the artifact of a gate is: in `score-<gate>`, `<gate>`, or, of one gate, just here."""
    named = [records / f"score-{gate}", records / gate, *([records] if alone else [])]
    return next((f for f in named if f.is_dir() and not f.is_symlink() and _names(f)), None)


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        found = {entry.name for _, entry in zip(range(MOST_FILES), entries, strict=False)}
    return [name for name in NAMES if name in found]


def _path(folder: Path, gate: str) -> Path:
    names = _names(folder)
    if not names:
        raise refuse("artifact", f"{gate}: there is no record", "score it again")
    if len(names) > 1:
        raise refuse("artifact", f"{gate}: there are two records", "score it again")
    return folder / names[0]


def _compare(packed: bytes, folder: Path) -> None:
    """With what the scorer says it wrote. It proves nothing but that nothing was lost since."""
    said = order.read_json(folder / "score.json")
    if not isinstance(said, dict) or said.get("sha256") != hashlib.sha256(packed).hexdigest():
        raise ValueError("is not what score.json says was written")


def _packed(path: Path) -> bytes:
    """A regular file's bytes, within a limit that holds while reading."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("no regular file")
        if status.st_size > MOST_PACKED:
            raise ValueError(f"{status.st_size} bytes, at most {MOST_PACKED} are read")
        return file.read(MOST_PACKED + 1)


def _unpacked(packed: bytes) -> bytes:
    """One gzip member, whole; a bomb stops at the limit."""
    unpacking = zlib.decompressobj(wbits=31)
    content = unpacking.decompress(packed, MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes of JSON")
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("not one whole gzip file")
    return content
