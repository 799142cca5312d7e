# SPDX-License-Identifier: MIT
"""A repository with a gate for the simulated device, and the jobs of the gate as commands."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avo_pytest import ledger
from avo_pytest.branches import opened
from avo_pytest.cli import main as avo
from avo_pytest.loading import _module

simulated = _module(Path(__file__).parent / "simulated_repository.py")

GATE = "toy-simulated-simulated"
POLICY = 'replicates = 8\nscreen_blocks = 24\nconfirm_blocks = 4\nisolation = "simulated"'
GATES = """
[[tool.avo.gates]]
kernel = "toy"
target = "simulated"
device = "simulated"
labels = ["self-hosted", "toy"]
role = "judge"

[[tool.avo.gates]]
kernel = "toy"
target = "cpu"
device = "cpu"
labels = ["self-hosted", "cpu"]
role = "judge"
"""
NAMED = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))
}


def git(root: Path, *line: str) -> str:
    done = subprocess.run(
        ["git", *line], cwd=root, env={**os.environ, **NAMED}, capture_output=True, text=True
    )
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout.strip()


@dataclass
class Gate:
    """One run of the gate. `folder` has `bare.git`, somebody's clone `desk`, and `run` with what
    the jobs write; each job works in a clone of main as it is then, `clone`."""

    folder: Path
    github: Any = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def bare(self) -> Path:
        return self.folder / "bare.git"

    @property
    def desk(self) -> Path:
        return self.folder / "desk"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def root(self) -> Path:
        path = self.folder / "clone"
        if not path.exists():
            git(self.folder, "clone", "-q", "--template=", str(self.bare), str(path))
        return path

    def line(self, job: str) -> list[str]:
        """The command of a job, as gate.yml has it."""
        intake, run = str(self.run / "intake"), self.run
        return {
            "intake": ["--event", str(run / "event.json"), "--out", intake],
            "build": ["--intake", intake, "--out", str(run / "build")],
            "score": ["--intake", intake, "--gate", GATE, "--out", str(run / f"score-{GATE}")],
            "verify": ["--intake", intake, "--records", str(run), "--out", str(run / "verdict")],
            "record": ["--intake", intake, "--verdict", str(run / "verdict"),
                       "--out", str(run / "outcome")],
            "publish": ["--intake", intake, "--outcome", str(run / "outcome")],
            "poll": [],
        }[job]  # fmt: skip

    def variables(self) -> dict[str, str]:
        told = self.github.environment() if self.github is not None else {}
        kept = {"AVO_CALIBRATIONS": str(self.folder / "calibrations")}
        return {**told, **kept, **self.environment}

    def start(self, job: str, *options: str) -> subprocess.Popen[str]:
        """A job as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "avo_pytest", "ci", job, *self.line(job), *options],
            cwd=self.root, env={**os.environ, **self.variables()}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def process(self, job: str, *options: str, code: int = 0) -> str:
        """The same until it has ended; what it said."""
        with self.start(job, *options) as process:
            said, _ = process.communicate(timeout=200)
        assert "Traceback" not in said and process.returncode == code, said
        return said

    def job(self, job: str, *options: str, code: int = 0) -> str:
        """The same without a process, which takes a second to import what it needs."""
        said = io.StringIO()
        line = ["ci", job, *self.line(job), "--root", str(self.root), *options]
        with (
            _set(self.variables()),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            found = avo(line)
        assert found == code, said.getvalue()
        return said.getvalue()

    def intake(self, name: str, payload: Any, code: int = 0) -> dict[str, str]:
        """The job's outputs."""
        self.run.mkdir(exist_ok=True)
        outputs = self.run / "outputs"
        outputs.unlink(missing_ok=True)
        (self.run / "event.json").write_text(json.dumps(payload))
        self.environment["GITHUB_OUTPUT"] = str(outputs)
        self.job("intake", "--event-name", name, code=code)
        del self.environment["GITHUB_OUTPUT"]
        lines = outputs.read_text().splitlines() if outputs.exists() else []
        return dict(line.split("=", 1) for line in lines)

    def conclude(self) -> dict[str, Any]:
        """record and publish on fresh clones of main: the outcome."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.job("record")
        self.job("publish")
        return self.read("outcome/outcome.json")

    def read(self, path: str) -> Any:
        return json.loads((self.run / path).read_text())

    def main(self) -> str:
        return git(self.bare, "rev-parse", "refs/heads/main")

    def entries(self) -> list[Any]:
        with opened(self.bare) as repository:
            return ledger.read(repository, ledger.find(repository))

    def propose(self, idea: str, files: Mapping[str, str] | None = None, **script: Any) -> str:
        """A commit on main that scripts the kernel anew, or has these files; as a branch."""
        git(self.desk, "fetch", "-q", "origin", "main")
        git(self.desk, "checkout", "-q", "--detach", "origin/main")
        for name, text in (files or {}).items():
            path = self.desk / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if script or files is None:
            simulated.script(self.desk, **script)
        git(self.desk, "add", "-A", "--force")
        git(self.desk, "commit", "-qm", idea)
        sha = git(self.desk, "rev-parse", "HEAD")
        git(self.desk, "push", "-q", "origin", f"{sha}:refs/heads/p/{sha[:12]}")
        return sha


SEEN = "seen.txt"
TELLTALE = f"""
import os
import pathlib

pathlib.Path(__file__).with_name("{SEEN}").write_text(" ".join(os.environ))
"""


def begin(folder: Path, shares: int = 1) -> Gate:
    """The repository with its gates and an empty ledger. Its problem, which is code of main, tells
    the names of all variables that it sees. `shares`: how many runners share a confirm."""
    gate = Gate(folder)
    git(folder, "init", "-q", "--template=", "--bare", "-b", "main", str(gate.bare))
    git(folder, "clone", "-q", "--template=", str(gate.bare), str(gate.desk))
    git(gate.desk, "checkout", "-q", "-b", "main")
    simulated.write(gate.desk, POLICY)
    with (gate.desk / "bench" / "toy" / "problem.py").open("a") as file:
        file.write(TELLTALE)
    with (gate.desk / "pyproject.toml").open("a") as file:
        file.write(GATES.replace("role =", f"shares = {shares}\nrole =", 1))
    (gate.desk / ".gitignore").write_text(".avo/\n__pycache__/\nseen.txt\n")
    (gate.desk / "README.md").write_text("a team\n")
    git(gate.desk, "add", "-A")
    git(gate.desk, "commit", "-qm", "the beginning")
    git(gate.desk, "push", "-q", "origin", "main")
    assert avo(["init", "--remote", "--root", str(gate.desk)]) == 0
    return gate


def copied(gate: Gate, to: Path, github: Any) -> Gate:
    """The same repository and run, to be changed."""
    shutil.copytree(gate.folder, to, symlinks=True)
    for name in ("desk", "clone"):
        if (to / name).exists():
            git(to / name, "remote", "set-url", "origin", str(to / "bare.git"))
    github.bare = to / "bare.git"
    return Gate(to, github)


@contextlib.contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
