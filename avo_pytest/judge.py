# SPDX-License-Identifier: MIT
"""One scoring run from request to record; the phases are in arms, checking and measuring."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from avo_pytest import arms, checking, deciding, measuring, replicates
from avo_pytest.assignment import Request, RequestError, assign
from avo_pytest.checking import JudgeFault
from avo_pytest.deciding import Trial
from avo_pytest.draw import points
from avo_pytest.lock import device_lock
from avo_pytest.run import Listener, Run
from avo_pytest.score import Check, Record, Sample
from avo_pytest.source import Source

__all__ = ["Judge", "JudgeFault", "Request", "RequestError"]

DEFAULT_BLOCKS = {"cpu": 10, "cuda": 20}


class Judge:
    """Lazy: nothing is built or started before the first result is asked for.

    Results may be asked for in any order; they stream in and are kept. `finish()` must be called,
    also after an exception. Raises RequestError when the request cannot be served.
    """

    def __init__(self, request: Request, listener: Listener) -> None:
        self.run = Run.begin(assign(request), listener)
        self._closing = ExitStack()
        with ExitStack() as failing:
            failing.callback(self._closing.close)
            self._candidate = arms.candidate_source(self.run, self._scratch())
            self._incumbent: Source | None = None
            self._trial = self._try()
            self._points = points(self.run.assignment, self._candidate.path)
            failing.pop_all()
        self._started = False
        self.lost: list[str] = []  # what `finish` could not keep
        self._measured = False
        self._checking: Iterator[Check] = iter(())
        self._record: Record | None = None

    def correctness_names(self) -> list[str]:
        """Fixed configurations, then those drawn for this run's seed."""
        return [point.configuration.name for point in self._points]

    def throughput_names(self) -> list[str]:
        """The configurations of the chosen set, filtered."""
        return [c.name for c in self.run.assignment.throughput]

    def select(self, throughput: Collection[str]) -> None:
        """Time only these. The run becomes a subset: no geometric mean, never promotable."""
        assignment = self.run.assignment
        kept = tuple(c for c in assignment.throughput if c.name in throughput)
        self.run.assignment = replace(assignment, throughput=kept, subset=True)
        if self._trial is not None:
            self._trial.release()  # a killed confirm was of the whole set

    def correctness(self, name: str) -> Check:
        """The candidate's check of one configuration."""
        self._start()
        while name not in self.run.checks:
            check = next(self._checking)
            self.run.checks[check.configuration] = check
        return self.run.checks[name]

    def throughput(self, name: str) -> list[Sample]:
        """The candidate's samples of one configuration; empty when `failure(name)` says why."""
        self._measure_once()
        if self.run.failure:
            return []
        return [s for s in self.run.samples if s.configuration == name and s.arm == "candidate"]

    def failure(self, name: str) -> str:
        """Why a configuration has no samples."""
        return self.run.failure or f"{name} was not measured"

    def calibrate(self) -> None:
        """Time the incumbent against itself. Each process checks all arms in full before."""
        self._start()
        if self._trial is not None and not self._measured:
            self._measured = True
            deciding.measure(self.run, self._trial)

    def finish(self, interrupted: str = "") -> Record | None:
        """Stop everything, write the record. None when nothing was judged. Safe to call twice."""
        self._closing.close()
        if not self._started:
            return None
        if self._record is None:
            if interrupted:
                self.run.note(interrupted)
            record = self.run.record()
            if self._trial is not None:
                record = deciding.decided(self._trial, record)
            self.lost = self.run.save(record)
            if self._trial is not None and not interrupted:  # else it can be continued
                deciding.close(self.run, self._trial, record)
            self._record = replace(record, notes=(*record.notes, *self.lost))
        return self._record

    def _scratch(self) -> Path:
        return Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="avo-")))

    def _try(self) -> Trial | None:
        """What a run needs that will be decided; None for a measurement."""
        run = self.run
        if not run.assignment.decides:
            return None
        self._incumbent = arms.incumbent_source(run, self._scratch())
        if run.assignment.request.mode == "calibrate":
            self._candidate = self._incumbent or self._candidate  # of which there are two
        trial = Trial.of(run, self._candidate, self._incumbent or self._candidate)
        self._closing.callback(trial.release)
        return trial

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        run = self.run
        if self._trial is not None:
            deciding.open_run(run, self._trial)
        run.journal.append({"kind": "run", "run": run.name, "kernel": run.assignment.problem.name})
        for lock in sorted(run.assignment.locks):  # in one order, so that two judges never cross
            self._closing.enter_context(device_lock(lock, self._waiting))
        if self._trial is None:  # late, so that a plain look at a clone needs no git
            self._incumbent = arms.incumbent_source(run, self._scratch())
        if self._trial is not None:  # its imports take as long as a build
            self._closing.enter_context(replicates.forks(run))
        arms.assemble(run, self._candidate, self._incumbent, self._points)
        self._checking = checking.check_all(run, self._points)

    def _waiting(self, holder: str) -> None:
        self.run.note(f"waiting for another run on this device ({holder or 'unknown'})")

    def _measure_once(self) -> None:
        if self._measured:
            return
        checks = [self.correctness(name) for name in self.correctness_names()]
        self._measured = True
        wrong = [c for c in checks if not c.ok]
        run = self.run
        if wrong:
            run.failure = f"not timed, {len(wrong)} checks failed: {wrong[0].configuration}"
        if run.failure:
            return
        if self._trial is not None:
            deciding.measure(run, self._trial)
        else:
            assignment = run.assignment
            measuring.measure(run, assignment.request.blocks or DEFAULT_BLOCKS[assignment.kind])
