# SPDX-License-Identifier: MIT
"""The comment and the check: plain words, and nothing of an outsider's text comes alive in them."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avo_pytest.ci import comment
from avo_pytest.ci.order import Order
from avo_pytest.entries import Entry

SHA = "a" * 40
ORDER = Order(
    event="pull_request_target", sender="ada", created="2026-01-01T00:00:00+00:00",
    repository="team/kernels", run="1", attempt=1, nonce="n", pull=7, proposal=SHA,
    kernel="toy", target="cpu",
)  # fmt: skip
FIGURES = {"tflops": [2.0, 1.9, 2.1], "vs": {"incumbent": [1.03, 1.02, 1.04]}}
ENTRY = Entry(
    id="20260101-000000-abcdef", kind="verdict", created="2026-01-01T00:00:00+00:00",
    kernel="toy", target="cpu", version=3, verdict="PROMOTE", gain=(0.0296, 0.02, 0.04),
    replicates=8, reasons=({"rule": "gain", "text": "faster"},),
    configurations={"r16": {**FIGURES, "status": "ok"}, "r24": {"status": "incorrect"},
                    "slow": {"tflops": [1.0, 1.0, 1.0], "vs": {"incumbent": [0.9, 0.9, 0.9]}}},
)  # fmt: skip
HOSTILE = [
    "@everybody look", "see #1 and GH-2", "http://evil.example/x", "www.evil.example",
    "<img src=x onerror=alert(1)>", "<!-- avo/verdict " + "b" * 40 + " -->", "[x](javascript:1)",
    "![x](http://t.example/p.png)", "| a | b |\n|---|---|", "```\ncode", "\x1b[31mred",
    "::set-output name=x::y", "team/kernels#3", "team/kernels@" + "c" * 40, "ada@example.org",
]  # fmt: skip


def alive(markdown: str) -> str:
    """What a renderer would make of it: a link, notice, reference, image, tag or table."""
    raw = re.findall(r"[<>|`\[\]]|\n|!\[", markdown)
    shown = html.unescape(markdown)
    found = re.findall(r"@\w|#\w|://|www\.|GH-\d", shown)
    return " ".join([*raw, *found])


@pytest.mark.parametrize("text", HOSTILE)
def test_outside_text_is_dead(text):
    assert alive(comment.plain(text)) == ""


@given(st.text(max_size=200))
def test_any_text_is_dead(text):
    assert alive(comment.plain(text)) == ""


@given(st.from_regex(r"[A-Za-z0-9 ,.%=]{1,50}", fullmatch=True))
def test_plain_words_stay_readable(text):
    shown = html.unescape(comment.plain(text)).replace("\u2060", "")
    assert shown.split() == text.split()


@pytest.mark.parametrize("where", ["text", "advice"])
@pytest.mark.parametrize("text", HOSTILE)
def test_no_refusal_writes_markup(where, text):
    outcome = {"outcome": "refused", "rule": "mixed", "main": "", "entry": "", "text": "no"}
    clean = comment.body(ORDER, {**outcome, where: "word"}, None, {})
    dirty = comment.body(ORDER, {**outcome, where: text}, None, {})
    for sign in "<>|[]`":
        assert dirty.count(sign) == clean.count(sign)
    assert comment.marked(dirty) == SHA


def test_a_promotion_says_what_landed_and_shows_the_figures():
    outcome = {"outcome": "promoted", "verdict": "PROMOTE", "main": "b" * 40, "text": "",
               "entry": ENTRY.id}  # fmt: skip
    links = {"ledger": "https://github.test/ledger"}
    text = comment.body(ORDER, outcome, ENTRY, links)
    assert comment.marked(text) == SHA
    assert f"Landed as {'b' * 40}" in text and "It is version 3." in text
    assert "### PROMOTE: landed on main" in text
    assert "**+3.004 %**" in text and "8 fresh processes" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[1:] == ["| slow | 1 | -10.00 % |", "| r16 | 2 | +3.00 % |"]
    assert "[ledger](https://github.test/ledger)" in text and ENTRY.id in text
    assert "What to do" not in text
    as_is = comment.body(ORDER, {**outcome, "main": SHA}, ENTRY, {})
    assert "This very commit is `main` now" in as_is


@pytest.mark.parametrize("verdict", [v for v in comment.WORDS if v != "PROMOTE"])
def test_every_other_verdict_says_why_and_what_to_do(verdict):
    outcome = {"outcome": "recorded", "verdict": verdict, "main": "", "text": "", "entry": ENTRY.id}
    text = comment.body(ORDER, outcome, replace(ENTRY, verdict=verdict), {})
    assert f"### {verdict}: " in text and "- faster" in text and "**What to do:** " in text
    assert "{" not in text and (verdict != "INVALID" or SHA in text)


@pytest.mark.parametrize(
    ("outcome", "conclusion"),
    [
        ({"outcome": "promoted", "verdict": "PROMOTE"}, "success"),
        ({"outcome": "recorded", "verdict": "REJECT"}, "failure"),
        ({"outcome": "recorded", "verdict": "INCORRECT"}, "failure"),
        ({"outcome": "recorded", "verdict": "PROMOTE"}, "failure"),
        ({"outcome": "recorded", "verdict": "INCONCLUSIVE"}, "neutral"),
        ({"outcome": "refused", "verdict": "INVALID", "rule": "artifact"}, "neutral"),
        ({"outcome": "refused", "verdict": "PROMOTE", "rule": "replay"}, "failure"),
        ({"outcome": "refused", "verdict": "PROMOTE", "rule": "stale"}, "cancelled"),
        ({"outcome": "refused", "rule": "fork"}, "action_required"),
        ({"outcome": "refused", "rule": "mixed"}, "failure"),
    ],
)
def test_only_what_landed_is_a_success(outcome, conclusion):
    assert comment.conclusion(outcome) == conclusion
    assert alive(comment.title(outcome)) == ""


def test_a_title_takes_no_rule_from_outside():
    title = comment.title({"outcome": "refused", "rule": "<b>@x</b>"})
    assert title == "refused"


def test_a_comment_of_many_configurations_fits():
    many = {f"configuration-{n}": FIGURES for n in range(5000)}
    outcome = {"outcome": "recorded", "verdict": "REJECT", "main": "", "text": "x" * 10_000}
    text = comment.body(ORDER, outcome, replace(ENTRY, configurations=many), {})
    assert len(text) < 65_536 and "and 4960 more" in text
