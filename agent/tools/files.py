# SPDX-License-Identifier: MIT
"""List, read, search, edit and write files of the worktree; writing in the target folder alone."""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.step import Result
from agent.tools import beneath, grep
from agent.tools.tool import Declared, Pages, ToolError, choice, number, text

MOST_LISTED = 400
MOST_LINES = 400
SEARCH_S = 20.0
PATH = "relative to the worktree, such as kernels/attention/cpu/kernel.toml"


@dataclass(frozen=True, slots=True)
class Files:
    """A step's worktree, and the parts of the folder in it that may change."""

    worktree: Path
    own: tuple[str, ...]

    def listing(self, given: Mapping[str, Any]) -> Result:
        """Names and sizes."""
        parts = beneath.parts_of(given.get("path", ""))
        try:
            found = list(beneath.walk(self.worktree, parts, most=MOST_LISTED + 1))
        except ToolError:
            found = [("/".join(parts), len(beneath.read(self.worktree, parts).encode()))]
        lines = [
            f"{name}  {'a link or special file' if size < 0 else size}" for name, size in found
        ]
        if len(found) > MOST_LISTED:
            lines[MOST_LISTED:] = [f"and more than {MOST_LISTED} files; name a folder"]
        return Result(text="\n".join(lines) or "nothing is there")

    def read(self, given: Mapping[str, Any]) -> Result:
        """Numbered lines of a file."""
        lines = beneath.read(self.worktree, beneath.parts_of(given["path"])).split("\n")
        first = int(given.get("first", 1))
        last = min(len(lines), int(given.get("last", first + MOST_LINES - 1)))
        if first > len(lines):
            raise ToolError(f"{given['path']} has {len(lines)} lines")
        width = len(str(last))
        shown = [f"{at:>{width}}  {lines[at - 1]}" for at in range(first, last + 1)]
        if last < len(lines):
            shown.append(f"(lines {first} to {last} of {len(lines)})")
        return Result(text="\n".join(shown))

    def search(self, given: Mapping[str, Any]) -> Result:
        """Lines that contain a text or match a regular expression."""
        parts = beneath.parts_of(given.get("path", ""))
        names = self._names(parts)
        asked = {
            "pattern": given["pattern"],
            "regex": given.get("kind") == "regex",
            "names": [n for n in names if n.endswith(given.get("suffix", ""))],
        }
        # in a process of its own: a regular expression can take for ever
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", grep.__file__],
                input=json.dumps(asked), cwd=self.worktree, env={}, capture_output=True, text=True,
                timeout=SEARCH_S, check=False, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ToolError(f"the search took longer than {SEARCH_S:.0f} s") from None
        if done.returncode != 0:
            raise ToolError((done.stderr.strip().splitlines() or ["the search failed"])[-1])
        return Result(text=done.stdout.rstrip("\n") or "no line matches")

    def edit(self, given: Mapping[str, Any]) -> Result:
        """Replace one exact text by another."""
        parts = self._own(given["path"])
        before, old, new = beneath.read(self.worktree, parts), given["old"], given["new"]
        count = before.count(old)
        if old == new:
            raise ToolError("old and new are the same")
        if count == 0:
            raise ToolError(f"{given['path']}: old does not occur.{_nearest(before, old)}")
        if count > 1 and given.get("all") is not True:
            places = ", ".join(map(str, _lines_of(before, old)[:8]))
            raise ToolError(
                f"{given['path']}: old occurs {count} times (lines {places}): give more of its "
                'surroundings, or "all": true'
            )
        beneath.write(self.worktree, parts, before.replace(old, new))
        at = _lines_of(before, old)[0]
        return Result(text=f"{given['path']}: {count} replaced, the first in line {at}")

    def write(self, given: Mapping[str, Any]) -> Result:
        """A whole file."""
        parts = self._own(given["path"])
        beneath.write(self.worktree, parts, given["content"])
        lines = given["content"].count("\n")
        return Result(text=f"{given['path']} written, {lines} lines")

    def remove(self, given: Mapping[str, Any]) -> Result:
        """A file or a link."""
        beneath.remove(self.worktree, self._own(given["path"]))
        return Result(text=f"{given['path']} removed")

    def _names(self, parts: tuple[str, ...]) -> list[str]:
        """Of the files below a folder, or of one file."""
        try:
            return [n for n, size in beneath.walk(self.worktree, parts, most=20_000) if size >= 0]
        except ToolError:
            beneath.read(self.worktree, parts)
            return ["/".join(parts)]

    def _own(self, path: str) -> tuple[str, ...]:
        parts = beneath.parts_of(path)
        if parts[: len(self.own)] != self.own or len(parts) <= len(self.own):
            raise ToolError(f"{path!r}: only files in {'/'.join(self.own)}/ may be written")
        return parts


def tools(files: Files, pages: Pages) -> list[Declared]:
    """The tools of a worktree."""
    path = text(f"of a file, {PATH}", 400)
    folder = text("a folder; the whole worktree without it", 400)
    new = text("the text instead", 200_000)
    return [
        Declared(
            name="list_files", act=files.listing, pages=pages,
            description="Files of the worktree with their sizes in bytes.",
            properties={"path": folder},
        ),
        Declared(
            name="read_file", act=files.read, pages=pages, required=("path",),
            description="Lines of a text file, numbered; all files of the worktree may be read.",
            properties={
                "path": path,
                "first": number("first line, from 1", 1, 10_000_000, whole=True),
                "last": number("last line", 1, 10_000_000, whole=True),
            },
        ),
        Declared(
            name="search", act=files.search, pages=pages, required=("pattern",),
            description="Lines of the worktree's files that contain a text, or match a regular "
            "expression (Python's), as path:line: text.",
            properties={
                "pattern": text("what to look for", 500, minLength=1),
                "kind": choice("how to read it; text without it", "text", "regex"),
                "path": folder,
                "suffix": text("only names that end so, such as .h", 40),
            },
        ),
        Declared(
            name="edit_file", act=files.edit, pages=pages, required=("path", "old", "new"),
            description="Replace a text that occurs exactly once in a file of the target folder. "
            "It is compared character by character, without line numbers.",
            properties={
                "path": path,
                "old": text("the text that is there", 200_000, minLength=1),
                "new": new,
                "all": {"description": "replace every occurrence", "type": "boolean"},
            },
        ),
        Declared(
            name="write_file", act=files.write, pages=pages, required=("path", "content"),
            description="Write a whole file of the target folder, new or in place of the old one.",
            properties={"path": path, "content": text("all of it", 1_000_000)},
        ),
        Declared(
            name="remove_file", act=files.remove, pages=pages, required=("path",),
            description="Remove a file of the target folder.",
            properties={"path": path},
        ),
    ]  # fmt: skip


def _lines_of(whole: str, part: str) -> list[int]:
    found, at = [], whole.find(part)
    while at >= 0:
        found.append(whole.count("\n", 0, at) + 1)
        at = whole.find(part, at + len(part))
    return found


def _nearest(whole: str, wanted: str) -> str:
    """Where the text's first line almost occurs: usually white space differs."""
    first = next((line.strip() for line in wanted.split("\n") if line.strip()), "")
    lines = whole.split("\n")[:20_000]
    close = difflib.get_close_matches(first, [line.strip() for line in lines], 1, 0.6)
    if not close:
        return " Nothing in the file is like it."
    at = next(at for at, line in enumerate(lines, 1) if line.strip() == close[0])
    return f" Line {at} is the nearest: {lines[at - 1][:200]!r}"
