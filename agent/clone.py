# SPDX-License-Identifier: MIT
"""The repository that a run works in: a remote of its own unless one is named, and a checkout of
that remote's `main`, which is the tree that judges.

The user's working tree is only ever read. What the run promotes is on the remote.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.config import ConfigurationError
from avo_pytest.ledger import BRANCH

MAIN = "refs/heads/main"
# No hook, filter or setting of the user's repository has a say in what a run does.
GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "maintenance.auto=false")
SHARED = ("calibrations", "cache", "memory")  # of `.avo`: of the machine, not of a run


@dataclass(frozen=True, slots=True)
class Clone:
    """`root`: the trusted checkout; `remote`: where versions are promoted to."""

    root: Path
    remote: str

    def tip(self) -> str:
        """The commit of `main` as last fetched."""
        return git(self.root, "rev-parse", "--verify", MAIN)

    def synchronise(self) -> str:
        """Bring `main` to what the remote has, by fast-forward; its commit."""
        git(self.root, "fetch", "--quiet", "--no-tags", "origin", MAIN)
        git(self.root, "merge", "--quiet", "--ff-only", "FETCH_HEAD")
        return self.tip()


def prepare(source: Path, home: Path, remote: str = "") -> Clone:
    """The clone of a run, made where it is missing; safe to repeat after a kill.

    Raises ConfigurationError where the source is no repository, or the remote has no `main`.
    """
    where = remote or str(_own_remote(source, home / "remote.git"))
    root = home / "main"
    if not (root / ".git" / "ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        git(home, "clone", "--quiet", "--no-tags", "--branch", "main", where, str(root))
        _share(source / ".avo", root / ".avo")
        (root / ".git" / "ready").touch()
    clone = Clone(root, where)
    clone.synchronise()
    return clone


def unused_changes(source: Path, kernel: str, target: str) -> str:
    """What the user changed and the run will not see, in one sentence; empty: nothing."""
    folder = f"kernels/{kernel}/{target}"
    start = _start(source)
    changed = git(source, "diff", "--name-only", start, "--", folder).splitlines()
    return f"{folder} differs from main here ({len(changed)} files): the run begins with main's" * (
        bool(changed)
    )


def git(folder: Path, *line: str) -> str:
    """Git's answer. Raises ConfigurationError with what git said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*GIT, *line], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise ConfigurationError("git is not installed: apt-get install git") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["fails"]
        raise ConfigurationError(f"git {line[0]}: {said[-1].removeprefix('fatal: ')}")
    return done.stdout.strip()


def _own_remote(source: Path, bare: Path) -> Path:
    """A bare repository that begins where the user's `main` is, with its ledger if it has one."""
    if (bare / "ready").exists():
        return bare
    start = _start(source)
    shutil.rmtree(bare, ignore_errors=True)
    bare.parent.mkdir(parents=True, exist_ok=True)
    git(bare.parent, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    specs = [f"{start}:{MAIN}", *(f"{sha}:{BRANCH}" for sha in _ledger(source))]
    git(bare, "fetch", "--quiet", "--no-tags", "--update-shallow", str(source.resolve()), *specs)
    (bare / "ready").touch()
    return bare


def _start(source: Path) -> str:
    """The user's `main`, else what is checked out: a detached clone in CI has no other."""
    for reference in (MAIN, "refs/remotes/origin/main", "HEAD"):
        try:
            return git(source, "rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}")
        except ConfigurationError:
            continue
    raise ConfigurationError(
        f"{source} is no git repository with a commit: git init && git add . && git commit"
    )


def _ledger(source: Path) -> Iterator[str]:
    for reference in (BRANCH, "refs/remotes/origin/avo-results"):
        try:
            yield git(source, "rev-parse", "--verify", "--quiet", reference)
            return
        except ConfigurationError:
            continue


def _share(source: Path, own: Path) -> None:
    """Calibrations, builds and notes belong to the machine, so the run uses the user's."""
    own.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        (source / name).mkdir(parents=True, exist_ok=True)
        (own / name).symlink_to((source / name).resolve(), target_is_directory=True)
