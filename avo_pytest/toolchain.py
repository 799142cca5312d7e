# SPDX-License-Identifier: MIT
"""Running tools on a candidate's files: in a confined child, within limits.

The child sees a copy of the candidate's sources and what the tool is made of, and writes into one
folder. `gpu_compiler.py`, `host_compiler.py` and `inspection.py` use it.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from avo_pytest import sandbox
from avo_pytest.identity import File

_LOG_CHARACTERS = 20_000
ENOUGH_BYTES = 64 << 20  # with more than that left a compiler does not run out of space


class CompileError(Exception):
    """A source that does not compile, or not within the limits."""

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.reason, self.log = reason, log[:_LOG_CHARACTERS]


class NoCompiler(CompileError):
    """This machine cannot compile; says what to install or to free."""


@dataclass(frozen=True, slots=True)
class Means:
    """How a compiler may run."""

    timeout_s: float
    memory_bytes: int
    confine: bool


@dataclass(frozen=True, slots=True)
class Compiled:
    """Code and what the compiler said."""

    code: bytes
    log: str
    seconds: float


def run(
    argv: Sequence[str],
    *,
    readable: Sequence[Path],
    writable: Sequence[Path] = (),
    means: Means,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> sandbox.Result:
    """Run a tool on a candidate's files: in the sandbox, or plainly where `means` says so."""
    if not means.confine:
        return _run_plainly(argv, means.timeout_s, env or {}, cwd)
    return sandbox.run(
        argv,
        readable=readable,
        writable=writable,
        timeout_s=means.timeout_s,
        memory_bytes=means.memory_bytes,
        env=env,
        cwd=cwd,
    )


def find_tool(name: str) -> Path | None:
    """A CUDA tool (nvdisasm) from pip or PATH, or None."""
    try:
        from cuda.pathfinder import find_nvidia_binary_utility

        found = find_nvidia_binary_utility(name)
    except ImportError:
        found = None
    found = found or shutil.which(name)
    return Path(found) if found else None


@contextmanager
def staged(tree: Mapping[str, File]) -> Iterator[tuple[Path, Path]]:
    """A copy of the sources, and an empty folder for the output."""
    with tempfile.TemporaryDirectory(prefix="avo-build-") as folder:
        sources, out = (Path(folder).resolve() / name for name in ("source", "out"))
        out.mkdir()
        sources.mkdir()
        for name, file in tree.items():
            path = sources / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
        yield sources, out


def check(result: sandbox.Result, source: str, log: str, means: Means) -> None:
    """Raise CompileError unless the compiler ended well and in time."""
    if result.timed_out:
        raise CompileError(f"{source}: compiling took longer than {means.timeout_s:g} s", log)
    if result.returncode != 0:
        if (full := _full(log + result.stdout)) is not None:
            raise NoCompiler(full)
        ended = f"exit status {result.returncode}"
        if result.returncode < 0:
            ended = f"the compiler died of {signal.Signals(-result.returncode).name}"
        raise CompileError(f"{source}: does not compile ({ended})", log or result.stdout)


def _full(said: str) -> str | None:
    """None, or that the disk of the temporary files is full; a source that only says so is not
    believed."""
    folder = tempfile.gettempdir()
    if os.strerror(errno.ENOSPC) not in said or shutil.disk_usage(folder).free > ENOUGH_BYTES:
        return None
    return f"cannot compile: the disk of {folder} is full (free some, or set TMPDIR)"


def _run_plainly(
    argv: Sequence[str], timeout_s: float, env: Mapping[str, str], cwd: Path | None
) -> sandbox.Result:
    process = subprocess.Popen(
        argv,
        env={**os.environ, "LC_ALL": "C", **env},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    late = False
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGKILL)  # the compiler's own children too
        out, err = process.communicate()
    return sandbox.Result(process.returncode, out, err, late, "none")
