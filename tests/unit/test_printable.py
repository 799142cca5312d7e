# SPDX-License-Identifier: MIT
"""What a candidate says cannot command a terminal or a CI system."""

from __future__ import annotations

import pytest

from avo_pytest.codes import BuildError
from avo_pytest.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, é ü 漢", "plain text, é ü 漢"),
        ("a\nb\r\n\n  c", "a | b |   c"),
        ("\033[2J\033]0;owned\a", "?[2J?]0;owned?"),
        ("a\r::error::b\u2028::c\x85::d", "a | ::error::b | ::c | ::d"),
        ("right\u202eleft", "right?left"),
        ("\0\x7f", "??"),
    ],
)
def test_control_characters_and_line_ends_are_taken_away(text: str, shown: str) -> None:
    assert printable(text, " | ") == shown


def test_no_line_of_a_compilers_log_stands_alone() -> None:
    error = BuildError("does not compile", "error: x\n::set-output name=a::b\n\033[31mred")
    assert str(error).splitlines() == [
        "does not compile",
        "| error: x",
        "| ::set-output name=a::b",
        "| ?[31mred",
    ]
