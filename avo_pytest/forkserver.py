# SPDX-License-Identifier: MIT
"""Replicates that start fast: forks of one process that has imported everything, torch included.

The server touches no device, so that each fork opens its own context. It and its forks die with
the judge. `ForkServer.start` takes the place of `process.fresh`; below it is the server's own side
(`python -m avo_pytest.forkserver KIND`). Linux only, as are its GPUs.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from typing import IO

from avo_pytest.confine import die_with_parent
from avo_pytest.process import environment

START_S = 120.0  # importing torch from a cold disk
ANSWER_S = 10.0
NOT_INITIALIZED = 3  # CUresult: nobody called cuInit
LOST = b"the fork server did not start it\n"


class ForkServer:
    """Started with the first replicate, and again where it died. Always `close()`."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The server's process, once there is one."""
        return None if self._process is None else self._process.pid

    def begin(self) -> None:
        """Start the server, where none is running; it imports what its forks need meanwhile."""
        if self._process is None or self._process.poll() is not None:
            self._serve()

    def start(self, stderr: IO[bytes]) -> Forked:
        """Fork a worker; it reads its job from `stdin` and writes messages to `stdout`."""
        self.begin()
        assert self._socket is not None
        job, out, fate = os.pipe(), os.pipe(), os.pipe()
        theirs = (job[0], out[1], fate[1])
        with contextlib.suppress(BrokenPipeError):  # its death shows as a fate without a word
            socket.send_fds(self._socket, [b"f"], [*theirs, stderr.fileno()])
        for descriptor in theirs:
            os.close(descriptor)
        return Forked(self, os.fdopen(job[1], "wb"), os.fdopen(out[0], "rb"), fate[0], stderr)

    def close(self) -> None:
        """Kill the server, and with it its forks. Safe to call twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _serve(self) -> None:
        self.close()
        self._socket, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "avo_pytest.forkserver", self._kind],
                stdin=theirs.fileno(),
                stdout=log,
                stderr=log,
                env=environment(),
                start_new_session=True,
            )


class Forked:
    """One fork, with the part of `subprocess.Popen` that a WorkerProcess needs.

    `fate` brings two lines from the server: the process id, and how it ended. An end of it without
    the second means that the server died, and the fork with it.
    """

    def __init__(
        self, server: ForkServer, stdin: IO[bytes], stdout: IO[bytes], fate: int, stderr: IO[bytes]
    ) -> None:
        self._server, self._fate, self._said = server, fate, b""
        self.stdin, self.stdout = stdin, stdout
        self.returncode: int | None = None
        self._listen(START_S, lines=1)
        self.pid = int(self._said.partition(b"\n")[0] or 0)
        if not self.pid:  # and never 0 to `killpg`, which would be ourselves
            server.close()
            if self.returncode is None:
                self._settle(-signal.SIGKILL)
            stderr.write(LOST)
            stderr.flush()

    def poll(self) -> int | None:
        """How it ended, as `Popen.returncode`; None while it runs."""
        self._listen(0.0, lines=2)
        return self.returncode

    def wait(self) -> int:
        """Until it has ended, or the server owes the answer for too long and is killed with it."""
        self._listen(ANSWER_S, lines=2)
        if self.returncode is None:
            self._server.close()
            self._listen(ANSWER_S, lines=2)
        return self.returncode if self.returncode is not None else -signal.SIGKILL

    def kill(self) -> None:
        """End the process alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _listen(self, patience_s: float, *, lines: int) -> None:
        while self.returncode is None and self._said.count(b"\n") < lines:
            if not select.select([self._fate], [], [], patience_s)[0]:
                return
            chunk = os.read(self._fate, 100)
            self._said += chunk
            if not chunk:
                self._settle(-signal.SIGKILL)
        if self.returncode is None and self._said.count(b"\n") == 2:
            self._settle(int(self._said.split(b"\n")[1]))

    def _settle(self, code: int) -> None:
        self.returncode = code
        os.close(self._fate)


def main(kind: str) -> int:
    """Be the server: fork whenever the judge asks, report how each fork ended."""
    die_with_parent()
    connection = socket.socket(fileno=os.dup(0))
    warnings.simplefilter("ignore", DeprecationWarning)  # numpy's threads are idle when we fork
    _preload(kind)
    ended: list[int] = []
    fates: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not connection:
                    _report(key.data, fates.pop(key.data))
                    ended.append(key.data)
                    selector.unregister(key.fileobj)
                    os.close(key.fd)
                    continue
                _reap(ended)
                message, given, _, _ = socket.recv_fds(connection, 1, 4)
                if not message:
                    return 0
                job, out, fate, stderr = given
                held = [connection.fileno(), *given, *fates.values(), *_descriptors(selector)]
                pid = _fork((job, out, stderr), held)
                os.write(fate, b"%d\n" % pid)
                for descriptor in (job, out, stderr):
                    os.close(descriptor)
                fates[pid] = fate
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)


def _preload(kind: str) -> None:
    importlib.import_module("avo_pytest.worker")
    importlib.import_module(f"avo_pytest.devices.{kind}")
    if kind == "cuda" and importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch")


def _descriptors(selector: selectors.BaseSelector) -> list[int]:
    return [key.fd for key in selector.get_map().values() if key.data is not None]


def _fork(standard: Sequence[int], held: Sequence[int]) -> int:
    server = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for target, descriptor in enumerate(standard):
            os.dup2(descriptor, target)
        for descriptor in held:
            os.close(descriptor)
        die_with_parent()
        if os.getppid() != server:
            os._exit(1)
        _untouched()
        worker = importlib.import_module("avo_pytest.worker")
        code = int(worker.main())
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


def _untouched() -> None:
    """Raises RuntimeError where CUDA was initialised before the fork: the two would share it."""
    try:
        library = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return  # not even loaded
    context = ctypes.c_void_p()
    if library.cuCtxGetCurrent(ctypes.byref(context)) != NOT_INITIALIZED:
        raise RuntimeError("the fork server has touched a GPU before it forked")


def _report(pid: int, fate: int) -> None:
    """Before the process is reaped: until then its id names nobody else, and may be killed."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    killed = ended.si_code != os.CLD_EXITED
    code = -ended.si_status if killed else ended.si_status
    with contextlib.suppress(BrokenPipeError):
        os.write(fate, b"%d\n" % code)
    os.close(fate)


def _reap(pids: list[int]) -> None:
    """The judge asks for a fork, so it is not killing one of these just now."""
    while pids:
        os.waitpid(pids.pop(), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
