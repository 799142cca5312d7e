# SPDX-License-Identifier: MIT
"""The throughput phase: all arms in one worker, and who is to blame when it is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from avo_pytest.arms import leave_out
from avo_pytest.run import ArmSpec, Run, parse_check
from avo_pytest.score import Check, Sample, Status


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a worker did not finish. `arm` is None when that is not known."""

    arm: str | None
    status: Status
    reason: str
    configuration: str


def measure(run: Run, blocks: int) -> None:
    """Add samples to the run, or set `run.failure`. A failing baseline is left out."""
    while True:
        names = ", ".join(a["name"] for a in run.arms)
        run.stage(f"throughput: {len(run.assignment.throughput)} configurations, {names}")
        failure = _with_one_worker(run, run.arms, blocks)
        if failure is None:
            _note_disturbance(run)
            return
        if failure.arm is None:
            failure = _blame(run, failure)
        if _role(run, failure.arm) != "baseline":
            break
        assert failure.arm is not None
        _forget(run)
        run.note(f"baseline {failure.arm} failed and is left out: {failure.reason}")
        leave_out(run, failure.arm, failure.reason)
    run.failure = f"{failure.arm or 'not measured'}: {failure.reason}"
    if failure.arm is None:  # the machine's fault: nothing counts, and nobody is called incorrect
        _forget(run)
        run.note(run.failure)
        return
    run.late_checks.append(
        Check(
            configuration=failure.configuration,
            arm=failure.arm,
            status=failure.status,
            reason=failure.reason,
        )
    )


def _note_disturbance(run: Run) -> None:
    """What the reader must know about the machine before believing the figures."""
    disturbed = [s.disturbed for s in run.samples if s.disturbed]
    if disturbed:
        run.note(
            f"{len(disturbed)} of {len(run.samples)} launches stayed disturbed after all repeats, "
            f"so intervals are wide; for example: {disturbed[0]}"
        )
    readings = [b[side] for b in run.blocks.values() for side in ("before", "after") if side in b]
    strangers = {str(p) for reading in readings for p in reading.get("foreign_processes", ())}
    if strangers:
        run.note(f"other processes used this GPU meanwhile: {', '.join(sorted(strangers))}")


def _role(run: Run, name: str | None) -> str | None:
    return next((a["role"] for a in run.arms if a["name"] == name), None)


def _forget(run: Run) -> None:
    run.samples.clear()
    run.blocks.clear()
    run.late_checks.clear()


def _with_one_worker(run: Run, arms: Sequence[ArmSpec], blocks: int) -> Failure | None:
    """None when the worker did all of it."""
    throughput = tuple(asdict(c) for c in run.assignment.throughput)
    at = throughput[0]["name"]
    with run.worker(arms, throughput=throughput, blocks=blocks) as worker:
        for message in run.listen(worker):
            kind = message["kind"]
            if kind == "staging":
                at = message["configuration"]
            elif kind == "sample":
                at = message["sample"]["configuration"]
            elif kind == "done":
                return None
            elif kind == "failed":
                return Failure(message["arm"], Status(message["status"]), message["reason"], at)
            elif kind == "error":
                return Failure(None, Status.INVALID, message["reason"], at)
            _keep(run, message, blocks * len(throughput) * 2 * len(arms))
        worker.stop()
        return Failure(None, Status.CRASHED, worker.death(), at)


def _keep(run: Run, message: Mapping[str, Any], total: int) -> None:
    kind = message["kind"]
    if kind == "check":
        run.late_checks.append(parse_check(message["check"]))
    elif kind == "block":
        run.blocks[message["block"]] = {k: v for k, v in message.items() if k != "kind"}
    elif kind == "block_end":
        run.blocks[message["block"]]["after"] = message["after"]
    elif kind == "sample":
        run.samples.append(Sample(**message["sample"]))
        run.progress(len(run.samples), total, message["sample"]["configuration"])
    elif kind == "absent":
        leave_out(run, message["arm"], message["reason"])
    elif kind == "staging":
        run.progress(0, total, f"loading {message['configuration']}")


def _blame(run: Run, failure: Failure) -> Failure:
    """A lost worker names no arm: run each arm alone in a fresh process, the candidate last."""
    kept = list(run.samples), dict(run.blocks), list(run.late_checks)
    for arm in sorted(run.arms, key=lambda a: a["role"] == "candidate"):
        run.stage(f"the worker was lost ({failure.reason}): running {arm['name']} alone")
        alone = _with_one_worker(run, [arm], 1)
        run.samples[:], run.blocks, run.late_checks[:] = list(kept[0]), dict(kept[1]), list(kept[2])
        if alone is not None:
            return Failure(arm["name"], alone.status, alone.reason, alone.configuration)
    return replace(failure, reason=f"{failure.reason}; alone, each arm ran well")
