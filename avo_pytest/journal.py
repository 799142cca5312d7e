# SPDX-License-Identifier: MIT
"""A run's folder on disk: every message as it happens, and at the end one record, atomically."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO


class Journal:
    """Append-only JSON lines. A full disk stops the journal, not the run; `lost` says why."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lost: str | None = None
        self._file: TextIO | None = None
        self._closed = False

    def append(self, message: Mapping[str, Any]) -> None:
        """Write one line now; the first makes the file, so a run that never starts leaves none."""
        try:
            if self._file is None and not self._closed:
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / "journal.jsonl"
                self._file = path.open("a", buffering=1, encoding="utf-8")
            if self._file is not None:
                self._file.write(json.dumps(message, sort_keys=True) + "\n")
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
    """Replace `path` by `text` or leave it as it was. Raises OSError; no partial file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
