# SPDX-License-Identifier: MIT
"""One fresh process from its first message to its last, and who is to blame when it is lost."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from avo_pytest.forkserver import ForkServer
from avo_pytest.process import WorkerProcess
from avo_pytest.run import ArmSpec, Run, parse_check
from avo_pytest.score import Check, Replicate, Sample, Stage, Status

# Devices whose replicates are forks, where the system can: they have nothing to do with the host's
# memory layout, which forks share. CPU kernels get a process of their own.
FORKED = ("cuda", "simulated")
ALONE = -1  # number of a process that only finds out who is to blame
Heard = Callable[[Mapping[str, Any]], bool]  # True: enough, end the process


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a worker did not finish. `arm` is None when that is not known."""

    arm: str | None
    status: Status
    reason: str
    configuration: str


@dataclass(slots=True, kw_only=True)
class Running:
    """What a replicate has said so far. Nothing of it counts before `keep`."""

    number: int
    stage: Stage
    device: str
    blocks: int
    started: str = ""
    begun_s: float = field(default_factory=time.monotonic)
    start_seconds: float = 0.0
    loaded: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    readings: dict[int, dict[str, Any]] = field(default_factory=dict)
    configuration: str = ""  # it is at
    failure: Failure | None = None
    over: bool = False

    def take(self, message: Mapping[str, Any]) -> None:
        """One message of the worker."""
        kind = message["kind"]
        if kind == "environment":
            self.environment = message["environment"]
        elif kind == "loading":
            self.loaded = tuple(message["arms"])
        elif kind == "staging":
            self.configuration = message["configuration"]
        elif kind == "check":
            self.checks.append(replace(parse_check(message["check"]), replicate=self.number))
        elif kind == "block":
            if not self.readings:
                self.start_seconds = time.monotonic() - self.begun_s
            facts = {k: v for k, v in message.items() if k != "kind"}
            self.readings[message["block"]] = {**facts, "replicate": self.number}
        elif kind == "block_end":
            self.readings[message["block"]]["after"] = message["after"]
        elif kind == "sample":
            self.configuration = message["sample"]["configuration"]
            self.samples.append(Sample(**{**message["sample"], "replicate": self.number}))
        elif kind in ("done", "failed", "error") and not self.over:  # "done" also ends a failure
            self.over = True
            self.failure = self._failure(message)

    def lose(self, reason: str) -> None:
        """Its process is gone before it was over."""
        self.over = True
        self.failure = Failure(None, Status.CRASHED, reason, self.configuration)

    def value(self) -> Replicate:
        """As a record has it."""
        failure = self.failure
        return Replicate(
            number=self.number,
            stage=self.stage,
            device=self.device,
            blocks=self.blocks,
            loaded=self.loaded,
            started=self.started,
            seconds=round(time.monotonic() - self.begun_s, 3),
            start_seconds=round(self.start_seconds, 3),
            status=failure.status if failure else Status.OK,
            reason=failure.reason if failure else "",
            environment=self.environment,
        )

    def _failure(self, message: Mapping[str, Any]) -> Failure | None:
        if message["kind"] == "done":
            return None
        if message["kind"] == "error":
            return Failure(None, Status.INVALID, message["reason"], self.configuration)
        status = Status(message["status"])
        return Failure(message["arm"], status, message["reason"], self.configuration)


@contextmanager
def forks(run: Run) -> Iterator[None]:
    """Workers start as forks of one process, where the device allows it, which begins at once."""
    kind = run.assignment.device.partition(":")[0]
    if kind not in FORKED or not hasattr(os, "pidfd_open"):
        yield
        return
    with closing(ForkServer(kind)) as server:
        server.begin()
        run.start = server.start
        yield


def start(run: Run, running: Running, arms: Sequence[ArmSpec]) -> WorkerProcess:
    """Its process, which the caller has to close."""
    running.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    running.begun_s = time.monotonic()
    begun = asdict(running.value())
    run.journal.append({"kind": "replicate", "replicate": running.number, "begun": begun})
    running.configuration = run.assignment.throughput[0].name
    return run.start_worker(
        arms,
        device=running.device,
        throughput=tuple(asdict(c) for c in run.assignment.throughput),
        blocks=running.blocks,
        replicate=max(0, running.number),
        shuffle=running.stage is not Stage.MEASURE or bool(run.assignment.request.processes),
    )


def play(
    run: Run, running: Running, arms: Sequence[ArmSpec], heard: Heard = lambda message: False
) -> None:
    """The whole replicate, alone on the machine; `heard` may end it early."""
    worker = start(run, running, arms)
    try:
        for message in run.listen(worker, running.number):
            running.take(message)
            if running.over or heard(message):
                return
        worker.stop()
        running.lose(worker.death())
    finally:
        worker.close()


def keep(run: Run, running: Running) -> None:
    """From now on it counts."""
    replicate = running.value()
    add(run, replicate, running)
    end = {"kind": "replicate_end", "replicate": running.number, "samples": len(running.samples)}
    run.journal.append({**end, "ended": asdict(replicate)})


def blame(run: Run, running: Running) -> Failure:
    """Settle whose fault it was. A lost worker names no arm: each runs alone in a fresh process,
    the candidate last."""
    failure = running.failure
    assert failure is not None
    if failure.arm is None:
        running.failure = _found_alone(run, running, failure)
    return running.failure or failure


def _found_alone(run: Run, running: Running, failure: Failure) -> Failure:
    for arm in sorted(run.arms, key=lambda a: a["role"] == "candidate"):
        run.stage(f"the worker was lost ({failure.reason}): running {arm['name']} alone")
        alone = Running(number=ALONE, stage=Stage.MEASURE, device=running.device, blocks=1)
        play(run, alone, [arm])
        if (found := alone.failure) is not None:
            return Failure(arm["name"], found.status, found.reason, found.configuration)
    return replace(failure, reason=f"{failure.reason}; alone, each arm ran well")


def add(run: Run, replicate: Replicate, running: Running) -> None:
    """To what the record will hold."""
    run.replicates.append(replicate)
    run.samples += running.samples
    run.late_checks += running.checks
    run.blocks += [running.readings[block] for block in sorted(running.readings)]


def fail(run: Run, running: Running) -> None:
    """A replicate whose failure is settled ends the run: an arm is wrong, or nothing is known."""
    failure = running.failure
    assert failure is not None
    run.failure = f"{failure.arm or 'not measured'}: {failure.reason}"
    if failure.arm is None:
        run.note(run.failure)
        return
    run.late_checks.append(
        Check(
            configuration=failure.configuration,
            arm=failure.arm,
            status=failure.status,
            reason=failure.reason,
            replicate=running.number,
        )
    )
