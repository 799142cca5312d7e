# SPDX-License-Identifier: MIT
"""The confirm: a number of fresh processes that was fixed before, on one device or several.

Nobody looks at a value before the last process has ended; what is shown is how far they are.
"""

from __future__ import annotations

import time

from avo_pytest import replicates, shares
from avo_pytest.process import WorkerProcess, ready
from avo_pytest.replicates import Running
from avo_pytest.run import Run
from avo_pytest.score import Stage

Crew = dict[WorkerProcess, Running]  # who is at work, one a device


def run_confirm(run: Run) -> None:
    """All replicates that the plan, or this machine's share of it, still lacks. One that fails ends
    the run: `run.failure`."""
    first = sum(r.stage is Stage.SCREEN for r in run.replicates)
    own = shares.own(run.assignment.request.share, int(run.plan["replicates"]))
    total, finished = len(own), {r.number for r in run.replicates}
    pending = [first + place for place in own if first + place not in finished]
    devices = run.assignment.devices
    what = "calibration" if run.assignment.request.mode == "calibrate" else "confirm"
    run.stage(f"{what}: {total} replicates of {run.plan['blocks']} blocks on {', '.join(devices)}")
    progress = _Progress(run, what, total)
    crew: Crew = {}
    try:
        while pending or crew:
            for device in devices:
                if pending and device not in {one.device for one in crew.values()}:
                    _start(run, crew, pending.pop(0), device)
            for worker in ready(crew):
                one = crew[worker]
                _hear(run, worker, one)
                if one.over:
                    worker.close()
                    del crew[worker]
                    if one.failure is not None:
                        _end(run, crew, one)
                        return
                    replicates.keep(run, one)
            progress.show(crew)
    finally:
        _dismiss(crew)


def _start(run: Run, crew: Crew, number: int, device: str) -> None:
    blocks = int(run.plan["blocks"])
    one = Running(number=number, stage=Stage.CONFIRM, device=device, blocks=blocks)
    crew[replicates.start(run, one, run.arms)] = one


def _hear(run: Run, worker: WorkerProcess, one: Running) -> None:
    messages = worker.receive()
    if messages is None:
        worker.stop()
        one.lose(worker.death())
        return
    for message in messages:
        run.log(message, one.number)
        one.take(message)


def _end(run: Run, crew: Crew, failed: Running) -> None:
    """A confirm lacks nothing or is none: the others stop, and the cause is looked for."""
    _dismiss(crew)
    replicates.blame(run, failed)
    replicates.keep(run, failed)
    replicates.fail(run, failed)


def _dismiss(crew: Crew) -> None:
    for worker in crew:
        worker.close()
    crew.clear()


class _Progress:
    """How many replicates are done and how long the others may take; no values."""

    def __init__(self, run: Run, what: str, total: int) -> None:
        self._run, self._what, self._total = run, what, total
        self._already, self._begun_s = self._done(), time.monotonic()

    def show(self, crew: Crew) -> None:
        """After something was heard."""
        done = self._done()
        part = sum(len(one.readings) / one.blocks for one in crew.values())
        spent_s = time.monotonic() - self._begun_s
        share = (done + part - self._already) / (self._total - self._already)
        left = f", about {_clock(spent_s / share - spent_s)} left" if share > 0 else ""
        text = f"{done} of {self._total} replicates, {_clock(spent_s)} elapsed{left}"
        self._run.estimate(done, self._total, f"{self._what}: {text}")

    def _done(self) -> int:
        return sum(r.stage is Stage.CONFIRM for r in self._run.replicates)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
