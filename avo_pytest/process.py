# SPDX-License-Identifier: MIT
"""The judge's side of worker processes: start, read lines with a deadline, end them for certain."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Protocol

from avo_pytest.job import Job

STDERR_TAIL_BYTES = 2000
# The oracle's BLAS threads would spin for tens of milliseconds after their work, on a core that the
# next timed launch needs.
IDLE_THREADS_SLEEP = {
    "OPENBLAS_THREAD_TIMEOUT": "4",
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
    "KMP_BLOCKTIME": "0",
}

# Arrays of megabytes come and go after every launch while the device waits. Returned to the kernel,
# their pages would be faulted in anew each time, which is slow on a virtual machine.
MEMORY_IS_KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


class Process(Protocol):
    """What a worker runs in: the part of `subprocess.Popen` that is needed of it."""

    @property
    def pid(self) -> int: ...
    @property
    def stdin(self) -> IO[bytes] | None: ...
    @property
    def stdout(self) -> IO[bytes] | None: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def kill(self) -> None: ...


Start = Callable[[IO[bytes]], Process]


def fresh(stderr: IO[bytes]) -> Process:
    """A new interpreter in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "avo_pytest.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment(),
        # Ctrl-C reaches the judge alone, which then ends the worker and keeps its journal
        start_new_session=True,
    )


class WorkerProcess:
    """One process running one Job. Iterate over `messages()`; always `close()`."""

    def __init__(self, job: Job, *, silence_s: float, start: Start = fresh) -> None:
        self._silence_s = silence_s
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = start(self._stderr)
        self._pending = b""
        self._silent = False
        self._heard_s = time.monotonic()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asdict(job)).encode())
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # died at start: messages() ends at once and `death()` says why

    @property
    def deadline_s(self) -> float:
        """On the monotonic clock: when it will have been silent for too long."""
        return self._heard_s + self._silence_s

    def fileno(self) -> int:
        """For a selector: where its messages arrive."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def messages(self) -> Iterator[Mapping[str, Any]]:
        """Messages until the worker closes its output or is silent for too long (then killed)."""
        while True:
            ready([self])
            messages = self.receive()
            if messages is None:
                return
            yield from messages

    def receive(self) -> list[Mapping[str, Any]] | None:
        """The messages that have arrived; waits for some. None after the last."""
        chunk = b"" if self._silent else os.read(self.fileno(), 1 << 16)
        self._heard_s = time.monotonic()
        if not chunk:
            return None
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def give_up(self) -> None:
        """Kill it for its silence."""
        self._silent = True
        self.stop()

    def stop(self) -> None:
        """Kill the whole session and reap it. Safe to call twice."""
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def close(self) -> None:
        """Stop, and forget what it printed."""
        self.stop()
        self._stderr.close()

    def death(self) -> str:
        """A sentence on how the process ended, with the end of what it printed."""
        deadline = time.monotonic() + 5
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        code = self._process.poll()
        how = (
            "it is still running"
            if code is None
            else f"ended by {signal.Signals(-code).name}"
            if code < 0
            else f"exit status {code}"
        )
        self._stderr.seek(0, os.SEEK_END)
        size = self._stderr.tell()
        self._stderr.seek(max(0, size - STDERR_TAIL_BYTES))
        tail = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f"worker {how}" + (f": {tail[-1]}" if tail else "")


def ready(workers: Collection[WorkerProcess]) -> list[WorkerProcess]:
    """Waits until one of the workers has something to say, or has been silent for too long (it is
    killed, and what it has to say is that it is over)."""
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            selector.register(worker, selectors.EVENT_READ, worker)
        patience_s = min(worker.deadline_s for worker in workers) - time.monotonic()
        heard = [key.data for key, _ in selector.select(max(0.0, patience_s))]
    late = [w for w in workers if w not in heard and time.monotonic() >= w.deadline_s]
    for worker in late:
        worker.give_up()
    return [*heard, *late]


def environment() -> dict[str, str]:
    """The judge's own environment and module path, less what would configure pytest or Python."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PYTEST_", "COV_")) and k != "PYTHONSTARTUP"
    }
    package_parent = str(Path(__file__).resolve().parent.parent)
    entries = [package_parent, *(p for p in sys.path if p and p != package_parent)]
    path = os.pathsep.join(entries)
    own = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return {**kept, **IDLE_THREADS_SLEEP, **MEMORY_IS_KEPT, **own}
