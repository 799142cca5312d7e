# SPDX-License-Identifier: MIT
"""Files below a folder, opened step by step so that no link on the way is followed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from agent.tools.tool import ToolError

MOST_BYTES = 1 << 20  # of a file that is read or written
MOST_DEPTH = 12
HIDDEN = frozenset({".git", ".avo"})


def parts_of(path: str) -> tuple[str, ...]:
    """The names of a relative path. Raises ToolError for whatever could lead elsewhere."""
    if path.startswith(("/", "~")) or "\\" in path:
        raise ToolError(f"{path!r}: paths are relative to the worktree, such as kernels/…")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if any(part == ".." or not part.isprintable() for part in parts):
        raise ToolError(f"{path!r}: a path has no '..' and no control characters")
    if HIDDEN.intersection(parts):
        raise ToolError(f"{path!r}: not part of the sources")
    if len(parts) > MOST_DEPTH:
        raise ToolError(f"{path!r}: more than {MOST_DEPTH} folders")
    return parts


@contextlib.contextmanager
def folder_of(root: Path, parts: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
    """A descriptor of a folder below a root. Raises ToolError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    held = os.open(root, flags)
    try:
        for at, part in enumerate(parts):
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=held)
            try:
                inner = os.open(part, flags, dir_fd=held)
            except OSError as error:
                raise ToolError(f"{'/'.join(parts[: at + 1])}: {_said(error)}") from None
            os.close(held)
            held = inner
        yield held
    finally:
        os.close(held)


def read(root: Path, parts: tuple[str, ...]) -> str:
    """A text file. Raises ToolError."""
    shown = "/".join(parts)
    if not parts:
        raise ToolError("a file is asked for, not the worktree")
    with folder_of(root, parts[:-1]) as folder:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(parts[-1], flags, dir_fd=folder)
        except OSError as error:
            raise ToolError(f"{shown}: {_said(error)}") from None
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise ToolError(f"{shown} is a folder: list_files shows what is in it")
            if not stat.S_ISREG(status.st_mode):
                raise ToolError(f"{shown} is no regular file")
            content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ToolError(f"{shown} has more than {MOST_BYTES >> 20} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ToolError(f"{shown} is no text file") from None


def write(root: Path, parts: tuple[str, ...], content: str) -> None:
    """Replace a file or leave it as it was. Raises ToolError."""
    data = content.encode()
    if len(data) > MOST_BYTES:
        raise ToolError(f"{'/'.join(parts)}: at most {MOST_BYTES >> 20} MiB")
    with folder_of(root, parts[:-1], make=True) as folder:
        _refuse_special(folder, parts)
        scratch = f".new-{secrets.token_hex(6)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(scratch, flags, 0o644, dir_fd=folder), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(scratch, dir_fd=folder)
            raise


def remove(root: Path, parts: tuple[str, ...]) -> None:
    """Take a file or link away. Raises ToolError."""
    with folder_of(root, parts[:-1]) as folder:
        try:
            os.unlink(parts[-1], dir_fd=folder)
        except OSError as error:
            raise ToolError(f"{'/'.join(parts)}: {_said(error)}") from None


def walk(root: Path, parts: tuple[str, ...], *, most: int) -> Iterator[tuple[str, int]]:
    """Regular files with their sizes, in order; links and special files with size -1."""
    pending, seen = [parts], 0
    while pending:
        here = pending.pop()
        files, folders = _listed(root, here)
        for name, size in files:
            seen += 1
            if seen > most:
                return
            yield "/".join((*here, name)), size
        if len(here) < MOST_DEPTH:
            pending += [(*here, name) for name in reversed(folders)]


def _listed(root: Path, parts: tuple[str, ...]) -> tuple[list[tuple[str, int]], list[str]]:
    """Files with their sizes, and folders, of one folder."""
    files, folders = [], []
    with folder_of(root, parts) as folder, os.scandir(folder) as scanned:
        for entry in sorted(scanned, key=lambda entry: entry.name):
            status = entry.stat(follow_symlinks=False)
            if entry.name in HIDDEN or entry.name == "__pycache__":
                continue
            if stat.S_ISDIR(status.st_mode):
                folders.append(entry.name)
            else:
                size = status.st_size if stat.S_ISREG(status.st_mode) else -1
                files.append((entry.name, size))
    return files, folders


def _refuse_special(folder: int, parts: tuple[str, ...]) -> None:
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise ToolError(f"{'/'.join(parts)} is {kind}")


def _said(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return "is a link, and links are not followed"
    if error.errno == errno.ENOTDIR:
        return "is no folder, or a link"
    return (error.strerror or "cannot be opened").lower()
