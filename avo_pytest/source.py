# SPDX-License-Identifier: MIT
"""Where a candidate or incumbent comes from: a folder, or a target folder at a git reference.

Git objects are read, never checked out: no hooks, filters or attributes of the candidate run.
"""

from __future__ import annotations

import itertools
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

MAX_FILES = 200
MAX_BYTES = 8 << 20
DEFAULT_INCUMBENTS = ("main", "origin/main", "origin/HEAD")


class SourceError(Exception):
    """A path or reference that does not give a target folder."""


class GitFault(SourceError):
    """There is a repository, but git does not read it."""


@dataclass(frozen=True, slots=True)
class Source:
    """One target folder. `label` is what the user called it."""

    path: Path
    label: str


def find_candidate(root: Path, kernel: str, target: str, spec: str | None, scratch: Path) -> Source:
    """The working tree's folder, or what `spec` (a folder or a reference) names."""
    folder = root / "kernels" / kernel / target
    if spec is None:
        if not (folder / "kernel.toml").is_file():
            raise SourceError(f"no candidate: {folder / 'kernel.toml'} does not exist")
        return Source(folder, "working tree")
    return _named(root, kernel, target, spec, scratch)


def find_incumbent(
    root: Path, kernel: str, target: str, spec: str | None, scratch: Path
) -> Source | None:
    """The folder on `main` (else origin/main, origin/HEAD); None where there is none, or asked.

    Raises GitFault where that cannot be told.
    """
    if spec == "none":
        return None
    if spec is not None:
        return _named(root, kernel, target, spec, scratch)
    for reference in DEFAULT_INCUMBENTS:
        try:
            return _extract(root, kernel, target, reference, scratch)
        except GitFault:
            raise
        except SourceError:
            continue
    return None


def _named(root: Path, kernel: str, target: str, spec: str, scratch: Path) -> Source:
    path = Path(spec)
    for folder in (path, path / "kernels" / kernel / target):
        if (folder / "kernel.toml").is_file():
            return Source(folder.resolve(), spec)
    if path.is_dir():
        raise SourceError(
            f"{spec}: holds neither kernel.toml nor kernels/{kernel}/{target}/kernel.toml"
        )
    return _extract(root, kernel, target, spec, scratch)


def _extract(root: Path, kernel: str, target: str, reference: str, scratch: Path) -> Source:
    with _repository(root, reference) as repository:
        inside = PurePosixPath(root.resolve().relative_to(Path(repository.working_dir).resolve()))
        prefix = inside / "kernels" / kernel / target
        tree = _tree(repository, reference, prefix)
        folder = Path(tempfile.mkdtemp(prefix="source-", dir=scratch))
        _write_tree(tree, folder, reference)
    return Source(folder, reference)


def _repository(root: Path, reference: str) -> Any:
    """The git repository around a folder. Raises SourceError."""
    neither = f"{reference}: neither a folder nor a git reference"
    try:
        import git
    except ImportError as error:  # no git executable, which a ZIP download does not need
        raise SourceError(f"{neither} (git is not installed)") from error
    try:
        return git.Repo(root, search_parent_directories=True)
    except Exception as error:  # InvalidGitRepositoryError and others
        raise SourceError(f"{neither} ({root} is not a git repository)") from error


def _tree(repository: Any, reference: str, folder: PurePosixPath) -> Any:
    """A folder's tree object at a reference. Raises SourceError."""
    import git

    try:
        repository.git.rev_parse("--git-dir")  # what keeps git from reading it would look like
    except git.GitCommandError as error:  # a reference that is not there
        said = error.stderr.strip().removeprefix("stderr: ").strip("' \n").splitlines() or ["fails"]
        fix = f" ({said[-1].strip()})" if len(said) > 1 else ""  # git's advice ends with a command
        raise GitFault(f"{reference}: git: {said[0].removeprefix('fatal: ')}{fix}") from error
    try:
        commit = repository.commit(reference)
    except Exception as error:  # BadName, ValueError, IndexError by kind of failure
        raise SourceError(f"{reference}: neither a folder nor a git reference") from error
    try:
        return commit.tree / str(folder)
    except KeyError as error:
        raise SourceError(f"{reference}: no {folder} there") from error


def _write_tree(tree: object, folder: Path, reference: str) -> None:
    blobs = _entries(tree, reference)
    files = [b for b in blobs if b.type == "blob"]
    if len(files) > MAX_FILES or sum(b.size for b in files) > MAX_BYTES:
        raise SourceError(f"{reference}: more than {MAX_FILES} files or {MAX_BYTES >> 20} MB")
    for blob in blobs:
        relative = PurePosixPath(blob.path).relative_to(tree.path)  # type: ignore[attr-defined]
        if blob.type == "tree":
            continue
        if blob.type != "blob" or stat.S_ISLNK(blob.mode):
            raise SourceError(f"{reference}: {blob.path} is a symbolic link or submodule")
        destination = folder / relative
        if not destination.resolve().is_relative_to(folder.resolve()):
            raise SourceError(f"{reference}: {blob.path} leaves the folder")
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(blob.data_stream.read())
        destination.chmod(0o644)


def _entries(tree: Any, reference: str) -> list[Any]:
    """Everything below a tree. Raises SourceError for names that git forbids, and for too many: a
    few objects that name each other stand for as many entries as one likes."""
    try:
        found = list(itertools.islice(tree.traverse(), 2 * MAX_FILES + 1))
    except (ValueError, OSError) as error:
        raise SourceError(f"{reference}: its tree cannot be read: {error}") from error
    if len(found) > 2 * MAX_FILES:
        raise SourceError(f"{reference}: more than {MAX_FILES} files")
    return found
