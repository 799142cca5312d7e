# SPDX-License-Identifier: MIT
"""A shell for the agent: it sees the worktree, writes into the one folder, and ends with the call.

No network, no key, no device, no other worktree, no repository: what is not named below does not
exist for it. Where the sandbox does not hold on this machine there is no shell (`refusal`).
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import guard, guarded
from avo_pytest import sandbox
from avo_pytest.sandbox import Mechanism

TIMEOUT_S = 120.0
MEMORY_BYTES = 8 << 30
FILE_KIB = 64 << 10  # of any file that it writes
MOST_PROCESSES = 4096
COMMAND_CHARACTERS = 32_000
PATHS = ("/usr/local/bin", "/usr/bin", "/bin")
PARTS = ("bin", "lib", "lib64", "include")  # of a Python
TOOLKITS = ("/usr/local/bin", "/usr/local/lib", "/usr/local/cuda", "/usr/share/terminfo")
_LIMITS = f"exec 2>&1; ulimit -f {FILE_KIB}; ulimit -u {MOST_PROCESSES} 2>/dev/null; "


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed, standard error with it, and how it ended."""

    output: str
    returncode: int
    timed_out: bool
    seconds: float


class ShellError(Exception):
    """The command could not be run as it must be."""


def refusal() -> str:
    """Why there can be no shell on this machine; empty where there can."""
    level, explanation = sandbox.level()
    if level != "child":
        return f"no sandbox holds here: {explanation}"
    return _outlives()


def run(
    command: str,
    *,
    worktree: Path,
    writable: Path,
    timeout_s: float = TIMEOUT_S,
    mechanism: Mechanism | None = None,
) -> Answer:
    """Run a command for bash (else sh) in the worktree. Raises ShellError."""
    if "\0" in command or len(command) > COMMAND_CHARACTERS:
        raise ShellError(f"a command has at most {COMMAND_CHARACTERS} characters and no NUL")
    shell = shutil.which("bash", path="/usr/bin:/bin") or "/bin/sh"
    program = ["/bin/sh", "-c", f'{_LIMITS}exec "$@"', "sh", shell, "-c", command]
    with tempfile.TemporaryDirectory(prefix="avo-shell-") as folder:
        rules = {
            "sandbox": {
                "argv": program,
                "readable": [str(path) for path in (worktree, *_readable())],
                "writable": [str(writable)],
                "timeout_s": timeout_s,
                "memory_bytes": MEMORY_BYTES,
                "env": {"PATH": _path(), "LANG": "C.UTF-8", "HOME": "/nonexistent"},
                "cwd": str(worktree),
                "mechanism": mechanism or sandbox.mechanism(),
            },
            "end": str(Path(folder) / "end.json"),
        }
        return _answer(rules, timeout_s)


def _answer(rules: Mapping[str, object], timeout_s: float) -> Answer:
    facts = guarded.finish(rules, timeout_s)
    if facts is None:
        raise ShellError("the sandbox could not be set up")
    if not facts["clean"]:
        raise ShellError("a process that it started could not be ended")
    seconds = round(float(facts["seconds"]), 3)
    late = facts["ended"] == guard.LATE
    return Answer(str(facts["output"]), int(facts["returncode"]), late, seconds)


def _path() -> str:
    return os.pathsep.join((str(Path(sys.prefix, "bin")), *PATHS))


def _readable() -> list[Path]:
    """The toolkits of this machine, and the Python that runs here: never a whole prefix, which may
    be a home or a repository."""
    python = [Path(prefix, part) for prefix in (sys.base_prefix, sys.prefix) for part in PARTS]
    return [path for path in (*map(Path, TOOLKITS), *python) if path.exists()]


_TRIAL = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            open(sys.argv[1], "a").write("x")
            time.sleep(0.01)
    os._exit(0)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
try:
    os.kill(int(sys.argv[2]), 0)
    print("signals")
except OSError:
    print("held")
"""


@functools.cache
def _outlives() -> str:
    """Tries once: a process in a session of its own, and a signal to this one."""
    with tempfile.TemporaryDirectory(prefix="avo-trial-") as folder:
        home = Path(folder).resolve()
        beat = home / "beat"
        trial = (sys.executable, "-I", "-S", "-c", _TRIAL, str(beat), str(os.getpid()))
        try:
            answer = run(shlex.join(trial), worktree=home, writable=home, timeout_s=30)
        except ShellError as error:
            return str(error)
        if answer.output.strip() != "held":
            return f"a command can reach processes outside: {answer.output[:200]!r}"
        size = beat.stat().st_size
        time.sleep(0.05)  # five beats of what should be dead
        left = [p for p in guard.children(1) if _works_in(p, home)]
        grown = beat.stat().st_size != size or bool(left)
        return "what a command starts outlives it" if grown else ""


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False
