# SPDX-License-Identifier: MIT
"""Runs of `python -m agent evolve` in a scratch repository with a simulated device.

repository = evolving.repository(tmp_path); evolving.evolve(repository, "--steps", "1")
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avo_pytest.loading import _module

ROOT = Path(__file__).resolve().parents[1]
simulated = _module(ROOT / "tests" / "simulated_repository.py")
POLICY = 'replicates = 8\nscreen_blocks = 24\nconfirm_blocks = 4\nisolation = "simulated"'
PLACE = ("toy", "--target", "simulated", "--device", "simulated")
NAMED = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))
}


def git(root: Path, *line: str) -> str:
    done = subprocess.run(
        ["git", *line], cwd=root, env={**os.environ, **NAMED}, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    return done.stdout.strip()


def repository(folder: Path, machine: Path | None = None, **script: Any) -> Path:
    """`folder/repository` with one commit; `machine`: a repository that was calibrated here."""
    root = folder / "repository"
    root.mkdir(parents=True)
    simulated.write(root, POLICY)
    simulated.script(root, **script)
    (root / ".gitignore").write_text(".avo/\n__pycache__/\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "the beginning")
    if machine is not None:
        shutil.copytree(machine / ".avo" / "calibrations", root / ".avo" / "calibrations")
    return root


def start(
    root: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    place: tuple[str, ...] = PLACE,
) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ANTHROPIC", "GITHUB"))}
    resumed = any(option == "--resume" for option in options)
    line = [sys.executable, "-m", "agent", "evolve", *(() if resumed else place), *options]
    return subprocess.Popen(
        line,
        cwd=root,
        env={**kept, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def evolve(root: Path, *options: str, limit_s: float = 600.0, **about: Any) -> tuple[int, str]:
    """The exit status and what was printed; `about` as for `start`."""
    process = start(root, *options, **about)
    try:
        said, _ = process.communicate(timeout=limit_s)
    finally:
        process.kill()
    assert "Traceback" not in said, said
    return process.returncode, said


def last(said: str) -> str:
    return said.rstrip().splitlines()[-1]


def journal(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "journal.jsonl").read_text().splitlines()]


def told(home: Path, kind: str, *names: str) -> list[tuple[Any, ...]]:
    """Facts of all events of a kind, in order."""
    return [tuple(e.get(n) for n in names) for e in journal(home) if e["event"] == kind]


def ledger(home: Path) -> list[dict[str, Any]]:
    """What the run's remote has, line by line."""
    remote = home / "remote.git"
    files = git(remote, "ls-tree", "-r", "--name-only", "avo-results", "ledger").splitlines()
    lines = [line for f in files for line in git(remote, "show", f"avo-results:{f}").splitlines()]
    return sorted((json.loads(line) for line in lines), key=lambda entry: entry["id"])


def subjects(home: Path) -> list[str]:
    """Of the commits that `main` of the run's remote has beyond the first, the oldest first."""
    said = git(home / "remote.git", "log", "--reverse", "--format=%s", "main").splitlines()
    return said[1:]


def kernel(home: Path, reference: str = "main") -> str:
    return git(home / "remote.git", "show", f"{reference}:kernels/toy/simulated/kernel.toml")


def constant(text: str, name: str) -> int:
    found = re.search(rf'"?{name}"? = {{ "?value"? = (\d+)', text)
    assert found, text
    return int(found[1])


def gate(home: Path, commit: str, device: str = "simulated", limit_s: float = 300.0) -> str:
    """What a gate does with a proposal: a confirm in a tree of main, and its record; what it said.

    A confirm that the machine spoiled is repeated twice.
    """
    main, record = home / "main", home / f"{commit}.json"
    judged = ("--avo-mode=confirm", f"--avo-device={device}", f"--avo-candidate={commit}")
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--avo-score", *judged]
    given: dict[str, Any] = {
        "cwd": main, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True,
        "text": True, "timeout": limit_s,
    }  # fmt: skip
    for _ in range(3):
        judge = subprocess.run([*line, f"--avo-json={record}"], **given)
        assert record.exists(), judge.stdout + judge.stderr
        if json.loads(record.read_text())["derived"]["verdict"]["kind"] != "INVALID":
            break
    line = [sys.executable, "-m", "avo_pytest", "promote", str(record), "--commit", commit]
    done = subprocess.run([*line, "--remote", str(home / "remote.git")], **given)
    return str(done.stdout + done.stderr)


def upstream(home: Path, kernel: str = "toy", device: str = "simulated") -> None:
    """The ledger and the calibrated machine of the gate."""
    calibrate = ("calibrate", kernel, "--device", device, "--processes", "8")
    for line in (("init", "--remote", "origin"), calibrate):
        done = subprocess.run(
            [sys.executable, "-m", "avo_pytest", *line], cwd=home / "main", capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, timeout=1200,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
