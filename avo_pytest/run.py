# SPDX-License-Identifier: MIT
"""The state of one scoring run: what was found so far, its journal, and who listens.

Everything mutable of a run is here; the phases (arms, checking, measuring) add to it.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avo_pytest.assignment import Assignment
from avo_pytest.harness import harness_hash
from avo_pytest.job import Job
from avo_pytest.journal import Journal, write_atomically
from avo_pytest.process import WorkerProcess
from avo_pytest.score import ArmRecord, Check, ConfigurationRecord, Record, Sample, Status

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
    samples: list[Sample] = field(default_factory=list)
    blocks: dict[int, dict[str, Any]] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    build_report: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failure: str = ""

    @staticmethod
    def begin(assignment: Assignment, listener: Listener) -> Run:
        """A new run with its own folder under `.avo/runs`."""
        created = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        name = f"{created:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        home = _writable_home(assignment.request.root)
        return Run(
            assignment=assignment,
            listener=listener,
            home=home,
            name=name,
            created=created,
            journal=Journal(home / "runs" / name),
        )

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

    @contextmanager
    def worker(self, arms: Sequence[ArmSpec], **work: Any) -> Iterator[WorkerProcess]:
        """A fresh worker on a job for these arms; it is gone when the context ends."""
        assignment, request = self.assignment, self.assignment.request
        job = Job(
            problem=assignment.problem_ref,
            root=str(request.root),
            device=assignment.device,
            threads=assignment.threads,
            seed=timed_inputs_seed(assignment.seed),
            cache=str(self.home / "cache"),
            arms=tuple(arms),
            timeout_s=request.timeout_s,
            regime=request.regime,
            **work,
        )
        process = WorkerProcess(job, silence_s=SILENCE_S)
        try:
            yield process
        finally:
            process.close()

    def listen(self, worker: WorkerProcess) -> Iterator[Mapping[str, Any]]:
        """The worker's messages, journalled before anybody acts on them."""
        for message in worker.messages():
            self.journal.append(message)
            if message["kind"] == "environment":
                self.environment = message["environment"]
            yield message

    def record(self) -> Record:
        """Everything found so far as a value."""
        assignment, request = self.assignment, self.assignment.request
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
            samples=tuple(self.samples),
            blocks=tuple(self.blocks[b] for b in sorted(self.blocks)),
            absent=self.absent,
            notes=tuple(self.notes),
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
    input, and disk only with the finished record.
    """
    return hashlib.blake2b(b"timed inputs %d" % seed, digest_size=32).hexdigest()


def parse_check(raw: Mapping[str, Any]) -> Check:
    """A worker's `check` message as a value."""
    return Check(**{**raw, "status": Status(raw["status"])})


def _writable_home(root: Path) -> Path:
    """`.avo` in the repository, or a temporary folder where that cannot be written."""
    home = root / ".avo"
    try:
        home.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return home
    except OSError:
        return Path(tempfile.mkdtemp(prefix="avo-home-"))
