# SPDX-License-Identifier: MIT
"""The judge's side of a worker process: start, read lines with a deadline, end it for certain."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

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


class WorkerProcess:
    """One fresh process running one Job. Iterate over `messages()`; always `close()`."""

    def __init__(self, job: Job, *, silence_s: float) -> None:
        self._silence_s = silence_s
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "avo_pytest.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=_environment(),
            # Ctrl-C reaches the judge alone, which then ends the worker and keeps its journal
            start_new_session=True,
        )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asdict(job)).encode())
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # died at start: messages() ends at once and `death()` says why

    def messages(self) -> Iterator[Mapping[str, Any]]:
        """Messages until the worker closes its output or is silent for too long (then killed)."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while True:
                if not selector.select(timeout=self._silence_s):
                    self.stop()
                    return
                chunk = os.read(descriptor, 1 << 16)
                if not chunk:
                    return
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

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


def _environment() -> dict[str, str]:
    """The judge's own environment and module path, less what would configure pytest or Python."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PYTEST_", "COV_")) and k != "PYTHONSTARTUP"
    }
    package_parent = str(Path(__file__).resolve().parent.parent)
    entries = [package_parent, *(p for p in sys.path if p and p != package_parent)]
    path = os.pathsep.join(entries)
    return {**kept, **IDLE_THREADS_SLEEP, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
