# SPDX-License-Identifier: MIT
"""The real workflow files, executed by `act` on this host, offline, against a bare repository.

    forge = actions.found(tmp_path, github, actions.toy(repository), calibrations)
    sha = forge.propose("an idea", {"kernels/toy/simulated/kernel.toml": text})
    done = forge.run("gate", "pull_request_target", github.event(number))
    assert done.jobs["record"] == "success" and forge.tip("main") != before

Actions of others are stood in for by tests/stand_ins; GitHub's API is tests/github_api.py; the
device is simulated. act enforces neither permissions nor concurrency nor environments.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
WORKFLOWS = ROOT / ".github" / "workflows"
HOSTED = "ubuntu-24.04"
TIMEOUT_S = 300
AVO = (sys.executable, "-m", "avo_pytest")
QUIET = {
    "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
}  # fmt: skip
POLICY = """
isolation = "simulated"
replicates = 8
screen_blocks = 24
confirm_blocks = 4
"""


def act() -> str | None:
    """The program, beside this Python or on the path."""
    beside = Path(sys.executable).with_name("act")
    return str(beside) if beside.exists() else shutil.which("act")


@dataclass
class Done:
    """A run: `jobs` id → result, `artifacts` the folder of what was uploaded, `log` all of it."""

    code: int
    artifacts: Path
    log: str
    jobs: dict[str, str] = field(default_factory=dict)

    def read(self, path: str) -> Any:
        """A JSON file of an artifact."""
        return json.loads((self.artifacts / path).read_text(encoding="utf-8"))


@dataclass
class Forge:
    """`bare`: what GitHub has. `work`: somebody's clone. `calibrations`: of the scoring machine."""

    folder: Path
    github: Any
    calibrations: Path
    runs: int = 0

    @property
    def bare(self) -> Path:
        return self.folder / "bare.git"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def git(self, *line: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *line], cwd=cwd or self.work, capture_output=True, text=True,
            env={**os.environ, **QUIET},
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout.strip()

    def tip(self, branch: str) -> str:
        return self.git("rev-parse", f"refs/heads/{branch}", cwd=self.bare)

    def ledger(self) -> list[dict[str, Any]]:
        """Every entry, in order."""
        names = self.git("ls-tree", "-r", "--name-only", "avo-results", cwd=self.bare).split()
        lines = [
            line
            for name in sorted(n for n in names if n.endswith(".jsonl"))
            for line in self.git("show", f"avo-results:{name}", cwd=self.bare).splitlines()
        ]
        return [json.loads(line) for line in lines]

    def propose(self, idea: str, files: Mapping[str, str | None], base: str = "main") -> str:
        """A commit that changes these files (None removes one), on GitHub as a branch; its SHA."""
        self.git("fetch", "--quiet", "origin")
        self.git("checkout", "--quiet", "--detach", self.tip(base) if base == "main" else base)
        for name, text in files.items():
            path = self.work / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all", "--force", *files)
        self.git("commit", "--quiet", "--message", idea)
        sha = self.git("rev-parse", "HEAD")
        self.git("push", "--quiet", "origin", f"{sha}:refs/heads/proposals/{sha[:12]}")
        return sha

    def run(
        self, workflow: str, event: str, payload: Mapping[str, Any], *,
        variables: Mapping[str, str] | None = None, meddler: Path | None = None,
        environment: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S,
    ) -> Done:  # fmt: skip
        """One run of a workflow. `meddler JOB ARTIFACTS` is called before a job downloads."""
        return self.begin(
            workflow, event, payload, variables=variables, meddler=meddler, environment=environment
        ).wait(timeout_s)

    def begin(
        self, workflow: str, event: str, payload: Mapping[str, Any], *,
        variables: Mapping[str, str] | None = None, meddler: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Running:  # fmt: skip
        """The same, not waited for."""
        self.runs += 1
        home = self.folder / f"run{self.runs}"
        clone, artifacts = home / "clone", home / "artifacts"
        artifacts.mkdir(parents=True)
        self.git("clone", "--quiet", "--branch", "main", str(self.bare), str(clone), cwd=home)
        (home / "event.json").write_text(json.dumps(payload))
        given = {
            **self.github.environment(),
            "GITHUB_RUN_ID": str(7_000_000 + self.runs),
            "GITHUB_SERVER_URL": "file://",
            "AVO_ARTIFACTS": str(artifacts),
            "AVO_CALIBRATIONS": str(self.calibrations),
            "AVO_PYTHON": sys.executable,
            "AVO_TEST_PYTHON": sys.executable,
            "AVO_TEST_ARTIFACTS": str(meddler or ""),
            "AVO_TEST_BARE": str(self.bare),
            **QUIET,
            **(environment or {}),
        }
        token = given.pop("GITHUB_TOKEN")
        line = [
            str(act()), event, "--directory", str(clone),
            "--workflows", f".github/workflows/{workflow}.yml",
            "--eventpath", str(home / "event.json"), "--json", "--no-cache-server",
            "--pull=false", "--action-offline-mode", "--no-skip-checkout",
            "--action-cache-path", str(home / "cache"),
            "-P", f"{HOSTED}=-self-hosted", "-P", "self-hosted=-self-hosted",
            "--secret", f"GITHUB_TOKEN={token}",
        ]  # fmt: skip
        for name, value in {"AVO_GATE": "on", **(variables or {})}.items():
            line += ["--var", f"{name}={value}"]
        for name, value in given.items():
            line += ["--env", f"{name}={value}"]
        for uses in sorted(_uses()):
            stand_in = TESTS / "stand_ins" / uses.partition("@")[0].partition("/")[2]
            line += ["--local-repository", f"{uses}={stand_in}"]
        return Running(line, home, artifacts)


class Running:
    """A run under way."""

    def __init__(self, line: list[str], home: Path, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._log = home / "log.jsonl"
        environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=environment, start_new_session=True,
            )  # fmt: skip

    def wait(self, timeout_s: float = TIMEOUT_S) -> Done:
        try:
            code = self._process.wait(timeout=timeout_s)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, 9)
        log = self._log.read_text(errors="replace")
        done = Done(code, self._artifacts, log)
        for line in log.splitlines():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if "jobResult" in said:
                done.jobs[said["jobID"]] = said["jobResult"]
        return done


def _uses() -> set[str]:
    """Every action of others that a workflow names."""
    return {
        step["uses"]
        for path in WORKFLOWS.glob("*.yml")
        for job in yaml.safe_load(path.read_text())["jobs"].values()
        for step in job["steps"]
        if "uses" in step
    }


def toy(repository: Any, shares: int = 1) -> Callable[[Path], None]:
    """Writes kernel `toy` on the simulated device; `repository`: tests/simulated_repository.py."""

    def write(root: Path) -> None:
        repository.write(root, POLICY)
        gate(root, kernel="toy", target="simulated", device="simulated", shares=shares)

    return write


def gate(root: Path, *, kernel: str, target: str, device: str, shares: int = 1) -> None:
    """A row of the gate table: this device judges."""
    with (root / "pyproject.toml").open("a") as file:
        file.write(
            f'[[tool.avo.gates]]\nkernel = "{kernel}"\ntarget = "{target}"\n'
            f'device = "{device}"\nlabels = ["self-hosted", "{kernel}"]\nrole = "judge"\n'
            f"shares = {shares}\n"
        )


def found(folder: Path, github: Any, write: Callable[[Path], None], calibrations: Path) -> Forge:
    """A fork of ours as GitHub has it: the judge, the workflows, what `write` writes, a ledger."""
    forge = Forge(folder, github, calibrations)
    forge.work.mkdir(parents=True)
    write(forge.work)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("avo_pytest", ".github"):
        shutil.copytree(ROOT / name, forge.work / name, ignore=ignore)
    for path in (forge.work / ".github" / "workflows").glob("*.yml"):
        # act enforces no concurrency, and refuses the one key of it that it does not know yet.
        path.write_text(re.sub(r"(?m)^ +queue: max\n", "", path.read_text()))
    (forge.work / ".gitignore").write_text(".avo/\n__pycache__/\n")
    forge.git("init", "--quiet", "--bare", "--initial-branch", "main", str(forge.bare))
    forge.git("init", "--quiet", "--initial-branch", "main")
    forge.git("add", "--all")
    forge.git("commit", "--quiet", "--message", "A kernel to start from")
    forge.git("remote", "add", "origin", str(forge.bare))
    forge.git("push", "--quiet", "origin", "main")
    begun = subprocess.run(
        [*AVO, "init", "--remote"], cwd=forge.work, capture_output=True, text=True
    )
    assert begun.returncode == 0, begun.stdout + begun.stderr
    return forge
