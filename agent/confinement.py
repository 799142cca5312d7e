# SPDX-License-Identifier: MIT
"""A coding-agent CLI in a box: it writes one folder, its shells have neither key nor network.

bubblewrap makes the box; `relay.py` starts the command in it and lets the command itself, and
nothing that it spawns, out to the proxy. Every shell in the box is a wrapper that drops the
credential and enters namespaces of its own, from which the command's memory cannot be read either.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import agent
import avo_pytest
from agent import relay
from agent.relay import PROXIES
from avo_pytest.sandbox import SYSTEM

INSIDE = Path("/avo")  # what the box has beside the system: sockets, programs, real shells
SHELLS = ("bash", "dash", "sh", "zsh", "ksh", "fish")
FOLDERS = ("/usr/bin", "/bin", "/usr/local/bin")
CERTIFICATES = ("/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/usr/share/ca-certificates")
CUTS = (("--user", "--map-current-user", "--net"), ("--user", "--net"))  # root cannot be mapped
TRIAL_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """What one command is given. `scratch` is a short folder for sockets and programs."""

    scratch: Path
    worktree: Path
    folder: Path  # of the worktree: may be written
    home: Path  # its own, kept with the step
    credentials: Mapping[str, str]


def refusal() -> str:
    """Why there can be no box on this machine; empty where there can."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed: apt-get install bubblewrap"
    return "" if _works(["bwrap", *_NAMESPACES, *_system(), "--", "true"]) else _BLOCKED


@functools.cache
def cut() -> tuple[str, ...]:
    """How a shell in the box is given namespaces of its own here; empty where it cannot be."""
    if refusal():
        return ()
    box = ["bwrap", *_NAMESPACES, *_system(), "--", "unshare"]
    return next((how for how in CUTS if _works([*box, *how, "--", "true"])), ())


def boxed(box: Box, command: Sequence[str]) -> list[str]:
    """The command line that runs a command in the box."""
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(f"{command[0]}: no such program")
    line = ["bwrap", *_NAMESPACES, *_system()]
    for path in _readable(Path(program), box):
        line += ["--ro-bind-try", str(path), str(path)]
    line += ["--bind", str(box.folder), str(box.folder), "--bind", str(box.home), str(box.home)]
    line += ["--bind", str(box.scratch), str(INSIDE), *_shells(box)]
    line += ["--clearenv"]
    for name, value in _environment(box).items():
        line += ["--setenv", name, value]
    python = str(Path(sys.executable))
    started = [python, "-I", "-S", str(Path(relay.__file__).resolve()), str(INSIDE / "proxy.sock")]
    return [*line, "--chdir", str(box.worktree), "--", *started, program, *command[1:]]


def write_programs(box: Box, tool: str) -> None:
    """`tool`, `avo` and the shells' wrappers, into the scratch folder."""
    programs = box.scratch / "bin"
    (box.scratch / "real").mkdir(exist_ok=True)
    programs.mkdir(exist_ok=True)
    _program(programs / "tool", tool)
    _program(programs / "avo", f'#!/bin/sh\nexec {sys.executable} -m avo_pytest "$@"\n')
    names = " ".join([*box.credentials, *PROXIES])
    for shell in _found_shells():
        real = INSIDE / "real" / shell.name
        apart = f"unshare {' '.join(cut())} -- " if cut() else ""
        text = (
            f"#!{INSIDE / 'real' / 'sh'}\nunset {names}\n"
            f'[ -n "$AVO_CUT" ] && exec {real} "$@"\n'
            f'export AVO_CUT=1\nexec {apart}{real} "$@"\n'
        )
        _program(box.scratch / "wrappers" / shell.name, text)


_NAMESPACES = ("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL")
_BLOCKED = (
    "bubblewrap does not work here (user namespaces are off or restricted): "
    "`avo doctor` names the fix"
)


def _system() -> list[str]:
    line = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for path in (*map(str, SYSTEM), *CERTIFICATES):
        if path.startswith("/dev/"):
            continue
        if Path(path).is_symlink():
            line += ["--symlink", str(Path(path).readlink()), path]
        elif Path(path).exists():
            line += ["--ro-bind", path, path]
    return line


def _readable(program: Path, box: Box) -> list[Path]:
    """The worktree, this Python with the judge and the agent, and the command's own folder."""
    packages = [Path(module.__path__[0]).resolve() for module in (agent, avo_pytest)]
    pythons = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent]
    own = [program.parent, program.resolve().parent.parent]
    wanted = [*packages, *pythons, *own, Path("/usr/local"), Path("/etc/passwd"), box.worktree]
    # A program that lies loose in somebody's home, or beside the run, must not open all of it.
    closed = (Path("/"), Path.home(), *box.worktree.parents)
    return [path for path in dict.fromkeys(wanted) if path not in closed]


def _shells(box: Box) -> list[str]:
    """A wrapper over each shell; the real ones are beside."""
    line: list[str] = []
    found = _found_shells()
    for shell in found:
        line += ["--ro-bind", str(shell), str(INSIDE / "real" / shell.name)]
    plain = next((shell for shell in found if shell.name in ("dash", "bash")), found[0])
    if "sh" not in {shell.name for shell in found}:
        line += ["--ro-bind", str(plain), str(INSIDE / "real" / "sh")]
    for shell in found:
        wrapper = box.scratch / "wrappers" / shell.name
        line += ["--ro-bind", str(wrapper), str(shell)]
    return line


@functools.cache
def _found_shells() -> tuple[Path, ...]:
    """Real files, each once: links lead to them."""
    paths = [Path(folder, name) for folder in FOLDERS for name in SHELLS]
    return tuple(dict.fromkeys(path.resolve() for path in paths if path.exists()))


def _environment(box: Box) -> dict[str, str]:
    packages = [str(Path(m.__path__[0]).resolve().parent) for m in (agent, avo_pytest)]
    path = [str(INSIDE / "bin"), *FOLDERS]
    return {
        "PATH": os.pathsep.join(path),
        "HOME": str(box.home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(packages)),
        "PYTHONDONTWRITEBYTECODE": "1",
        **box.credentials,
    }


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def _works(line: Sequence[str]) -> bool:
    try:
        done = subprocess.run(line, capture_output=True, timeout=TRIAL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
