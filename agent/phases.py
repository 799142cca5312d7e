# SPDX-License-Identifier: MIT
"""What happens in a step, part by part: vary, propose, judge, record, settle.

Each returns the facts of its event, or None where somebody else has to go first. Each may be
repeated as a whole: operators go on from their own records, commits come out the same, tickets are
found again, and a record that is in the ledger is known there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agent import briefing, judging
from agent.budget import Exhausted
from agent.run import Run
from agent.state import (
    ABANDONED,
    ACCEPTED,
    BEGUN,
    BROKEN,
    ENDED,
    JUDGED,
    PROPOSED,
    RECORDED,
    VARIED,
    StepState,
)
from agent.step import Ending, Step, Submission
from agent.supervisor import Intervention
from agent.watching import Metered, watched
from agent.working import estimate, objection
from avo_pytest.recording import clean

Facts = dict[str, Any]
SEEDS = 1_000_003  # between the seeds of two steps
HALF_WRITTEN = re.compile(r"\.new-[0-9a-f]{12}")  # as `agent.tools.beneath` calls it
MOST_BROKEN = 2  # times that an operator may break in one step


def begin(run: Run, island: int, intervention: Intervention | None) -> StepState:
    """A new step of an island, from its tip."""
    number = len(run.history.steps) + 1
    direction = intervention.direction if intervention else None
    facts: Facts = {"island": island, "seed": run.plan.seed * SEEDS + number}
    if direction is not None and intervention is not None:
        facts |= {
            "direction": direction.title,
            "region": direction.region,
            "directed": briefing.directed(intervention),
        }
    facts["tip"] = run.spaces[island].tip()
    run.journal.append(BEGUN, number, **facts)
    return run.step(number)


def vary(run: Run, step: StepState) -> Facts | None:
    """Let the operator work, or go on working."""
    space = run.space(step)
    worktree = space.worktree(step.number)
    _tidy(space.folder(step.number))
    spend = Metered(run.spend)
    tools = watched(run, step, worktree, spend)
    given = Step(
        run=run.plan.run,
        number=step.number,
        kernel=run.plan.kernel,
        target=run.plan.target,
        worktree=worktree,
        folder=space.folder(step.number),
        directory=run.directory(step.number),
        brief=briefing.brief(run, step),
        tools=tools,
        spend=spend,
        limits=briefing.limits(run),
        seed=int(step.fact(BEGUN, "seed", 0)),
        region=str(step.fact(BEGUN, "region", "")),
    )
    outcome = run.operator.vary(given)
    if outcome.ending is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    if outcome.ending is Ending.LIMIT and spend.refused:
        raise Exhausted(spend.refused)  # the step stays open: a larger budget goes on with it
    if outcome.ending is Ending.FAILED and _again(run, step, outcome.reason):
        raise judging.JudgingError(f"step {step.number}: {outcome.reason}")
    run.evaluator.close()  # what it never waited for would disturb the next to measure
    spend.release()
    said = None if outcome.submission is None else asdict(outcome.submission)
    return {
        "ending": str(outcome.ending),
        "reason": clean(outcome.reason),
        "submission": said,
        "attempts": outcome.attempts,
        "usage": dict(outcome.usage),
    }


def _tidy(folder: Path) -> None:
    """A write that a kill cut short leaves its new file beside the old one; no proposal may."""
    for path in folder.rglob(".new-*"):
        if HALF_WRITTEN.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()


def _again(run: Run, step: StepState, reason: str) -> bool:
    """Whether a step whose operator broke is to be gone on with by the next --resume."""
    before = [e for e in run.history.of(BROKEN) if e.step == step.number]
    run.journal.append(BROKEN, step.number, reason=clean(reason))
    return len(before) < MOST_BROKEN


def propose(run: Run, step: StepState) -> Facts | None:
    """Its tree as a commit in normal form; a tree that cannot be one is refused here."""
    from agent.workspace import WorkspaceError

    submission = Submission(**step.fact(VARIED, "submission"))
    author = submission.author or run.operator.name
    if run.operator.name != "sweep":
        author = f"{author} (AI)"
    try:
        commit = run.space(step).propose(step.number, replace(submission, author=author))
    except WorkspaceError as error:
        return {"refusal": str(error)}
    return {"commit": commit, "idea": clean(submission.idea), "author": author}


def settle(run: Run, step: StepState) -> Facts | None:
    """Where the working lineage goes from here, and what is remembered."""
    space = run.space(step)
    landed = step.fact(RECORDED, "landed")
    if landed:
        run.clone.synchronise()
        space.return_to_main()
        _tell(run, step, ACCEPTED, commit=landed, gain=step.fact(JUDGED, "gain"), landed=True)
        result = f"version {step.fact(RECORDED, 'version')} of main"
    elif why := _objection(run, step):
        reference = space.keep_failed(step.number, why)
        _tell(run, step, ABANDONED, reason=why, tree=reference)
        result = why
    else:
        tip = space.accept(step.fact(PROPOSED, "commit"))
        _tell(run, step, ACCEPTED, commit=tip, gain=_over_tip(run, step), landed=False)
        result = "joined the working lineage"
    briefing.remember(run, step, result)
    space.close(step.number)
    return {"result": result}


def _tell(run: Run, step: StepState, kind: str, /, **facts: Any) -> None:
    """Once: settling may be repeated."""
    if not step.has(kind):
        run.journal.append(kind, step.number, island=step.island, **facts)


def _objection(run: Run, step: StepState) -> str:
    """Why a step does not join the working lineage; empty where it may."""
    if step.has(ACCEPTED):
        return ""
    if not step.has(JUDGED):
        refused = step.fact(PROPOSED, "refusal")
        return str(refused or step.fact(VARIED, "reason") or step.fact(VARIED, "ending"))
    why = objection(
        run.accepted(step.island),
        verdict=str(step.fact(JUDGED, "verdict")),
        correct=step.fact(JUDGED, "correct"),
        gain=_over_tip(run, step),
    )
    return why and f"{step.fact(JUDGED, 'verdict')}: {step.fact(JUDGED, 'reason') or why}"


def _over_tip(run: Run, step: StepState) -> float | None:
    """What it was measured to gain over main, against what the tip is believed to have gained."""
    gain = step.fact(JUDGED, "gain")
    if step.has(ACCEPTED):
        return float(step.fact(ACCEPTED, "gain"))
    if gain is None:
        return None
    return (1.0 + float(gain)) / (1.0 + estimate(run.accepted(step.island))) - 1.0


PHASES: Mapping[str, Callable[[Run, StepState], Facts | None]] = {
    VARIED: vary,
    PROPOSED: propose,
    JUDGED: judging.judge,
    RECORDED: judging.record,
    ENDED: settle,
}
