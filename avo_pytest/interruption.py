# SPDX-License-Identifier: MIT
"""A scoring run that is told to end keeps its record: by Ctrl-C, SIGTERM (CI, `timeout`) or SIGHUP.

Each becomes one KeyboardInterrupt. What follows it changes nothing: the run is ending already.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """In force from `begin` to `end`. What others handle or ignore (nohup) is left to them."""

    def __init__(self) -> None:
        self._previous: dict[signal.Signals, Any] = {}

    def begin(self) -> None:
        """Take the signals over."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                self._previous[number] = signal.signal(number, self._interrupt)

    def end(self) -> None:
        """Give them back. Safe to call twice."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _interrupt(self, number: int, frame: FrameType | None) -> NoReturn:
        for other in self._previous:
            signal.signal(other, lambda *_: None)
        raise KeyboardInterrupt(signal.Signals(number).name)
