# SPDX-License-Identifier: MIT
"""The supervisor's place in a run: what it sees, where its course is kept, what becomes of it."""

from __future__ import annotations

from agent import briefing
from agent.detector import Attempted
from agent.run import Run
from agent.state import ACCEPTED, DIRECTED, ENDED, JUDGED, RESET, StepState
from agent.supervisor import Course, Intervention, Rung, digest, supervise


def steer(run: Run, island: int) -> Intervention | None:
    """What the next step of an island is told, once for each step; None: nothing."""
    if run.plan.control:
        return None
    seen = attempts(run, island)
    course = _course(run, island)
    text = digest(seen, lineage=briefing.lineage(run), notes=run.memory.text())
    course, intervention = supervise(course, seen, digest=text, model=run.ask)
    if intervention is None:
        return None
    run.journal.append(
        DIRECTED, island=island, course=course.as_json(), text=intervention.text,
        rung=int(intervention.rung),
    )  # fmt: skip
    if intervention.rung is Rung.RESTART:
        run.spaces[island].return_to_main()
        run.journal.append(RESET, island=island, reason=intervention.text)
    return intervention


def stopped(run: Run) -> str:
    """Why the supervisor ended the run; empty: it did not. Each island has to be at its end."""
    courses = [_course(run, island) for island in range(run.plan.islands)]
    if any(course.rung is not Rung.STOP for course in courses):
        return ""
    return str(run.history.of(DIRECTED)[-1].facts["text"])


def attempts(run: Run, island: int) -> list[Attempted]:
    """All scored attempts of an island, and the verdict on each proposal, in order."""
    found: list[Attempted] = []
    for step in run.history.island(island):
        found += _tried(run, step)
        if step.has(JUDGED):
            found.append(_judged(run, step))
        elif step.has(ENDED) and not step.attempts:
            reason = str(step.fact(ENDED, "result", ""))
            found.append(Attempted(step=step.number, verdict="", failure=reason, accepted=False))
    return found


def _tried(run: Run, step: StepState) -> list[Attempted]:
    folder = run.directory(step.number) / "attempts"
    return [
        Attempted(
            step=step.number,
            verdict=str(event.facts.get("verdict", "")),
            gain=event.facts.get("gain"),
            correct=bool(event.facts.get("correct")),
            failure="" if event.facts.get("correct") else str(event.facts.get("reason", "")),
            diff=_diff(folder / str(event.facts.get("diff", "")) if folder.is_dir() else None),
            accepted=False,
        )
        for event in step.attempts
    ]


def _judged(run: Run, step: StepState) -> Attempted:
    correct = bool(step.fact(JUDGED, "correct"))
    return Attempted(
        step=step.number,
        verdict=str(step.fact(JUDGED, "verdict")),
        gain=step.fact(JUDGED, "gain"),
        correct=correct,
        failure="" if correct else str(step.fact(JUDGED, "reason", "")),
        accepted=bool(step.fact(ACCEPTED, "landed")),
    )


def _course(run: Run, island: int) -> Course:
    mine = [e for e in run.history.of(DIRECTED) if e.facts.get("island") == island]
    return Course.from_json(dict(mine[-1].facts["course"])) if mine else Course()


def _diff(path: object) -> str:
    from pathlib import Path

    return path.read_text(encoding="utf-8") if isinstance(path, Path) and path.is_file() else ""
