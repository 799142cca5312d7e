# SPDX-License-Identifier: MIT
"""A team's repository in small: a bare one with `main` and a ledger, and clones whose kernels run
on the simulated device. Load it by path.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from avo_pytest import cli
from avo_pytest.loading import _module
from avo_pytest.score import Record

simulated = _module(Path(__file__).parent / "simulated_repository.py")

POLICY = """\
replicates = 8
screen_blocks = 24
confirm_blocks = 4
isolation = "simulated"
"""
AVO = (sys.executable, "-m", "avo_pytest")
SCORE = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--avo-score")
NAMED = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))
}


def git(root: Path, *arguments: str, given: str | None = None) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=root, env={**os.environ, **NAMED}, check=True, input=given,
        capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip


def avo(root: Path, *line: object, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*AVO, *map(str, line)], cwd=root, env={**os.environ, **NAMED}, capture_output=True,
        text=True, timeout=seconds,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done


def here(root: Path, *line: object) -> subprocess.CompletedProcess[str]:
    """The same command without a process of its own, which takes most of the time."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = cli.main([*map(str, line), "--root", str(root)])
    return subprocess.CompletedProcess(line, status, out.getvalue(), error.getvalue())


def team(folder: Path, policy: str = POLICY) -> Path:
    """`folder/bare.git` and the clone `folder/desk`, calibrated, with a seed in the ledger."""
    bare, desk = folder / "bare.git", folder / "desk"
    git(folder, "init", "-q", "--bare", "-b", "main", str(bare))
    git(bare, "config", "receive.denyNonFastForwards", "true")
    git(folder, "clone", "-q", str(bare), str(desk))
    git(desk, "checkout", "-q", "-b", "main")
    simulated.write(desk, policy)
    (desk / ".gitignore").write_text(".avo/\n__pycache__/\n*.json\n")
    (desk / "README.md").write_text("a team\n")
    git(desk, "add", "-A")
    git(desk, "commit", "-qm", "the beginning")
    git(desk, "push", "-q", "origin", "main")
    assert avo(desk, "init", "--remote").returncode == 0
    git(desk, "fetch", "-q", "origin")
    done = avo(desk, "calibrate", "--device=simulated", "--processes=8")
    assert done.returncode == 0, done.stdout + done.stderr
    done = avo(desk, "promote", measured(desk, "seed.json"), "--remote", "origin")
    assert done.returncode == 0, done.stdout + done.stderr
    return desk


def measured(desk: Path, name: str, *options: str) -> Path:
    """The working tree's measurement."""
    path = desk / name
    line = (*SCORE, "--avo-device=simulated", "--avo-blocks=4")
    _run(desk, *line, f"--avo-json={path}", *options)
    return path


def proposed(desk: Path, idea: str, **script: object) -> str:
    """A commit on top of the remote's main that scripts the kernel anew."""
    git(desk, "fetch", "-q", "origin", "main")
    git(desk, "checkout", "-q", "--detach", "origin/main")
    simulated.script(desk, **script)
    git(desk, "add", "-A")
    git(desk, "commit", "-qm", idea)
    return git(desk, "rev-parse", "HEAD")


def confirmed(desk: Path, name: str, *options: str) -> Path:
    """The working tree's verdict against the remote's main."""
    path = desk / name
    line = (
        *SCORE, "--avo-mode=confirm", "--avo-device=simulated",
        f"--avo-json={path}", "--avo-incumbent=origin/main",
    )  # fmt: skip
    _run(desk, *line, *options)
    return path


def record(path: Path) -> Record:
    return Record.from_json(path.read_text())


def promoted(desk: Path, path: Path, *options: object) -> tuple[int, dict]:
    """Exit status of `avo promote`, and the outcome as it is written for programs."""
    out = path.with_suffix(".outcome.json")
    out.unlink(missing_ok=True)
    done = here(desk, "promote", path, "--remote", "origin", "--json", out, *options)
    found = json.loads(out.read_text()) if out.exists() else {"text": done.stderr}
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", done.stdout + done.stderr)
    return done.returncode, found


def _run(desk: Path, *line: str) -> None:
    done = subprocess.run(line, cwd=desk, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stdout + done.stderr
