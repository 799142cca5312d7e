# SPDX-License-Identifier: MIT
"""Runs one command for an owner; when it is over, or the owner is, nothing it started is left.

The owner starts `python -P -m agent.guard RULES` and holds the other end of its standard input: as
long as that is open, the owner lives. Orphans come to this process (a subreaper on Linux), which
kills them. Rules: {"argv", "env", "cwd", "output"} for a plain command, or {"sandbox"}: arguments
of `avo_pytest.sandbox.run`; and "end", "lock", "remove", "timeout_s", "grace_s".
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avo_pytest import confine, sandbox
from avo_pytest.journal import write_atomically

ITSELF, LATE, ABANDONED = "itself", "late", "abandoned"
PATIENCE_S = 10.0
_PR_SET_CHILD_SUBREAPER = 36


def command(rules: Mapping[str, Any]) -> list[str]:
    """The command line of a guard."""
    return [sys.executable, "-P", "-m", __name__, json.dumps(rules)]


def environment() -> dict[str, str]:
    """All that a guard itself needs: to find this package and the judge's."""
    here = str(Path(__file__).resolve().parents[1])
    judge = str(Path(sandbox.__file__).resolve().parents[1])
    return {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": f"{here}{os.pathsep}{judge}"}


def children(pid: int) -> list[int]:
    """Processes started by this one or, after their own parents died, handed to it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            facts = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(facts[1]) == pid:
                found.append(int(entry.name))
    return found


def end_all(patience_s: float = PATIENCE_S) -> bool:
    """Kill and reap every process below this one. False where some would not die."""
    deadline = time.monotonic() + patience_s
    while (left := children(os.getpid())) and time.monotonic() < deadline:
        for pid in _below(left):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        _reap()
        time.sleep(0.002)
    _reap()
    return not children(os.getpid())


def _below(pids: list[int]) -> list[int]:
    """These and theirs, the parents first: what they fork meanwhile is seen in the next round."""
    found, pending = [], list(pids)
    while pending:
        found.append(pid := pending.pop())
        pending += children(pid)
    return found


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class _Owner:
    """Tells when the owner's end of our standard input is closed."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while select.select([0], [], [])[0] and os.read(0, 4096):
            pass
        self.gone.set()


def _plain(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Run a command; its output goes to a file."""
    with Path(rules["output"]).open("ab") as output:
        process = subprocess.Popen(
            rules["argv"],
            env=rules["env"],
            cwd=rules["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=confine.die_with_parent,  # no thread of ours is running yet
        )
    owner = _Owner()
    ended, deadline = ITSELF, time.monotonic() + rules["timeout_s"]
    while process.poll() is None:
        if owner.gone.is_set() or time.monotonic() > deadline:
            ended = ABANDONED if owner.gone.is_set() else LATE
            _tell_to_end(process, rules["grace_s"])
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    return {"ended": ended, "returncode": process.returncode}


def _tell_to_end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """SIGTERM, so that a judge keeps what it has; SIGKILL to the session after `grace_s`."""
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _confined(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Run a command in the sandbox. Where the owner dies first, everything ends at once."""
    owner = _Owner()

    def follow() -> None:
        owner.gone.wait()
        end_all()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    given = rules["sandbox"]
    paths = {k: [Path(p) for p in given[k]] for k in ("readable", "writable")}
    start = time.monotonic()
    done = sandbox.run(**{**given, **paths, "cwd": Path(given["cwd"])})
    return {
        "ended": LATE if done.timed_out else ITSELF,
        "returncode": done.returncode,
        "output": done.stdout + done.stderr,
        "seconds": time.monotonic() - start,
    }


def main(rules: Mapping[str, Any]) -> int:
    """Run, clean up, and write what happened to "end"."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with contextlib.ExitStack() as held:
        if rules.get("lock"):  # an earlier guard of the same may still be cleaning up
            import fcntl

            file = held.enter_context(Path(rules["lock"]).open("a"))
            fcntl.flock(file, fcntl.LOCK_EX)
        if finished(Path(rules["end"])):
            return 0
        for stale in rules.get("remove", ()):  # left by a command that its owner abandoned
            Path(stale).unlink(missing_ok=True)
        start = time.monotonic()
        told = _confined(rules) if "sandbox" in rules else _plain(rules)
        clean = end_all()
        facts = {"seconds": time.monotonic() - start, **told, "clean": clean}
        write_atomically(Path(rules["end"]), json.dumps(facts))
    return 0


def finished(end: Path) -> Mapping[str, Any] | None:
    """How a command ended; None where it did not, or only because its owner went away."""
    try:
        facts: Mapping[str, Any] = json.loads(end.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return None if facts.get("ended") == ABANDONED else facts


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
