# SPDX-License-Identifier: MIT
"""Where a candidate or incumbent comes from: a folder, or a target folder at a git reference.

Git objects are read, never checked out: no hooks, filters or attributes of the candidate run.
"""

from __future__ import annotations

import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MAX_FILES = 200
MAX_BYTES = 8 << 20
DEFAULT_INCUMBENTS = ("main", "origin/main", "origin/HEAD")


class SourceError(Exception):
    """A path or reference that does not give a target folder."""


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
    """The folder on `main` (else origin/main, origin/HEAD); None where there is none, or asked."""
    if spec == "none":
        return None
    if spec is not None:
        return _named(root, kernel, target, spec, scratch)
    for reference in DEFAULT_INCUMBENTS:
        try:
            return _extract(root, kernel, target, reference, scratch)
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
    try:
        import git  # needs the git executable, which a ZIP download may lack

        repository = git.Repo(root, search_parent_directories=True)
    except Exception as error:  # GitPython raises ImportError, InvalidGitRepositoryError, …
        raise SourceError(
            f"{reference}: neither a folder nor a git reference ({type(error).__name__}: {error})"
        ) from error
    with repository:
        inside = PurePosixPath(root.resolve().relative_to(Path(repository.working_dir).resolve()))
        prefix = inside / "kernels" / kernel / target
        try:
            tree = repository.commit(reference).tree / str(prefix)
        except Exception as error:  # BadName, KeyError, ValueError by kind of failure
            raise SourceError(f"{reference}: no {prefix} there ({type(error).__name__})") from error
        folder = Path(tempfile.mkdtemp(prefix="source-", dir=scratch))
        _write_tree(tree, folder, reference)
    return Source(folder, reference)


def _write_tree(tree: object, folder: Path, reference: str) -> None:
    blobs = list(tree.traverse())  # type: ignore[attr-defined]
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
