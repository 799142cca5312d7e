# SPDX-License-Identifier: MIT
"""The report of a run: what was tried, what became of it, what it cost, how to go on. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from agent.live import standing
from agent.pull_request import quoted, table
from agent.state import (
    ABANDONED,
    ACCEPTED,
    BEGUN,
    CLOSED,
    DIRECTED,
    ENDED,
    JUDGED,
    MIGRATED,
    PROPOSED,
    QUEUED,
    RECORDED,
    RESET,
    VARIED,
    History,
    Plan,
    StepState,
)

FILE = "report.md"


def report(plan: Plan, history: History, spent: Mapping[str, float]) -> str:
    """Markdown; whatever an operator wrote is quoted as text."""
    parts = [
        f"# Run {plan.run}: {plan.kernel}/{plan.target}",
        f"Operator `{plan.operator}`, begun {plan.created}, judged "
        f"{'by CI' if plan.score_via == 'ci' else 'here'}"
        f"{f', control arm {plan.control}' if plan.control else ''}. "
        f"{quoted(standing(plan, history, spent))}.",
        _conclusion(plan, history),
        "## Versions\n\n" + (_versions(history) or "None: the incumbent held."),
        "## Steps\n\n" + _steps(history),
        _supervision(history),
        *(_step(step) for step in history.steps if step.attempts),
        f"## Go on\n\n    python -m agent evolve --resume {plan.run}\n"
        f"    python -m agent replay {plan.run}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def conclusion(history: History) -> str:
    """One sentence: the version with its confirmed gain, or that the incumbent held, or that
    nothing can be told here."""
    versions = [step for step in history.steps if step.fact(RECORDED, "landed")]
    if versions:
        last = versions[-1]
        gain, lower = last.fact(JUDGED, "gain"), last.fact(JUDGED, "lower")
        bound = "" if lower is None else f" (at least {lower:+.2%})"
        return (
            f"version {last.fact(RECORDED, 'version')} was promoted: {gain:+.2%}{bound}, confirmed"
        )
    judged = [step for step in history.steps if step.has(JUDGED)]
    lost = [step for step in judged if step.fact(JUDGED, "verdict") in ("INVALID", "ERROR")]
    if judged and len(lost) == len(judged):
        why = lost[-1].fact(JUDGED, "reason", "")
        return f"the machine was too disturbed to tell: {why}"
    attempts = sum(len(step.attempts) for step in history.steps)
    return f"the incumbent held: {attempts} attempts, {len(judged)} confirmed or refused"


def _conclusion(plan: Plan, history: History) -> str:
    closed = history.of(CLOSED)
    waiting = [step for step in history.steps if step.waiting and step.fact(QUEUED, "branch")]
    if waiting:
        names = ", ".join(str(step.fact(QUEUED, "branch")) for step in waiting)
        return f"Waiting for the verdict on {names}."
    why = f" Ended: {quoted(str(closed[-1].facts['reason']))}." if closed else ""
    return f"**{quoted(conclusion(history)).capitalize()}.**{why}"


def _versions(history: History) -> str:
    rows = [
        f"| {step.fact(RECORDED, 'version')} | {step.number} | {_percent(step)} "
        f"| {quoted(str(step.fact(PROPOSED, 'idea')))} | `{step.fact(RECORDED, 'landed')[:12]}` |"
        for step in history.steps
        if step.fact(RECORDED, "landed")
    ]
    head = ["| version | step | gain | idea | commit |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows]) if rows else ""


def _steps(history: History) -> str:
    rows = [
        "| step | island | operator ended | attempts | verdict | gain | idea | result | tree |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for step in history.steps:
        tree = str(step.fact(ABANDONED, "tree", ""))[:12]
        cells = (
            step.number, step.island, step.fact(VARIED, "ending", "under way"),
            len(step.attempts), step.fact(JUDGED, "verdict", ""), _percent(step),
            quoted(str(step.fact(PROPOSED, "idea", ""))),
            quoted(str(step.fact(ENDED, "result", "under way"))), f"`{tree}`" if tree else "",
        )  # fmt: skip
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows) if history.steps else "None."


def _supervision(history: History) -> str:
    lines = []
    for event in history.events:
        if event.kind == DIRECTED:
            lines.append(f"- {event.at} rung {event.facts['rung']}: {event.facts['text']}")
        elif event.kind == RESET:
            lines.append(f"- {event.at} back to main: {event.facts['reason']}")
        elif event.kind == MIGRATED and event.facts["source"] != event.facts["island"]:
            moved = f"island {event.facts['island']} went on from island {event.facts['source']}"
            lines.append(f"- {event.at} {moved}")
    text = "\n".join(f"- {quoted(said[2:])}" for said in lines)
    return f"## Supervision\n\n{text}" if lines else ""


def _step(step: StepState) -> str:
    joined = (
        "" if not step.has(ACCEPTED) or step.fact(ACCEPTED, "landed") else ", joined the lineage"
    )
    direction = step.fact(BEGUN, "direction")
    told = f"\n\nDirection: {quoted(str(direction))}" if direction else ""
    return f"### Attempts of step {step.number}{joined}{told}\n\n{table(step)}"


def _percent(step: StepState) -> str:
    gain = step.fact(JUDGED, "gain")
    return "" if gain is None else f"{gain:+.2%}"
