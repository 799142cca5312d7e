# SPDX-License-Identifier: MIT
"""A file of JSON lines that only grows, shared by processes, whole after any kill.

A line that a kill cut short was never there: readers pass over it and the next writer ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]


class Lines:
    """Append-only; `sync` waits for the disk, which the budget needs and a trajectory does not."""

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        self.path = path
        self._sync = sync
        self._offset = 0
        self._mutex = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(opened, "ab", buffering=0)

    @contextlib.contextmanager
    def exclusive(self, news: Callable[[Line], None]) -> Iterator[Callable[[Line], None]]:
        """Nobody else writes meanwhile; `news` gets every line not seen yet, then those added."""
        with self._mutex, _locked(self._file.fileno()):
            self._read(news)

            def add(line: Line) -> None:
                self._write(line)
                self._read(news)

            yield add

    def append(self, line: Line) -> None:
        """One line more."""
        with self._mutex, _locked(self._file.fileno()):
            self._write(line)

    @property
    def closed(self) -> bool:
        """Whether nothing can be added any more."""
        return self._file.closed

    def close(self) -> None:
        """Safe to call twice."""
        with self._mutex:
            self._file.close()

    def _read(self, news: Callable[[Line], None]) -> None:
        text = b""
        while chunk := os.pread(self._file.fileno(), 1 << 20, self._offset + len(text)):
            text += chunk
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in _parsed(whole):
            news(line)

    def _write(self, line: Line) -> None:
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"), default=str)
        file = self._file.fileno()
        size = os.fstat(file).st_size
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        left = memoryview((("\n" if torn else "") + text + "\n").encode("utf-8", "replace"))
        while left:
            left = left[os.write(file, left) :]
        if self._sync:
            os.fsync(file)


def read(path: Path) -> Iterator[Line]:
    """The lines of a file, none where there is no file."""
    with contextlib.suppress(FileNotFoundError):
        yield from _parsed(path.read_bytes())


def _parsed(text: bytes) -> Iterator[Line]:
    for raw in text.split(b"\n"):
        with contextlib.suppress(ValueError):
            line = json.loads(raw)
            if isinstance(line, dict):
                yield line


@contextlib.contextmanager
def _locked(file: int) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: one process a run
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
