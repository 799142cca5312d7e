# SPDX-License-Identifier: MIT
"""Searches files for lines, as a process of its own: `python -I -S grep.py`, the question on
standard input as JSON ("pattern", "regex", "names"), answers as `path:line: text`."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator

MOST_HITS = 200
MOST_BYTES = 1 << 20
WIDTH = 240


def hits(names: list[str], matches: Callable[[str], object]) -> Iterator[str]:
    """Lines that match, of text files that are no links."""
    for name in names:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(MOST_BYTES)
        if b"\0" in content:
            continue
        for at, line in enumerate(content.decode(errors="replace").split("\n"), 1):
            if matches(line):
                yield f"{name}:{at}: {line[:WIDTH]}"


def main() -> int:
    """Answer one question."""
    asked = json.load(sys.stdin)
    pattern = asked["pattern"]
    if asked["regex"]:
        try:
            matches: Callable[[str], object] = re.compile(pattern).search
        except re.error as error:
            print(f"no regular expression: {error}", file=sys.stderr)
            return 2
    else:

        def matches(line: str) -> object:
            return pattern in line

    for count, hit in enumerate(hits(asked["names"], matches), 1):
        if count > MOST_HITS:
            print(f"and more: the first {MOST_HITS} lines are shown")
            break
        print(hit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
