# SPDX-License-Identifier: MIT
"""What a candidate's folder is: its regular files, and one hash of their names, modes and contents.

Links and special files are refused, so that the hash names everything a build can see.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MAX_FILES = 200
MAX_BYTES = 8 << 20
MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class File:
    """One file of a tree."""

    executable: bool
    content: bytes


def tree_hash(folder: Path) -> str:
    """SHA-256 over the sorted files of a folder: path, mode (as git's) and content.

    Raises OSError for a link, a special file, too many files or too many bytes.
    """
    return hash_of(read_tree(folder))


def hash_of(tree: Mapping[str, File]) -> str:
    """The hash of a tree that was read."""
    digest = hashlib.sha256()
    for path, file in sorted(tree.items()):
        mode = "100755" if file.executable else "100644"
        digest.update(f"{mode} {path}\0{len(file.content)}\0".encode())
        digest.update(file.content)
    return digest.hexdigest()


def read_tree(folder: Path) -> dict[str, File]:
    """Relative path (with slashes) → file, for every file below a folder. Raises OSError."""
    tree: dict[str, File] = {}
    size = 0
    for path in _files(folder):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            file = File(_executable(opened.fileno()), opened.read(MAX_BYTES + 1))
        tree[path.relative_to(folder).as_posix()] = file
        size += len(file.content)
        if len(tree) > MAX_FILES or size > MAX_BYTES:
            raise OSError(f"{folder}: more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB")
    return tree


def read_regular(path: Path) -> bytes:
    """What a compiler wrote, if it is a file: a link could lead anywhere. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        _executable(opened.fileno())
        return opened.read()


def _files(folder: Path, depth: int = 0) -> Iterator[Path]:
    if depth > MAX_DEPTH:
        raise OSError(f"{folder}: more than {MAX_DEPTH} folders inside each other")
    with os.scandir(folder) as scanned:
        entries = list(itertools.islice(scanned, MAX_FILES + 1))
        if len(entries) > MAX_FILES:
            raise OSError(f"{folder}: more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB")
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path), depth + 1)
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
            else:
                raise OSError(f"{entry.path}: only regular files and folders are allowed here")


def _executable(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    return bool(status.st_mode & stat.S_IXUSR)
