# SPDX-License-Identifier: MIT
"""A process that stands still except while it is asked something; the CPU device's arms are such.

It is frozen (SIGSTOP, confirmed) between questions. A timed question starts the clock before the
process can run and stops it after it is frozen again: nothing done outside counts or helps.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from avo_pytest.confine import NOT_CONFINED
from avo_pytest.devices import ArmFailed, watchdog
from avo_pytest.devices.disturbance import process_cpu_ns
from avo_pytest.printable import printable

LOAD_FAILED = 3  # child.cpp, kLoadFailed: the artifact did not load
STOP_S = 5.0  # a process that is told to stop needs microseconds
_LOG_BYTES = 600


@dataclass(frozen=True, slots=True)
class Span:
    """What a timed question took: wall clock here, CPU clock of the process (None: unknown)."""

    ns: int
    cpu_ns: int | None


class Child:
    """One arm's process and its control channel: we send a message, it answers with one byte.

    `command` receives the number of the descriptor that it will find its end of the channel on.
    All methods raise ArmFailed when the process dies, hangs or says something else than expected.
    """

    def __init__(
        self,
        arm: str,
        command: Callable[[int], Sequence[str]],
        *,
        env: Mapping[str, str],
        descriptors: Sequence[int] = (),
    ) -> None:
        self.arm = arm
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                command(theirs.fileno()),
                env=dict(env),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(theirs.fileno(), *descriptors),
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.alive = True
        self._frozen = False

    def ask(
        self, message: bytes, answers: bytes, *, timeout_s: float, descriptors: Sequence[int] = ()
    ) -> None:
        """An untimed question (or none, only the answer); afterwards the process is frozen."""
        self._must_live()
        if message:
            self._send(message, descriptors)
        self.thaw()
        self._expect(answers, timeout_s)
        self.freeze()

    def time(self, message: bytes, answers: bytes, *, timeout_s: float) -> Span:
        """A timed question to the frozen process."""
        self._must_live()
        self._refuse_unasked()
        cpu_before = process_cpu_ns(self.pid)
        start = time.perf_counter_ns()
        self._send(message)
        self.thaw()
        self._expect(answers, timeout_s)
        self.freeze()
        end = time.perf_counter_ns()
        cpu_after = process_cpu_ns(self.pid)
        if cpu_before is None or cpu_after is None:
            return Span(end - start, None)
        return Span(end - start, cpu_after - cpu_before)

    def thaw(self) -> None:
        """Let the process run."""
        if self._frozen:
            os.kill(self.pid, signal.SIGCONT)
            self._frozen = False

    def freeze(self) -> None:
        """Stop every thread and wait until all have stopped."""
        os.kill(self.pid, signal.SIGSTOP)  # at worst to a zombie: it was not waited for yet
        with watchdog.expecting(self.pid, STOP_S) as late:
            _, status = os.waitpid(self.pid, os.WUNTRACED)
        if late:
            self._buried(status)
            raise ArmFailed(self.arm, "crashed", f"could not be stopped within {STOP_S:g} s")
        if not os.WIFSTOPPED(status):
            self._buried(status)
            raise self._death()
        self._frozen = True

    def close(self) -> None:
        """Kill the process and everything in its session. Safe to call twice."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            status = os.waitpid(self.pid, 0)[1]
            while os.WIFSTOPPED(status):
                status = os.waitpid(self.pid, 0)[1]
            self._buried(status)
        self.channel.close()
        self._log.close()

    def _must_live(self) -> None:
        if not self.alive:
            raise ArmFailed(self.arm, "launch_error", "is not running: it failed before")

    def _send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # seen when it must answer
            if descriptors:
                socket.send_fds(self.channel, [message], descriptors)
            else:
                self.channel.sendall(message)

    def _expect(self, answers: bytes, timeout_s: float) -> None:
        self.channel.settimeout(timeout_s)
        try:
            got = self.channel.recv(1)
        except TimeoutError:
            self._end()
            raise ArmFailed(self.arm, "timeout", f"no answer within {timeout_s:g} s") from None
        except ConnectionResetError:
            got = b""
        if not got:  # a dying process closes its channel before it can be waited for
            self._end(grace_s=2.0)
            raise self._death()
        if got not in answers:
            self._end()
            raise ArmFailed(self.arm, "launch_error", f"answered {got!r}, not one of {answers!r}")

    def _refuse_unasked(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            self.channel.setblocking(False)
            if self.channel.recv(1):
                self._end()
                raise ArmFailed(self.arm, "launch_error", "wrote to its control channel unasked")

    def _end(self, grace_s: float = 0.0) -> None:
        """Kill the process, unless it ends by itself within `grace_s`: how it ended is kept."""
        deadline = time.monotonic() + grace_s
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        while not pid and time.monotonic() < deadline:
            time.sleep(0.001)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            os.killpg(self.pid, signal.SIGKILL)
            status = os.waitpid(self.pid, 0)[1]
        self._buried(status)

    def _buried(self, status: int) -> None:
        self.alive = False
        self._process.returncode = os.waitstatus_to_exitcode(status)

    def _death(self) -> ArmFailed:
        code = self._process.returncode
        status, reason = "crashed", f"ended itself with exit status {code}"
        if code < 0:
            status, reason = "crashed", f"killed by {signal.Signals(-code).name}"
        elif code == LOAD_FAILED:
            status, reason = "launch_error", "could not be loaded"
        elif code == NOT_CONFINED:
            status, reason = "invalid", "could not be confined"
        log = self._last_words()
        return ArmFailed(self.arm, status, f"{reason}: {log}" if log else reason)

    def _last_words(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), _LOG_BYTES, max(0, size - _LOG_BYTES))
        return printable(text.decode(errors="replace").strip(), " | ")
