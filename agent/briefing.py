# SPDX-License-Identifier: MIT
"""What a step is told: where it stands, what was tried before, and the supervisor's direction."""

from __future__ import annotations

import math

from agent import prompts, shell
from agent.run import Run
from agent.state import ABANDONED, ACCEPTED, BEGUN, ENDED, JUDGED, PROPOSED, StepState
from agent.step import Limits
from agent.supervisor import Intervention
from agent.supervisor import brief as direction_text
from avo_pytest.journal import write_atomically
from avo_pytest.printable import printable

SWEEP_TURNS = 24  # settings of one step
CONFIRM_MARGIN = 1.4  # with the screen before it
SHOWN = 12  # earlier steps
NOTES = 20
OPERATOR_FREE = ("sweep",)  # whose outcome is no experience worth a note


def brief(run: Run, step: StepState) -> str:
    """The text of a step; the same again when the step goes on after a kill."""
    path = run.directory(step.number) / "brief.md"
    if not path.exists():
        place = {"kernel": run.plan.kernel, "target": run.plan.target}
        text = prompts.prompt(
            "brief",
            **place,
            folder=f"kernels/{run.plan.kernel}/{run.plan.target}",
            standing=_standing(run, step) + _without_shell(run),
            lineage=lineage(run),
            failed=_failed(run, step),
            memory=_notes(run),
            direction=str(step.fact(BEGUN, "directed", "") or "Yours to choose."),
        )
        write_atomically(path, text)
    return path.read_text(encoding="utf-8")


def directed(intervention: Intervention) -> str:
    """The supervisor's part of a brief."""
    return printable(direction_text(intervention))


def limits(run: Run) -> Limits:
    """Of a step. The control arm has one long session with the run's budget alone."""
    if run.plan.control:
        return Limits(turns=100_000, minutes_without_score=math.inf, usd_without_score=math.inf)
    if run.plan.operator == "sweep":
        left = run.spend.left().get("hours", math.inf)  # a confirm must still fit in
        minutes = max(0.0, 60 * left - CONFIRM_MARGIN * run.confirm_s / 60)
        return Limits(turns=SWEEP_TURNS, minutes_without_score=minutes)
    return Limits()


def remember(run: Run, step: StepState, result: str) -> None:
    """What later runs should know of a step that proposed something."""
    idea = step.fact(PROPOSED, "idea")
    if not idea or run.plan.operator in OPERATOR_FREE or run.plan.control:
        return
    gain = step.fact(JUDGED, "gain")
    figure = "" if gain is None else f" ({gain:+.2%} by {step.fact(JUDGED, 'verdict')})"
    kind = "fact" if step.has(ACCEPTED) else "failed"
    run.memory.add(kind, f"{idea}{figure}: {result}", run=run.plan.run, step=step.number)


def line(step: StepState) -> str:
    """One step in one line, for briefs and reports."""
    idea = step.fact(PROPOSED, "idea") or step.fact(BEGUN, "direction") or "no proposal"
    gain = step.fact(JUDGED, "gain")
    figure = "" if gain is None else f" {gain:+.2%}"
    verdict = step.fact(JUDGED, "verdict", "")
    result = step.fact(ENDED, "result", "under way")
    tree = step.fact(ABANDONED, "tree", "")
    kept = f" [tree {tree[:12]}]" if tree else ""
    return f"{step.number}. {idea} — {verdict}{figure} {result}{kept}".replace("  ", " ")


def _standing(run: Run, step: StepState) -> str:
    """Whether the tip is main, or some steps beyond it."""
    accepted = run.accepted(step.island)
    here = f"This is step {step.number} of run {run.plan.run}."
    if run.plan.control:
        here += " It is the only one: go on until you find no more, for one proposal ends the run."
    if not accepted:
        return f"{here} The worktree is main's version, the incumbent."
    gains = ", ".join(f"{one.gain:+.2%}" for one in accepted)
    return (
        f"{here} The worktree is {len(accepted)} unconfirmed steps beyond main (measured {gains}). "
        "A proposal takes all of them with it; it is compared with main."
    )


def _without_shell(run: Run) -> str:
    """Why a model misses a tool that it may know from elsewhere."""
    why = shell.refusal() if run.plan.operator == "claude" else ""
    return f" There is no shell here: {why}." if why else ""


def lineage(run: Run) -> str:
    """This run's steps that got anywhere; the rest is for the `lineage` tool."""
    if run.plan.control:
        return "Not for this session."
    kept = [s for s in run.history.steps if s.has(ACCEPTED)]
    return "\n".join(printable(line(s), " ") for s in kept[-SHOWN:]) or "No step of this run yet."


def _failed(run: Run, step: StepState) -> str:
    """Failed trees can be looked at and restored, by the `lineage` tool."""
    if run.plan.control:
        return "Not for this session."
    lost = [s for s in run.history.steps if s.has(ABANDONED) and s.number < step.number]
    return "\n".join(printable(line(s), " ") for s in lost[-SHOWN:]) or "Nothing in this run yet."


def _notes(run: Run) -> str:
    if run.plan.control:
        return "Not for this session."
    return run.memory.text(NOTES) or "No notes yet."
