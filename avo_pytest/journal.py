# SPDX-License-Identifier: MIT
"""A run's folder on disk: every message as it happens, and at the end one record, atomically."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

FILE = "journal.jsonl"


class Journal:
    """Append-only JSON lines. A full disk stops the journal, not the run; `lost` says why.

    It is locked while it is open, so that others can tell a run that was killed from one that
    lives. `file`: that of a killed run, already open and locked, to go on with.
    """

    def __init__(self, folder: Path, file: TextIO | None = None) -> None:
        self.folder = folder
        self.lost: str | None = None
        self._file = file
        self._closed = False

    def append(self, message: Mapping[str, Any]) -> None:
        """Write one line now; the first makes the file, so a run that never starts leaves none."""
        try:
            if self._file is None and not self._closed:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._file = (self.folder / FILE).open("a", encoding="utf-8")
                with contextlib.suppress(ImportError, OSError):  # a file system without locks
                    import fcntl

                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._file is not None:
                self._file.write(json.dumps(message, sort_keys=True) + "\n")
                self._file.flush()
        except OSError as error:
            self.lost = f"journal in {self.folder} stopped: {error.strerror}"
            self.close()

    def close(self) -> None:
        """Safe to call twice."""
        self._closed = True
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as error:  # the buffered tail did not fit either
                self.lost = f"journal {file.name} stopped: {error.strerror}"


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` or leave it as it was. Raises OSError; no partial file stays.

    Whoever may read new files may read it: a page and badges are there to be served.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
