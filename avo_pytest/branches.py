# SPDX-License-Identifier: MIT
"""Branches of a remote written without a checkout: objects by git plumbing, refs by one push.

A push never forces. The remote's refusal of anything but a fast-forward is the compare-and-swap:
`transact` fetches, lets the caller build commits on what it found, pushes all refs atomically, and
starts again when somebody else was faster. A writer that is killed leaves unreachable objects only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIT = ("git", "-c", "core.hooksPath=/dev/null")  # hooks of this clone are none of our business
HERE = "."  # as a remote: the repository itself
PATIENCE_S = 120.0
COMMITTER = {"NAME": "avo", "EMAIL": "avo@localhost"}
# What git says when another writer was faster, by client and by server
RACES = (
    "fetch first", "non-fast-forward", "stale info", "cannot lock ref", "failed to update ref",
    "incorrect old value", "reference already exists", "needs force",
)  # fmt: skip

Tips = Mapping[str, str | None]  # ref → commit, None where the remote has none


class GitError(Exception):
    """Git or the remote refuses, in git's words."""


class Raced(Exception):
    """Somebody moved a ref meanwhile."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote (name, URL or path) seen from a local repository, which holds the objects."""

    repository: Any
    name: str

    def tips(self, refs: Sequence[str]) -> dict[str, str | None]:
        """What the refs (in full) point to on the remote, with their objects brought here."""
        found = git_text(self.repository, "ls-remote", "--", self.name, *refs)
        listed = {ref: sha for sha, ref in (line.split("\t") for line in found.splitlines())}
        for ref, sha in listed.items():
            if ref in refs and not has(self.repository, sha):
                self._fetch(ref, sha)
        return {ref: listed.get(ref) for ref in refs}

    def _fetch(self, ref: str, sha: str) -> None:
        """Through a tracking ref, without which each fetch would bring the whole history again."""
        wanted = f"+{ref}:{tracking(self.name, ref)}"
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--refmap=")
        try:
            git_text(self.repository, "fetch", *options, "--", self.name, wanted)
        except GitError as error:
            if has(self.repository, sha):  # another process held the tracking ref's lock
                return
            if any(word in str(error).lower() for word in RACES):
                raise Raced(str(error)) from error
            raise

    def push(self, updates: Mapping[str, str]) -> None:
        """Move all refs or none. Raises Raced, or GitError for any other refusal."""
        specs = [f"{sha}:{ref}" for ref, sha in updates.items()]
        status, out, error = self.repository.git.execute(
            [*GIT, "push", "--porcelain", "--atomic", "--no-verify", "--", self.name, *specs],
            env=_environment(), with_extended_output=True, with_exceptions=False,
        )  # fmt: skip
        refused = [line for line in out.splitlines() if line.startswith("!")]
        if status == 0 and not refused:
            return
        said = " ".join([*refused, error]).strip()
        if any(word in said.lower() for word in RACES):
            raise Raced(said)
        raise GitError(f"{self.name} refuses: {_said(said)}")

    def transact(
        self, refs: Sequence[str], build: Callable[[Tips], Mapping[str, str]]
    ) -> Mapping[str, str]:
        """`build` gets the tips and returns new commits by ref; an empty mapping ends it unpushed.

        It is called again, on fresh tips, whenever a push lost a race. Raises GitError after
        PATIENCE_S, and whatever `build` raises.
        """
        deadline, tries, why = time.monotonic() + PATIENCE_S, 0, ""
        while time.monotonic() < deadline:
            try:
                updates = build(self.tips(refs))
                if updates:
                    self.push(updates)
                return updates
            except Raced as race:
                tries, why = tries + 1, str(race)
                time.sleep(random.uniform(0.0, min(0.4, 0.05 * 2 ** min(tries, 3))))
        raise GitError(f"{self.name}: lost {tries} races in {PATIENCE_S:.0f} s: {_said(why)}")


@contextlib.contextmanager
def opened(root: Path) -> Iterator[Any]:
    """The git repository around a folder. Raises GitError where there is none."""
    try:
        import git
    except ImportError as error:
        raise GitError("git is not installed") from error
    try:
        repository = git.Repo(root, search_parent_directories=True, expand_vars=False)
    except Exception as error:  # InvalidGitRepositoryError, NoSuchPathError and others
        raise GitError(f"{root.resolve()} is not a git repository (make one: git init)") from error
    with repository:
        yield repository


def tracking(remote: str, ref: str) -> str:
    """Where a fetched ref is kept: git's own place for a named remote, ours for a URL or path."""
    named = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", remote)
    kept = remote if named else f"avo-{hashlib.sha256(remote.encode()).hexdigest()[:16]}"
    return f"refs/remotes/{kept}/{ref.removeprefix('refs/heads/').removeprefix('refs/')}"


def has(repository: Any, sha: str) -> bool:
    """Whether an object is here. What is no object's name is not, whatever git would make of it."""
    if not re.fullmatch(r"[0-9a-f]{40,64}", sha):
        return False
    status, _, _ = repository.git.execute(
        ["git", "cat-file", "-e", sha], with_extended_output=True, with_exceptions=False
    )
    return bool(status == 0)


def read_file(repository: Any, commit: str | None, path: str) -> bytes | None:
    """A file of a commit; None where it is not."""
    if commit is None:
        return None
    status, out, _ = repository.git.execute(
        ["git", "cat-file", "blob", f"{commit}:{path}"],
        with_extended_output=True, with_exceptions=False, strip_newline_in_stdout=False,
        stdout_as_string=False,
    )  # fmt: skip
    return bytes(out) if status == 0 else None


def read_folder(repository: Any, commit: str, folder: str) -> dict[str, bytes]:
    """Path → contents of all files below a folder of a commit, by two processes in all."""
    listed = git_text(repository, "ls-tree", "-r", "-z", commit, "--", f"{folder}/")
    entries = [line.split("\t", 1) for line in listed.split("\0") if line]
    names = "".join(f"{facts.split()[2]}\n" for facts, _ in entries)
    out = git_bytes(repository, "cat-file", "--batch", given=names.encode())
    contents, at = {}, 0
    for _, path in entries:
        header, _, _ = out[at : at + 200].partition(b"\n")
        start = at + len(header) + 1
        at = start + int(header.split()[2]) + 1
        contents[path] = out[start : at - 1]
    return contents


def write_commit(
    repository: Any, parent: str | None, changes: Mapping[str, bytes], message: str
) -> str:
    """A commit on `parent` (None: the first of its branch) with some files replaced or added."""
    with tempfile.TemporaryDirectory(prefix="avo-index-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        if parent is not None:
            git_text(repository, "read-tree", parent, env=index)
        blobs = write_blobs(repository, list(changes.values()))
        rows = [f"100644 {b}\t{p}\0" for p, b in zip(changes, blobs, strict=True)]
        git_text(repository, "update-index", "-z", "--index-info", given="".join(rows), env=index)
        tree = git_text(repository, "write-tree", env=index)
    parents = [] if parent is None else ["-p", parent]
    return git_text(repository, "commit-tree", tree, *parents, given=message)


def write_blobs(repository: Any, contents: Sequence[bytes]) -> list[str]:
    """Store contents as they are; filters and hooks of the repository do not run."""
    with tempfile.TemporaryDirectory(prefix="avo-blobs-") as folder:
        paths = [Path(folder) / str(number) for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        names = "".join(f"{path}\n" for path in paths)
        line = ("hash-object", "-w", "--no-filters", "--stdin-paths")
        return git_text(repository, *line, given=names).split()


def write_blob(repository: Any, content: bytes) -> str:
    """The same of one."""
    return write_blobs(repository, [content])[0]


def git_text(
    repository: Any, *line: str, given: str = "", env: Mapping[str, str] | None = None
) -> str:
    """What a git command prints, without the last newline. Raises GitError."""
    out = git_bytes(repository, *line, given=given.encode(), env=env)
    return out.decode("utf-8", "surrogateescape").strip()


def git_bytes(
    repository: Any, *line: str, given: bytes = b"", env: Mapping[str, str] | None = None
) -> bytes:
    """The same as it is."""
    import git

    with tempfile.TemporaryFile() as stdin:  # a real file: git reads it by its descriptor
        stdin.write(given)
        stdin.seek(0)
        try:
            out = repository.git.execute(
                [*GIT, *line], istream=stdin, env={**_environment(), **(env or {})},
                stdout_as_string=False, strip_newline_in_stdout=False,
            )  # fmt: skip
        except git.GitCommandError as error:
            raise GitError(f"git {line[0]}: {_said(str(error.stderr))}") from error
    return bytes(out)


def _environment() -> dict[str, str]:
    """Ours as committer; a missing password is an error, not a question nobody answers; objects
    are what their names say, whatever this clone would put in their place."""
    names = {f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in COMMITTER.items()}
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_REPLACE_OBJECTS": "1"}
    return {**os.environ, **names, **quiet}


def _said(text: str) -> str:
    """Git's message on one line."""
    told = text.strip().removeprefix("stderr:").strip()
    if told[:1] == told[-1:] == "'":  # by GitPython, around all of it
        told = told[1:-1]
    words = told.replace("fatal:", " ").replace("error:", " ")
    return " ".join(words.split())[:400]
