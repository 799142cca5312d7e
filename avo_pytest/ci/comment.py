# SPDX-License-Identifier: MIT
"""The one comment of a pull request, and the text of its check: what was decided, the figures, what
to do. Pure. Every text that an outsider had a hand in is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from avo_pytest.ci.order import Order
from avo_pytest.entries import Entry, figures
from avo_pytest.printable import printable
from avo_pytest.verdict import percent

MARKER = "<!-- avo/verdict "
LONGEST = 60_000  # of a comment; GitHub takes 65 536 characters
MOST_ROWS = 40
PROMOTED, RECORDED, IGNORED = "promoted", "recorded", "ignored"
WAITS = ("fork", "runner", "rate", "permission", "head")  # rules: somebody has to do something
AGAIN = ("stale", "harness", "policy")  # rules: main moved meanwhile; `poll` starts it again
# Verdict → what it says to somebody who has never read docs/verdict.md, and what to do
WORDS = {
    "PROMOTE": ("faster, by a test with a stated error rate", ""),
    "REJECT": (
        "not faster than what `main` has, or slower where it must not be",
        "Try another idea, or mend the configuration that is named.",
    ),
    "INCONCLUSIVE": (
        "neither faster nor slower could be shown",
        "`avo power` says which gain is found with how many processes; make the gain larger.",
    ),
    "INCORRECT": (
        "the result is wrong or it does not build; nothing about speed counts",
        "Correct it first: `pytest bench/` checks without timing.",
    ),
    "INVALID": (
        "the measurement is incomplete or cannot be believed",
        "Nothing is wrong with the kernel as far as is known: score it again with "
        "`/avo score {proposal}`.",
    ),
    "NO-CHANGE": (
        "it is the same code as on `main` once it is compiled",
        "Change what the device executes; comments and names do not count.",
    ),
}
RULES = {
    "fork": "waits for a maintainer",
    "runner": "waits for a machine",
    "mixed": "changes more than one kernel's folder",
    "stale": "main moved meanwhile; it is judged again",
    "harness": "the judge changed meanwhile; it is judged again",
    "policy": "the rules changed meanwhile; it is judged again",
}
_MARKUP = re.compile(r"(^[-=]|[\\`*_{}\[\]()#+!|<>~@&])")
# What GitHub makes links and notices of after markup is rendered: a word joiner comes after it.
_MEANINGS = re.compile(r"([@#]|:(?=//)|\bwww(?=\.)|\bGH(?=-))", re.IGNORECASE)


def plain(text: str, most: int = 600) -> str:
    """Somebody's text in markdown: no markup, link, mention, reference or HTML survives."""
    line = _MEANINGS.sub("\\1\u2060", printable(text, " ")[:most])
    return _MARKUP.sub(lambda found: f"&#{ord(found[1])};", line)


def title(outcome: Mapping[str, Any]) -> str:
    """One line, without outside text: that of the check and of the comment."""
    if outcome["outcome"] == PROMOTED:
        return "PROMOTE: landed on main"
    verdict = outcome.get("verdict")
    if outcome["outcome"] == RECORDED and verdict in WORDS:
        return f"{verdict}: {WORDS[verdict][0].replace('`', '')}"
    rule = str(outcome.get("rule", ""))
    known = RULES.get(rule) or (f"refused by rule {rule}" if re.fullmatch(r"[a-z ]+", rule) else "")
    word = f"{verdict}: " if verdict in ("INVALID", "INCORRECT") else ""
    return f"{word}{known or 'refused'}"


def conclusion(outcome: Mapping[str, Any]) -> str:
    """As a check run has it. Only a promotion is a success; no fault of the proposer is neutral."""
    if outcome["outcome"] == PROMOTED:
        return "success"
    if outcome.get("rule") in AGAIN:
        return "cancelled"
    if outcome.get("rule") in WAITS:
        return "action_required"
    neutral = outcome.get("verdict") in ("INVALID", "INCONCLUSIVE", "NO-CHANGE")
    return "neutral" if neutral else "failure"


def body(
    order: Order, outcome: Mapping[str, Any], entry: Entry | None, links: Mapping[str, str]
) -> str:
    """The comment, from its marker to its links."""
    parts = [
        f"{MARKER}{order.proposal} -->",
        f"### {title(outcome)}",
        *_story(order, outcome, entry),
        *_table(entry),
        *_next(order, outcome),
        _footer(order, outcome, links),
    ]
    return "\n\n".join(part for part in parts if part)[:LONGEST]


def marked(text: Any) -> str:
    """The head that a comment of ours is about; empty: it is none of ours."""
    found = re.match(rf"{re.escape(MARKER)}([0-9a-f]{{40}}) -->", text or "")
    return found[1] if found else ""


def _story(order: Order, outcome: Mapping[str, Any], entry: Entry | None) -> Iterator[str]:
    if outcome["outcome"] == PROMOTED:
        same = outcome["main"] == order.proposal
        how = "This very commit is" if same else f"Landed as {outcome['main']}, which is"
        number = f" It is version {entry.version}." if entry is not None else ""
        yield f"{how} `main` now.{number}"
    elif outcome["outcome"] == RECORDED and entry is not None:
        for reason in entry.reasons:
            yield f"- {plain(reason.get('text', ''))}"
    else:
        yield plain(str(outcome.get("text", "")))
    if entry is not None and entry.gain is not None:
        value, low, high = entry.gain
        yield (
            f"Gain over `main`: **{percent(value)}**, one-sided bounds {percent(low)} to "
            f"{percent(high)}, {entry.replicates} fresh processes."
        )
    for note in order.notes:
        yield f"Note: {plain(note)}"


def _table(entry: Entry | None) -> Iterator[str]:
    """Configurations, the greatest loss first."""
    if entry is None or not entry.configurations:
        return
    rows = [row for item in entry.configurations.items() if (row := _row(*item)) is not None]
    if not rows:
        return
    rows.sort(key=lambda row: row[0])
    shown = [text for _, text in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        shown.append(f"| and {len(rows) - MOST_ROWS} more | | |")
    head = "| configuration | TFLOPS | against `main` |\n|---|---:|---:|"
    table = "\n".join([head, *shown])
    yield f"<details open><summary>{len(rows)} configurations</summary>\n\n{table}\n\n</details>"


def _row(name: str, raw: Mapping[str, Any]) -> tuple[float, str] | None:
    found = figures(raw)
    if found is None:
        return None
    ratio = found.ratios.get("incumbent")
    gain = "" if ratio is None else f"{100 * (ratio[0] - 1):+.2f} %"
    tflops = f"{found.tflops[0]:.4g}"
    return (ratio[0] if ratio else 1.0), f"| {plain(name, 100)} | {tflops} | {gain} |"


def _next(order: Order, outcome: Mapping[str, Any]) -> Iterator[str]:
    if outcome["outcome"] == PROMOTED:
        return
    advice = plain(str(outcome.get("advice", "")))
    known = WORDS.get(str(outcome.get("verdict")), ("", ""))[1] if not advice else ""
    steps: Sequence[str] = [s for s in (advice, known.format(proposal=order.proposal)) if s]
    if steps:
        yield f"**What to do:** {' '.join(steps)}"


def _footer(order: Order, outcome: Mapping[str, Any], links: Mapping[str, str]) -> str:
    about = [f"head {order.proposal[:12]}"]
    if order.kernel and order.target:
        about.append(f"{plain(order.kernel, 64)} on {plain(order.target, 64)}")
    about += [f"[{name}]({url})" for name, url in links.items() if url]
    recorded = outcome.get("entry")
    about.append(f"ledger entry {recorded}" if recorded else "not in the ledger")
    return f"<sub>{' · '.join(about)}</sub>"
