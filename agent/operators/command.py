# SPDX-License-Identifier: MIT
"""Any coding-agent CLI as the operator: a command line with the brief in it, run in a box.

It has the step's tools as a program `tool`, and `avo`; `tool submit` ends the step. What it prints
is kept. What it costs is between it and its provider: the run bounds its time.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agent import confinement, guard
from agent.bridge import Bridge, client
from agent.config import ConfigurationError, Settings
from agent.confinement import INSIDE, Box
from agent.proxy import Proxy
from agent.step import Ending, Outcome, Step
from agent.trajectory import Trajectory

# Program → what it needs to reach its provider, where the settings do not say.
KNOWN: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "claude": (("ANTHROPIC_API_KEY",), ("api.anthropic.com",)),
    "codex": (("OPENAI_API_KEY",), ("api.openai.com",)),
    "gemini": (("GEMINI_API_KEY",), ("generativelanguage.googleapis.com",)),
}
PLACES = ("{brief}", "{file}", "{worktree}")
GRACE_S = 10.0
POLL_S = 0.2
TAIL = 300
RULES = """\

# How to work here

You are in a checkout; only the kernel's folder can be written. There is no network for what you
start. `tool` lists what helps you: `tool score '{"mode": "quick"}'`, `tool wait '{}'`,
`tool inspect '{}'`, `tool lineage '{"action": "list"}'` and more, each with its input as JSON.
`tool submit '{"idea": "...", ...}'` proposes the folder as it is and ends the step: do so once a
screen has shown a gain that you believe, and then stop. Without it the step ends with nothing.
"""


def create(settings: Settings) -> Command:
    """The operator of these settings."""
    return Command(settings)


class Command:
    """`agent.step.Operator`."""

    name = "command"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def preflight(self) -> None:
        """A template, its program, its credential, and a box to run it in."""
        line = _split(self._settings.command)
        if not line or not any(place in part for part in line for place in PLACES[:2]):
            raise ConfigurationError(
                "the command operator needs --command (or [tool.avo.agent] command) with {brief} "
                "or {file} in it, such as 'claude -p {brief} --dangerously-skip-permissions'"
            )
        if shutil.which(line[0]) is None:
            raise ConfigurationError(f"the command's program {line[0]!r} is not on PATH")
        if why := confinement.refusal():
            raise ConfigurationError(f"the command operator runs in a box only, and {why}")
        names, _ = self._needs(line[0])
        if missing := [name for name in names if not os.environ.get(name)]:
            raise ConfigurationError(f"{line[0]} needs {' and '.join(missing)} in the environment")

    def vary(self, step: Step) -> Outcome:
        """Run the command until it submits, ends, or its time is over."""
        line = _split(self._settings.command)
        names, hosts = self._needs(line[0])
        log = Trajectory(step.directory)
        brief = step.brief + RULES
        log.add("begin", talk=1, system="", tools=[], brief=[brief])
        with tempfile.TemporaryDirectory(prefix="avo-box-") as scratch:
            box = Box(
                scratch=Path(scratch),
                worktree=step.worktree,
                folder=step.folder,
                home=_made(step.directory / "home"),
                credentials={name: os.environ[name] for name in names if name in os.environ},
            )
            (box.scratch / "brief.md").write_text(brief, encoding="utf-8")
            proxy = Proxy(box.scratch / "proxy.sock", hosts)
            bridge = Bridge(box.scratch / "tools.sock", step, log)
            confinement.write_programs(box, client(sys.executable, str(INSIDE / "tools.sock")))
            try:
                ended = self._run(step, box, _filled(line, brief, step.worktree), bridge)
            finally:
                bridge.close()
                proxy.close()
        outcome = _outcome(step, ended, bridge, proxy, author=Path(line[0]).name)
        log.add("ending", ending=str(outcome.ending), reason=outcome.reason, turns=0, usage={})
        log.close()
        return outcome

    def _needs(self, program: str) -> tuple[Sequence[str], Sequence[str]]:
        names, hosts = KNOWN.get(Path(program).name, ((), ()))
        settings = self._settings
        return settings.command_credentials or names, settings.command_hosts or hosts

    def _run(self, step: Step, box: Box, line: Sequence[str], bridge: Bridge) -> str:
        """Through a guard, which ends everything below it when this process goes away."""
        end = step.directory / "command.json"
        end.unlink(missing_ok=True)
        rules = {
            "argv": confinement.boxed(box, line),
            "env": {"PATH": os.environ.get("PATH", os.defpath)},
            "cwd": str(step.worktree),
            "output": str(step.directory / "output.txt"),
            "end": str(end),
            "lock": str(step.directory / "command.lock"),
            "timeout_s": 60 * self._settings.command_minutes,
            "grace_s": GRACE_S,
        }
        process = subprocess.Popen(
            guard.command(rules), env=guard.environment(), stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        try:
            while process.poll() is None and not bridge.exhausted:
                if bridge.submission is not None:
                    _given_time(process)
                    break
                time.sleep(POLL_S)
        finally:
            process.stdin.close()
            process.wait()
        facts = json.loads(end.read_text(encoding="utf-8")) if end.exists() else {}
        return str(facts.get("ended", "submitted" if bridge.submission else guard.ABANDONED))


def _outcome(step: Step, ended: str, bridge: Bridge, proxy: Proxy, *, author: str) -> Outcome:
    told = [f"refused to reach {', '.join(sorted(set(proxy.refused)))}"] if proxy.refused else []
    if bridge.submission is not None:
        ending, reason = Ending.SUBMITTED, ""
    elif bridge.exhausted:
        ending, reason = Ending.LIMIT, bridge.exhausted
    elif ended == guard.LATE:
        ending, reason = Ending.LIMIT, "the command's time was over"
    else:
        last = _tail(step.directory / "output.txt")
        ending, reason = Ending.ABANDONED, f"the command ended without `tool submit`: {last}"
    return Outcome(
        ending=ending,
        reason="; ".join([*filter(None, [reason]), *told]),
        submission=bridge.submission and replace(bridge.submission, author=author),
        attempts=bridge.attempts,
    )


def _given_time(process: subprocess.Popen[bytes]) -> None:
    """It has submitted; let it say its last words."""
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        return


def _split(template: str) -> list[str]:
    try:
        return shlex.split(template)
    except ValueError as error:
        raise ConfigurationError(f"the command {template!r}: {error}") from error


def _filled(line: Sequence[str], brief: str, worktree: Path) -> list[str]:
    values = dict(zip(PLACES, (brief, str(INSIDE / "brief.md"), str(worktree)), strict=True))
    filled = []
    for part in line:
        for place in PLACES[1:]:
            part = part.replace(place, values[place])
        filled.append(part.replace(PLACES[0], brief))
    return filled


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _tail(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "nothing was printed"
    return " ".join(text.split())[-TAIL:] or "nothing was printed"
