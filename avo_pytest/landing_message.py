# SPDX-License-Identifier: MIT
"""The message of a commit on `main` whose words an outsider chose: one line that gives no orders,
then trailers of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from avo_pytest.printable import one_plain_line

IDEA_LENGTH = 120


def landing_message(place: str, idea: str, candidate: str, trailers: Mapping[str, str]) -> str:
    """Of a landing commit; `place` is kernel/target."""
    told = {"Avo-Kernel": place, "Avo-Candidate": candidate, **trailers}
    lines = "".join(f"{key}: {one_plain_line(value, 200)}\n" for key, value in told.items())
    return f"{place}: {idea}\n\n{lines}"


def plain_idea(text: str) -> str:
    """An outsider's line for a commit message: no code forge notifies, closes or skips anything
    because of it. Applied again it changes nothing."""
    line, before = one_plain_line(text, IDEA_LENGTH), ""
    while line != before:  # one pattern may have stood behind another
        before = line
        for pattern, instead in _MEANINGS:
            line = pattern.sub(instead, line)
        line = one_plain_line(line, IDEA_LENGTH)
    return line or "no idea was given"


_MEANINGS = (
    (re.compile(r"#(?=\w)"), "no. "),  # fixes #12
    (re.compile(r"GH-(?=\d)", re.I), "GH "),
    (re.compile(r"@(?=\w)"), "at "),
    (re.compile(r"://"), ": "),
    (re.compile(r"\[([^\]]*\b(?:ci|actions)\b[^\]]*)\]", re.I), r"(\1)"),  # [skip ci]
    (re.compile(r"\*+(no_ci)\*+", re.I), r"\1"),  # ***NO_CI***
)
