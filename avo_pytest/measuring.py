# SPDX-License-Identifier: MIT
"""The throughput phase of a measurement: all arms in one worker, or in several in turn."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from avo_pytest import replicates
from avo_pytest.replicates import Running
from avo_pytest.run import Run
from avo_pytest.score import Stage


def measure(run: Run, blocks: int) -> None:
    """Add samples to the run, or set `run.failure`. A failing baseline is left out of all."""
    total = run.assignment.request.processes or 1
    with replicates.forks(run) if total > 1 else nullcontext():
        _measure(run, blocks, total)


def _measure(run: Run, blocks: int, total: int) -> None:
    done = 0
    while done < total:
        names = ", ".join(a["name"] for a in run.arms)
        of = f", process {done + 1} of {total}" if total > 1 else ""
        run.stage(f"throughput: {len(run.assignment.throughput)} configurations, {names}{of}")
        running = _with_one_worker(run, done, blocks)
        if running.failure is None:
            done += 1
            continue
        failure = replicates.blame(run, running)
        if failure.arm is None or run.role(failure.arm) != "baseline":
            break
        _forget(run)
        done = 0
        run.note(f"baseline {failure.arm} failed and is left out: {failure.reason}")
        run.leave_out(failure.arm, failure.reason)
    else:
        note_disturbance(run)
        return
    if failure.arm is None:  # the machine's fault: nothing counts, and nobody is called incorrect
        _forget(run)
    replicates.fail(run, running)


def note_disturbance(run: Run) -> None:
    """What the reader must know about the machine before believing the figures."""
    disturbed = [s.disturbed for s in run.samples if s.disturbed]
    if disturbed:
        run.note(
            f"{len(disturbed)} of {len(run.samples)} launches stayed disturbed after all repeats, "
            f"so intervals are wide; for example: {disturbed[0]}"
        )
    readings = [b[side] for b in run.blocks for side in ("before", "after") if side in b]
    strangers = {str(p) for reading in readings for p in reading.get("foreign_processes", ())}
    if strangers:
        run.note(f"other processes used this GPU meanwhile: {', '.join(sorted(strangers))}")


def _forget(run: Run) -> None:
    run.replicates.clear()
    run.samples.clear()
    run.blocks.clear()
    run.late_checks.clear()


def _with_one_worker(run: Run, number: int, blocks: int) -> Running:
    """Also what an interrupted worker has said counts: a measurement decides nothing."""
    device = run.assignment.device
    running = Running(number=number, stage=Stage.MEASURE, device=device, blocks=blocks)
    total = blocks * len(run.assignment.throughput) * 2 * len(run.arms)

    def heard(message: Mapping[str, Any]) -> bool:
        kind = message["kind"]
        if kind == "sample":
            run.progress(len(running.samples), total, message["sample"]["configuration"])
        elif kind == "absent":
            run.leave_out(message["arm"], message["reason"])
        elif kind == "staging":
            run.progress(0, total, f"loading {message['configuration']}")
        return False

    try:
        replicates.play(run, running, run.arms, heard)
    finally:
        replicates.keep(run, running)
    return running
