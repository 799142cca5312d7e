# SPDX-License-Identifier: MIT
"""Folders that an agent had its hands in: read without following anything, replaced as a whole."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from avo_pytest.identity import MAX_BYTES, MAX_DEPTH, MAX_FILES, File


class TreeError(Exception):
    """A folder that cannot be read or written."""


def read_leniently(folder: Path) -> tuple[dict[str, File], list[str]]:
    """What can be kept of a folder, and what was left out: links, special files, too much."""
    tree: dict[str, File] = {}
    left_out: list[str] = []
    size = 0
    for path, status in _walk(folder, 0):
        name = path.relative_to(folder).as_posix()
        if not stat.S_ISREG(status.st_mode) or ".git" in path.relative_to(folder).parts:
            left_out.append(f"{name} is no regular file")
        elif len(tree) == MAX_FILES or size + status.st_size > MAX_BYTES:
            left_out.append(f"{name}: more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB")
        else:
            try:
                content = _content(path)
            except OSError as error:
                left_out.append(f"{name}: {error.strerror}")
                continue
            size += len(content)
            tree[name] = File(bool(status.st_mode & stat.S_IXUSR), content)
        if len(left_out) >= MAX_FILES:
            break
    return tree, left_out


def replace_tree(folder: Path, tree: Mapping[str, File]) -> None:
    """Make a folder hold exactly these files. A reader sees the old folder or the new one."""
    with tempfile.TemporaryDirectory(prefix=".replace-", dir=folder.parent) as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        for name, file in tree.items():
            path = new / name
            if not path.resolve().is_relative_to(new.resolve()):
                raise TreeError(f"{name!r} leaves the folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            path.chmod(0o755 if file.executable else 0o644)
        folder.rename(old)
        new.rename(folder)


def copy_tree(folder: Path, destination: Path) -> None:
    """A copy that later edits do not reach. Links stay links, for the judge to refuse; nothing is
    executable, as on `main`. Raises TreeError for more than can be judged."""
    shutil.rmtree(destination, ignore_errors=True)
    destination.mkdir(parents=True)
    size = 0
    for count, (path, status) in enumerate(_walk(folder, 0), 1):
        size += status.st_size
        if count > MAX_FILES or size > MAX_BYTES:
            raise TreeError(f"it has more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB")
        new = destination / path.relative_to(folder)
        new.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISLNK(status.st_mode):
            new.symlink_to(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            new.write_bytes(_content(path))
            new.chmod(0o644)


def _walk(folder: Path, depth: int) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything but folders, in order of names."""
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        raise TreeError(f"the folder cannot be read: {error.strerror}") from error
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            yield Path(entry.path), entry.stat(follow_symlinks=False)
        elif depth < MAX_DEPTH:
            yield from _walk(Path(entry.path), depth + 1)


def _content(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        return opened.read(MAX_BYTES)
