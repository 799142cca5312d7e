# SPDX-License-Identifier: MIT
"""f: the judge as a process of its own, started with a ticket and collected with it.

A candidate is copied when its ticket is made, so editing goes on while the judge measures. The
judge runs from the trusted root, without the agent's environment, and dies with the agent; what had
finished is found again by its ticket, what had not is started again (a confirm goes on).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent import guard, guarded
from agent.evaluation import ERROR, MEASURED, Evaluation, of_failure, of_record
from agent.tree import TreeError, copy_tree
from avo_pytest.journal import write_atomically

__all__ = ["ERROR", "LIMITS_S", "MEASURED", "Evaluation", "EvaluationError", "Evaluator"]

# Mode → the judge's own options: quick checks everything and looks at the speed briefly.
MODES = {
    "quick": ("--avo-mode=measure", "--avo-blocks=4", "--avo-baselines=none"),
    "screen": ("--avo-mode=screen",),
    "confirm": ("--avo-mode=confirm",),
}
QUIET = ("-p", "no:cacheprovider")
LIMITS_S = {"quick": 600.0, "screen": 1800.0, "confirm": 4 * 3600.0}
GRACE_S = 20.0  # a judge that is told to end keeps its record
TICKET = re.compile(r"(quick|screen|confirm)-[0-9a-f]{12}")
TAIL_BYTES = 16_000


class EvaluationError(Exception):
    """A ticket that is unknown, or a candidate that cannot be handed over."""


class Evaluator:
    """The judge of one kernel and target. Tickets live below `home`; `close` ends what runs."""

    def __init__(
        self,
        root: Path,
        kernel: str,
        target: str,
        device: str | None = None,
        extra_args: Sequence[str] = (),
        *,
        home: Path | None = None,
    ) -> None:
        self.root, self.kernel, self.target = root.resolve(), kernel, target
        self._device, self._extra = device, tuple(extra_args)
        self.home = (home or self.root / ".avo" / "evaluations").resolve()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._known: dict[str, Evaluation] = {}

    def start(
        self,
        mode: str,
        candidate: Path,
        *,
        incumbent: str | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """Hand a candidate's folder to the judge. The ticket to `wait` with.

        `incumbent`: a reference or folder to compare with instead of `main`.
        """
        if mode not in MODES:
            raise EvaluationError(f"no mode {mode!r}; there are {', '.join(MODES)}")
        ticket = f"{mode}-{secrets.token_hex(6)}"
        self.home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=self.home) as scratch:
            new = Path(scratch) / ticket
            try:
                copy_tree(candidate, new / "candidate")
            except (OSError, TreeError) as error:
                said = error.strerror if isinstance(error, OSError) else error
                raise EvaluationError(f"the candidate cannot be copied: {said}") from None
            limit_s = LIMITS_S[mode] if timeout_s is None else min(timeout_s, LIMITS_S[mode])
            asked = {"mode": mode, "incumbent": incumbent, "timeout_s": limit_s}
            write_atomically(new / "request.json", json.dumps(asked))
            new.rename(self.home / ticket)
        self._launch(ticket)
        return ticket

    def wait(self, ticket: str, timeout_s: float) -> Evaluation | None:
        """What the judge found; None while it works. Raises EvaluationError for no ticket of ours.

        A ticket whose judge died with an earlier agent is started again.
        """
        self._folder(ticket)
        if ticket in self._known:
            return self._known[ticket]
        if guard.finished(self._folder(ticket) / "end.json") is None:
            if ticket not in self._running:
                self._launch(ticket)
            try:
                self._running[ticket].wait(max(0.0, timeout_s))
            except subprocess.TimeoutExpired:
                return None
        self._release(ticket)
        self._known[ticket] = self._collect(ticket)
        return self._known[ticket]

    def pending(self) -> tuple[str, ...]:
        """Tickets whose judge this process started and has not collected."""
        return tuple(self._running)

    def close(self) -> None:
        """End the judges that run; they keep what they have. Safe to call twice."""
        for process in self._running.values():
            assert process.stdin is not None
            process.stdin.close()
        deadline = time.monotonic() + GRACE_S + guard.PATIENCE_S
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
        self._running.clear()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _folder(self, ticket: str) -> Path:
        folder = self.home / ticket
        if not TICKET.fullmatch(ticket) or not (folder / "request.json").is_file():
            raise EvaluationError(f"no ticket {ticket!r}")
        return folder

    def _request(self, ticket: str) -> Mapping[str, Any]:
        asked: Mapping[str, Any] = json.loads((self._folder(ticket) / "request.json").read_text())
        return asked

    def _launch(self, ticket: str) -> None:
        folder, asked = self._folder(ticket), self._request(ticket)
        rules = {
            "argv": self._command(folder, asked),
            "env": guarded.environment(),
            "cwd": str(self.root),
            "output": str(folder / "output.txt"),
            "end": str(folder / "end.json"),
            "lock": str(folder / "lock"),
            "remove": [str(folder / "record.json"), str(folder / "output.txt")],
            "timeout_s": asked["timeout_s"],
            "grace_s": GRACE_S,
        }
        self._running[ticket] = guarded.start(rules, folder)

    def command(self, candidate: Path, *options: str) -> list[str]:
        """The judge's command line, to be run in the root, whose own package comes first."""
        known = self.target in ("cpu", "sm80", "sm90", "sm100")
        named = {
            "kernel": self.kernel,
            "target": self.target if known else None,
            "device": self._device,
            "candidate": candidate,
        }
        given = [f"--avo-{name}={value}" for name, value in named.items() if value is not None]
        installed = importlib.metadata.entry_points(group="pytest11", name="avo")
        plugin = () if installed else ("-p", "avo_pytest.plugin")  # a source tree has none
        line = [sys.executable, "-m", "pytest", *plugin, "--avo-score", "-q", *QUIET]
        return [*line, *given, *self._extra, *options]

    def _command(self, folder: Path, asked: Mapping[str, Any]) -> list[str]:
        options = [*MODES[asked["mode"]], f"--avo-json={folder / 'record.json'}"]
        if asked["incumbent"] is not None:
            options.append(f"--avo-incumbent={asked['incumbent']}")
        return self.command(folder / "candidate", *options)

    def _release(self, ticket: str) -> None:
        process = self._running.pop(ticket, None)
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()

    def _collect(self, ticket: str) -> Evaluation:
        folder, mode = self._folder(ticket), self._request(ticket)["mode"]
        facts = guard.finished(folder / "end.json") or {}
        seconds = float(facts.get("seconds", 0.0))
        try:
            if facts.get("ended") == guard.ITSELF:
                return of_record(mode, folder / "record.json", seconds)
        except (OSError, ValueError):
            pass  # the judge's own words say more
        said = _tail(folder / "output.txt")
        if facts.get("ended") == guard.LATE:
            said += f"\nERROR: the judge was ended after {seconds:.0f} s"
        return of_failure(mode, said, seconds, on_gpu=self.target != "cpu")


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
