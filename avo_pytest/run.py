# SPDX-License-Identifier: MIT
"""The state of one scoring run: what was found so far, its journal, and who listens.

Everything mutable of a run is here; the phases (arms, checking, measuring) add to it.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from avo_pytest.assignment import Assignment
from avo_pytest.harness import harness_hash
from avo_pytest.job import Job
from avo_pytest.journal import Journal, write_atomically
from avo_pytest.process import Start, WorkerProcess, fresh
from avo_pytest.score import (
    ArmRecord,
    Check,
    ConfigurationRecord,
    Record,
    Replicate,
    Sample,
    Status,
)

Listener = Callable[..., None]
ArmSpec = Mapping[str, Any]  # {"name", "role", "artifact"?} as a Job carries it

SILENCE_S = 180.0


@dataclass(slots=True, kw_only=True)
class Run:
    """One run. `failure` is the sentence that makes the score zero, or empty."""

    assignment: Assignment
    listener: Listener
    home: Path
    name: str
    created: datetime.datetime
    journal: Journal
    arms: list[ArmSpec] = field(default_factory=list)
    arm_records: list[ArmRecord] = field(default_factory=list)
    checks: dict[str, Check] = field(default_factory=dict)
    late_checks: list[Check] = field(default_factory=list)
    replicates: list[Replicate] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    blocks: list[Mapping[str, Any]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    build_report: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failure: str = ""
    policy: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    attempts: dict[str, Any] = field(default_factory=dict)
    start: Start = fresh  # of its workers

    @staticmethod
    def begin(assignment: Assignment, listener: Listener) -> Run:
        """A new run with its own folder under `.avo/runs`."""
        created = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        name = f"{created:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        home = writable_home(assignment.request.root)
        return Run(
            assignment=assignment,
            listener=listener,
            home=home,
            name=name,
            created=created,
            journal=Journal(home / "runs" / name),
        )

    def go_on(self, name: str, created: str, journal: TextIO) -> None:
        """Become a run that was killed."""
        self.name, self.created = name, datetime.datetime.fromisoformat(created)
        self.journal = Journal(self.home / "runs" / name, journal)

    @property
    def output_dtype(self) -> str:
        """What the judged arms compute in: the dtype of the problem's output."""
        problem = self.assignment.problem
        return problem.output(problem.correctness(self.assignment.kind)[0]).dtype

    def stage(self, text: str) -> None:
        """A new phase began."""
        self.listener("stage", text=text)

    def note(self, text: str) -> None:
        """Something the reader of the record must know."""
        self.notes.append(text)
        self.listener("note", text=text)

    def progress(self, done: int, total: int, text: str) -> None:
        """`done` of `total` steps of this phase."""
        self.listener("progress", done=done, total=total, text=text)

    def estimate(self, done: int, total: int, text: str) -> None:
        """The same where the text is what there is to see."""
        self.listener("estimate", done=done, total=total, text=text)

    def role(self, name: str) -> str | None:
        """What an arm takes part as."""
        return next((a["role"] for a in self.arms if a["name"] == name), None)

    def leave_out(self, name: str, reason: str) -> None:
        """A baseline that cannot run costs its column, not the run."""
        self.absent[name] = reason
        self.arms[:] = [a for a in self.arms if a["name"] != name]
        self.arm_records[:] = [a for a in self.arm_records if a.name != name]

    @contextmanager
    def worker(self, arms: Sequence[ArmSpec], **work: Any) -> Iterator[WorkerProcess]:
        """A worker on a job for these arms; it is gone when the context ends."""
        process = self.start_worker(arms, **work)
        try:
            yield process
        finally:
            process.close()

    def start_worker(
        self, arms: Sequence[ArmSpec], *, device: str | None = None, **work: Any
    ) -> WorkerProcess:
        """The same for a caller who closes it himself."""
        assignment, request = self.assignment, self.assignment.request
        job = Job(
            problem=assignment.problem_ref,
            root=str(request.root),
            device=device or assignment.device,
            threads=assignment.threads,
            seed=timed_inputs_seed(assignment.seed),
            cache=str(self.home / "cache"),
            arms=tuple(arms),
            timeout_s=request.timeout_s,
            regime=request.regime,
            judge=os.getpid(),
            **work,
        )
        return WorkerProcess(job, silence_s=SILENCE_S, start=self.start)

    def listen(
        self, worker: WorkerProcess, replicate: int | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """The worker's messages, journalled before anybody acts on them."""
        for message in worker.messages():
            self.log(message, replicate)
            yield message

    def log(self, message: Mapping[str, Any], replicate: int | None = None) -> None:
        """Journal a worker's message."""
        told = {} if replicate is None else {"replicate": replicate}
        self.journal.append({**message, **told})
        if message["kind"] == "environment" and not self.environment:
            self.environment = message["environment"]

    def record(self) -> Record:
        """Everything found so far as a value."""
        assignment, request = self.assignment, self.assignment.request
        share = {"share": request.share} if request.share else {}  # also where no plan was made
        return Record(
            run=self.name,
            created=self.created.isoformat(),
            mode=request.mode,
            kernel=request.kernel,
            target=assignment.target,
            set=assignment.set,
            regime=request.regime,
            subset=assignment.subset,
            seed=assignment.seed,
            isolation=str(self.environment.get("isolation", "none")),
            harness=harness_hash(request.root, assignment.problem_ref),
            environment=self.environment,
            arms=tuple(self.arm_records),
            configurations=tuple(
                ConfigurationRecord(name=c.name, group=c.group, flops=assignment.problem.flops(c))
                for c in assignment.throughput
            ),
            build=self.build_report,
            checks=(*self.checks.values(), *self.late_checks),
            replicates=tuple(self.replicates),
            samples=tuple(self.samples),
            blocks=tuple(self.blocks),
            policy=self.policy,
            calibration=self.calibration,
            plan={**self.plan, **share},
            attempts=self.attempts,
            absent=self.absent,
            notes=tuple(self.notes),
            nonce=request.nonce,
        )

    def save(self, record: Record) -> list[str]:
        """Write the record to the run's folder and `--avo-json`; sentences on what could not be."""
        problems = []
        paths = [self.journal.folder / "record.json"]
        if self.assignment.request.json is not None:
            paths.append(self.assignment.request.json)
        for path in paths:
            try:
                write_atomically(path, record.to_json() + "\n")
            except OSError as error:
                problems.append(f"no record in {path}: {error.strerror}")
        self.journal.close()
        return problems + ([self.journal.lost] if self.journal.lost else [])


def timed_inputs_seed(seed: int) -> str:
    """Key of the contents of timed launches (inputs.base), as hex.

    With a sample's `key` it replays that launch's inputs. It reaches the worker on its standard
    input. On disk is what it is made from: in the finished record, and for a confirm that may have
    to go on, in the list of attempts, which the user alone can read and no candidate can open.
    """
    return hashlib.blake2b(b"timed inputs %d" % seed, digest_size=32).hexdigest()


def parse_check(raw: Mapping[str, Any]) -> Check:
    """A worker's `check` message as a value."""
    return Check(**{**raw, "status": Status(raw["status"])})


def writable_home(root: Path) -> Path:
    """`.avo` in the repository, or a temporary folder where that cannot be written."""
    home = root / ".avo"
    try:
        home.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return home
    except OSError:
        return Path(tempfile.mkdtemp(prefix="avo-home-"))
