# SPDX-License-Identifier: MIT
"""What an outsider's line may become on `main`."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avo_pytest.landing_message import IDEA_LENGTH, landing_message, plain_idea

ORDERS = re.compile(r"#\w|@\w|GH-\d|://|\[[^\]]*\b(ci|actions)\b[^\]]*\]|\*NO_CI\*", re.I)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two tiles a block", "two tiles a block"),
        ("fixes #12", "fixes no. 12"),
        ("closes ada/avo#3 and GH-4", "closes ada/avono. 3 and GH 4"),
        ("thanks @ada", "thanks at ada"),
        ("see https://example.org/1", "see https: example.org/1"),
        ("faster [skip ci]", "faster (skip ci)"),
        ("[ci skip][x] faster", "(ci skip)[x] faster"),
        ("***NO_CI*** faster", "NO_CI faster"),
        ("a\x1b[31mred\x07\u202e", "a [31mred"),
        ("a\nAvo-Version: 99", "a Avo-Version: 99"),
        (" \t\n", "no idea was given"),
    ],
)
def test_a_line_gives_no_orders(text: str, line: str) -> None:
    assert plain_idea(text) == line


@given(st.text(max_size=300) | st.from_regex(ORDERS) | st.text("#@[]: ciGH-1/\n", max_size=200))
def test_it_is_short_plain_and_final(text: str) -> None:
    line = plain_idea(text)
    assert 0 < len(line) <= IDEA_LENGTH
    assert line.isprintable() and not ORDERS.search(line)
    assert plain_idea(line) == line


def test_trailers_are_ours_and_on_lines_of_their_own() -> None:
    text = landing_message(
        "toy/cpu", "wider", "d" * 64, {"Avo-Version": "3", "Avo-Gain": "+1 %\nAvo-Version: 99"}
    )
    first, blank, *trailers = text.splitlines()
    assert (first, blank) == ("toy/cpu: wider", "")
    assert trailers == [
        "Avo-Kernel: toy/cpu",
        f"Avo-Candidate: {'d' * 64}",
        "Avo-Version: 3",
        "Avo-Gain: +1 % Avo-Version: 99",
    ]
