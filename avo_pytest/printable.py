# SPDX-License-Identifier: MIT
"""Text that a candidate had a hand in, made safe to print: terminals and CI logs take orders."""

from __future__ import annotations

import re

_LINE_ENDS = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")


def printable(text: str, line: str = "\n") -> str:
    """The text with `line` between its lines and control characters replaced by `?`.

    No escape sequence moves a cursor, and no line of it can stand alone where `line` is more than
    a line end: CI systems take lines that begin with `::` for commands.
    """
    lines = (_plain(part) for part in _LINE_ENDS.split(text))
    return line.join(part for part in lines if part.strip())


def one_plain_line(text: str, length: int) -> str:
    """The text as one line of at most `length` characters, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else "?" for c in text)
