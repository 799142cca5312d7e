# SPDX-License-Identifier: MIT
"""Kills processes that keep this one waiting in the kernel, where no deadline can be given.

One thread, started with the first expectation, looks a few times a second; an expectation costs
the waiting side nothing but a dictionary entry.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

_PERIOD_S = 0.5
_expected: dict[int, tuple[float, list[int]]] = {}
_thread: threading.Thread | None = None


@contextlib.contextmanager
def expecting(pid: int, seconds: float) -> Iterator[list[int]]:
    """Kill the session of `pid` if the context takes longer; the value is then not empty."""
    global _thread
    if _thread is None or not _thread.is_alive():  # a fork takes no threads along
        _thread = threading.Thread(target=_watch, daemon=True, name="watchdog")
        _thread.start()
    late: list[int] = []
    _expected[pid] = (time.monotonic() + seconds, late)
    try:
        yield late
    finally:
        _expected.pop(pid, None)


def _watch() -> None:
    while True:
        time.sleep(_PERIOD_S)
        now = time.monotonic()
        for pid, (deadline, late) in list(_expected.items()):
            if now > deadline and not late:
                late.append(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
