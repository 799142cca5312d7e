# SPDX-License-Identifier: MIT
"""What a run asks of git: commits of one folder, refs that move from where they were seen,
worktrees one at a time. Hooks, filters and diff drivers of the repository do not run."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from avo_pytest import branches, commits
from avo_pytest.branches import GitError, git_text
from avo_pytest.identity import File

ATTEMPTS = "refs/avo/attempts/"
NOWHERE = "0" * 40  # as a ref's value: it is not there yet
MAIL = "agent@localhost"
PLAIN_DIFF = ("--no-ext-diff", "--no-textconv", "--no-color")


@dataclass(frozen=True, slots=True)
class Kept:
    """A failed tree that can be looked at and restored."""

    name: str  # run/number
    commit: str
    reason: str


def kept(repository: Any) -> list[Kept]:
    """All failed trees, of every run, the newest first."""
    form = "--format=%(refname)%09%(objectname)%09%(subject)"
    out = git_text(repository, "for-each-ref", "--sort=-committerdate", form, ATTEMPTS)
    rows = (line.split("\t", 2) for line in out.splitlines())
    return [Kept(name.removeprefix(ATTEMPTS), commit, text) for name, commit, text in rows]


def difference(repository: Any, before: str, after: str, folder: str) -> str:
    """The patch of a folder between two commits."""
    return git_text(repository, "diff", *PLAIN_DIFF, before, after, "--", folder)


def commit_of(repository: Any, reference: str) -> str | None:
    """The commit that a reference names; None where there is none."""
    try:
        return git_text(repository, "rev-parse", "--verify", "--quiet", "--end-of-options",
                        f"{reference}^{{commit}}")  # fmt: skip
    except GitError:
        return None


def files_of(repository: Any, commit: str, folder: str) -> dict[str, File]:
    """A folder's files; none where it is not."""
    found = branches.read_folder(repository, commit, folder)
    return {path.removeprefix(f"{folder}/"): File(False, text) for path, text in found.items()}


def write(
    repository: Any,
    base: str,
    folder: str,
    tree: Mapping[str, File],
    *,
    message: str,
    author: str = "",
    authored: str = "",
) -> str:
    """A commit on `base` with the folder replaced; nothing in it is executable."""
    blobs = {
        path: (commits.REGULAR, branches.write_blob(repository, file.content))
        for path, file in tree.items()
    }
    written = commits.replaced(repository, base, folder, blobs)
    date = authored or f"{int(datetime.now(UTC).timestamp())} +0000"
    name = author.translate(dict.fromkeys(map(ord, "<>\n\0"))) or "avo agent"
    who = f"{name.strip()} <{MAIL}>"
    return commits.write(repository, written, (base,), author=who, authored=date, message=message)


def alike(repository: Any, a: str, b: str) -> bool:
    """Whether two commits have one tree and one parent: made twice, only their dates differ."""
    first, second = (commits.read_commit(repository, commit) for commit in (a, b))
    return (first.tree, first.parents) == (second.tree, second.parents)


def move(repository: Any, ref: str, commit: str, before: str) -> None:
    """Move a ref that still is where it was seen. Raises GitError."""
    git_text(repository, "update-ref", "--no-deref", ref, commit, before)


def add_worktree(repository: Any, path: Path, commit: str) -> None:
    """A checkout without a branch, in place of whatever an earlier try left there."""
    remove_worktree(repository, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    given = ("--force", "--force", "--detach", str(path), commit)
    git_text(repository, "worktree", "add", *given)


def remove_worktree(repository: Any, path: Path) -> None:
    """Safe to call twice."""
    with contextlib.suppress(GitError):  # git does not know it
        git_text(repository, "worktree", "remove", "--force", "--force", str(path))
    if path.exists():
        shutil.rmtree(path)


@contextlib.contextmanager
def alone(repository: Any) -> Iterator[None]:
    """Git's own worktree commands disturb each other: one at a time in a repository."""
    with (Path(repository.common_dir) / "avo-worktrees.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
