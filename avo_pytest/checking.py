# SPDX-License-Identifier: MIT
"""The correctness phase: the candidate alone, in as many fresh workers as its faults need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from avo_pytest.draw import Point
from avo_pytest.run import Run, parse_check
from avo_pytest.score import Check, Status

MAX_WORKERS = 6
# a candidate that hangs once would cost the timeout each time; one that dies is given a few tries
TOLERATED = {Status.TIMEOUT: 1, Status.CRASHED: 3}


class JudgeFault(Exception):
    """The judge itself failed; nothing is known about the candidate."""


def check_all(run: Run, points: Sequence[Point]) -> Iterator[Check]:
    """One Check for each point, as they come."""
    if run.failure:
        yield _check(run, points[0], Status.BUILD_ERROR, run.failure)
        yield from _all(run, points[1:], Status.BUILD_ERROR, "the candidate does not build")
        return
    run.stage(f"correctness: {len(points)} configurations")
    pending, lost = list(points), Counter[Status]()
    for _ in range(MAX_WORKERS):
        for check in _with_one_worker(run, pending):
            pending = [p for p in pending if p.configuration.name != check.configuration]
            run.progress(len(points) - len(pending), len(points), check.configuration)
            yield check
            lost[check.status] += 1
            if lost[check.status] >= TOLERATED.get(check.status, len(points)):
                reason = f"not attempted after {check.configuration}: {check.reason}"
                yield from _all(run, pending, check.status, reason)
                return
        if not pending:
            return
    reason = f"not attempted: {MAX_WORKERS} workers were lost before"
    yield from _all(run, pending, Status.CRASHED, reason)


def _all(run: Run, points: Sequence[Point], status: Status, reason: str) -> Iterator[Check]:
    for point in points:
        yield _check(run, point, status, reason)


def _check(run: Run, point: Point, status: Status, reason: str) -> Check:
    check = Check(
        configuration=point.configuration.name,
        arm="candidate",
        status=status,
        reason=reason,
        seed=point.seed,
    )
    run.journal.append({"kind": "check", "check": asdict(check)})
    return check


def _with_one_worker(run: Run, pending: Sequence[Point]) -> Iterator[Check]:
    checks = tuple({"configuration": asdict(p.configuration), "seed": p.seed} for p in pending)
    at, answered = pending[0], True
    with run.worker(run.arms[:1], checks=checks) as worker:
        for message in run.listen(worker):
            kind = message["kind"]
            if kind == "checking":
                name = message["configuration"]
                at = next(p for p in pending if p.configuration.name == name)
                answered = False
            elif kind == "check":
                answered = True
                yield parse_check(message["check"])
            elif kind == "error":
                raise JudgeFault(f"worker failed at {at.configuration.name}: {message['reason']}")
            elif kind == "done":
                return
        if not answered:
            yield _check(run, at, Status.CRASHED, worker.death())
