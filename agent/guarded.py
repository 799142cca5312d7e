# SPDX-License-Identifier: MIT
"""Starting a guard (see `guard.py`), and running one of our own commands to its end under it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import avo_pytest
from agent import guard

MARGIN_S = 30.0  # for the processes around a command
MOST_BYTES = 4 << 20  # of output that is read
# What the judge and its compilers may need; a key or token is not among it.
PASSED = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|TEMP|CC|CXX|LD_LIBRARY_PATH|XDG_CACHE_HOME"
    r"|SYSTEMROOT|VIRTUAL_ENV|(?:CUDA|NVIDIA|OMP|MKL|OPENBLAS)_\w+"
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended; its output and error stream in one."""

    returncode: int
    output: str
    timed_out: bool
    seconds: float


def environment() -> dict[str, str]:
    """Of the judge: what it needs of ours, and where its package is when it is not installed."""
    kept = {name: value for name, value in os.environ.items() if PASSED.fullmatch(name)}
    package = str(Path(avo_pytest.__file__).resolve().parents[1])
    return {**kept, "PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}


def start(rules: Mapping[str, Any], cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """A guard at work. It ends its command when our end of its input is closed."""
    return subprocess.Popen(
        guard.command(rules),
        env=guard.environment(),
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def finish(rules: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any] | None:
    """Run a guard to its end; None where it could not even begin, or did not end in time."""
    process = start(rules)
    try:
        process.wait(timeout_s + MARGIN_S)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also on Ctrl-C
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    return guard.finished(Path(rules["end"]))


def run(argv: Sequence[str], *, cwd: Path, timeout_s: float) -> Ended:
    """One of our own commands, in the judge's environment. Nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="avo-guarded-") as folder:
        output = Path(folder) / "output"
        rules = {
            "argv": list(argv), "env": environment(), "cwd": str(cwd), "output": str(output),
            "end": str(Path(folder) / "end.json"), "timeout_s": timeout_s, "grace_s": 2.0,
        }  # fmt: skip
        facts = finish(rules, timeout_s)
        said = b""
        with contextlib.suppress(OSError), output.open("rb") as file:
            said = file.read(MOST_BYTES)
    if facts is None:
        return Ended(-1, said.decode(errors="replace") or "the command did not run", False, 0.0)
    late = facts["ended"] == guard.LATE
    code = facts["returncode"]
    return Ended(code, said.decode(errors="replace"), late, float(facts["seconds"]))
