# SPDX-License-Identifier: MIT
"""One measurement at a time on a device, across processes and users of this machine."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

POLL_S = 0.5


@contextlib.contextmanager
def device_lock(device: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a device (GPU UUID or 'cpu'); call `waiting(holder)` once if it is taken.

    The kernel drops the lock when the holder dies, however it dies.
    """
    try:
        import fcntl
    except ImportError:  # Windows: nothing to share a GPU with here
        yield
        return
    name = "".join(c if c.isalnum() or c == "-" else "_" for c in device)
    path = Path(tempfile.gettempdir()) / f"avo-device-{name}.lock"
    descriptor = _open(path)
    told = False
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    waiting(os.pread(descriptor, 80, 0).decode(errors="replace").strip())
                    told = True
                time.sleep(POLL_S)
        with contextlib.suppress(OSError):  # another user's file: the lock holds all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """People at their desk and runner users share a device, so the file may be another user's."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
