# SPDX-License-Identifier: MIT
"""Runs cases: builds them here, judges them in a process of its own, scenarios in plain Python.

The judging process is started again whenever a candidate has cost its device context or its life.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import re
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from avo_pytest.architectures import typical_facts
from avo_pytest.artifact import Artifact
from avo_pytest.build import BuildError, Limits, build
from avo_pytest.devices.probe import find_cuda
from avo_pytest.loading import load_problem
from avo_pytest.plan import DeviceFacts
from avo_pytest.problem import DeviceKind
from avo_pytest.redteam.candidate import compose, compose_common
from avo_pytest.redteam.suite import FOLDER, Case
from avo_pytest.redteam.trial import BLOCKS, Outcome, Task, serve

Judgement = Literal["caught", "missed", "accepted", "refused", "compiled"]

BUILD = Limits(builds=2, build_s=12.0, total_s=24.0, code_bytes=1 << 20)
START_S = 180.0
TRIAL_S = 90.0
ACCEPTED = Outcome(status="ok", phase="timed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One line of the scorecard. `compiled`: what needs a device that is not here was built only.

    `twin`: "" where the case has none.
    """

    case: Case
    judgement: Judgement
    outcome: Outcome
    twin: Judgement | Literal[""] = ""
    twin_outcome: Outcome | None = None
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return self.judgement != "missed" and self.twin != "refused" and not self._refused

    @property
    def _refused(self) -> bool:
        return self.judgement == "refused"


class Runner:
    """Runs cases of the suite under `root`; close it, or use it as a context."""

    def __init__(self, root: Path, *, blocks: int = BLOCKS) -> None:
        self._blocks = blocks
        self._root = root.resolve()
        self._suite = self._root / FOLDER
        self._problem = load_problem("attention", root=self._suite)
        self._cache = self._root / ".avo" / "cache"
        self._folder = tempfile.TemporaryDirectory(prefix="avo-redteam-")
        self._scratch = Path(self._folder.name).resolve()
        self._token = secrets.token_hex(16)
        self._secret = self._scratch / "secret.h"
        self._secret.write_text(f"int leaked_{self._token};\n", encoding="utf-8")
        self._gpu = find_cuda(0)[0]
        self._bench: _Bench | None = None
        self._judged: dict[tuple[str, str], Outcome] = {}

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the judging process and forget all candidates. Safe to call twice."""
        self._end_bench()
        self._folder.cleanup()

    def run(self, cases: Iterable[Case]) -> Iterator[Result]:
        """One Result for each case, as they come."""
        for case in sorted(cases, key=lambda c: (c.target, c.family)):
            begun = time.monotonic()
            result = self._scenario(case) if case.target == "scenario" else self._kernel(case)
            yield replace(result, seconds=time.monotonic() - begun)

    def _kernel(self, case: Case) -> Result:
        twin = self._twin(case)
        outcome = self._outcome(case, self._compose(case, honest=False))
        if case.honest:
            ok = _as_told(case, outcome, self._token)
            return Result(case=case, judgement=_accepted(ok, outcome), outcome=outcome)
        return Result(
            case=case,
            judgement=_caught(_as_told(case, outcome, self._token), outcome),
            outcome=outcome,
            twin=_accepted(twin.status == "ok", twin) if twin else "",
            twin_outcome=twin,
        )

    def _twin(self, case: Case) -> Outcome | None:
        """The honest twin, judged as any other candidate."""
        if case.honest or not case.twin:
            return None
        return self._outcome(case, self._compose(case, honest=True), honest=True)

    def _outcome(self, case: Case, folder: Path, *, honest: bool = False) -> Outcome:
        try:
            candidate = self._build(case, folder)
        except BuildError as error:
            return Outcome(status="build_error", reason=str(error))
        if self._facts(case) is None:
            return Outcome(status="compiled")
        incumbent = self._build(case, self._compose_common(case))
        return self._judge(case, candidate, incumbent, remember=honest)

    def _build(self, case: Case, folder: Path) -> Artifact:
        kind = _kind(case)
        timed = [c for one in self._problem.throughput[kind].values() for c in one]
        facts = self._facts(case) or _typical(case)
        return build(
            folder,
            self._problem,
            [*self._problem.correctness(kind), *timed],
            facts,
            self._cache,
            limits=BUILD,
        )

    def _judge(
        self, case: Case, candidate: Artifact, incumbent: Artifact, *, remember: bool
    ) -> Outcome:
        """Honest twins that compile to the same code and plans are one candidate."""
        known = (candidate.hash, incumbent.hash)
        if remember and known in self._judged:
            return self._judged[known]
        task = Task(
            candidate=candidate.path,
            incumbent=incumbent.path,
            timeout_s=case.timeout_s,
            blocks=self._blocks,
        )
        outcome = self._bench_of(_kind(case), case.threads).judge(task)
        if outcome.fatal:
            self._end_bench()
        if remember:
            self._judged[known] = outcome
        return outcome

    def _scenario(self, case: Case) -> Result:
        """A Python scenario: `attempt(folder, constants, honest)` → (status, reason)."""
        outcome = self._attempt(case, honest=False)
        if case.honest:
            ok = _as_told(case, outcome, self._token)
            return Result(case=case, judgement=_accepted(ok, outcome), outcome=outcome)
        twin = self._attempt(case, honest=True) if case.twin else None
        return Result(
            case=case,
            judgement=_caught(_as_told(case, outcome, self._token), outcome),
            outcome=outcome,
            twin=_accepted(twin.status == "ok", twin) if twin else "",
            twin_outcome=twin,
        )

    def _attempt(self, case: Case, *, honest: bool) -> Outcome:
        path = self._suite / case.folder / "attack.py"
        spec = importlib.util.spec_from_file_location(f"redteam_{case.name}", path)
        assert spec is not None and spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        folder = self._fresh(case)
        folder.mkdir()
        try:
            status, reason = module.attempt(folder, dict(case.constants), honest)
        except Exception as error:  # the judge met something that it has no sentence for
            return Outcome(status="traceback", reason=f"{type(error).__name__}: {error}")
        return Outcome(status=status, reason=reason, phase="scenario")

    def _compose(self, case: Case, *, honest: bool) -> Path:
        return compose(self._root, case, self._fresh(case), self._secret, honest=honest)

    def _compose_common(self, case: Case) -> Path:
        return compose_common(self._root, case, self._fresh(case), self._secret)

    def _fresh(self, case: Case) -> Path:
        return self._scratch / f"{case.name}-{secrets.token_hex(4)}"

    def _facts(self, case: Case) -> DeviceFacts | None:
        """None where the case needs a device that is not here."""
        if case.target == "cpu":
            return typical_facts("cpu")
        major = int(self._gpu.arch[3:].rstrip("af")) // 10 if self._gpu else 0
        return self._gpu if major == 9 or (major >= 8 and case.target == "sm80") else None

    def _bench_of(self, kind: DeviceKind, threads: int) -> _Bench:
        wanted = kind, threads
        if self._bench is None or self._bench.made_for != wanted or not self._bench.alive:
            self._end_bench()
            self._bench = _Bench(kind, threads, self._suite, self._cache)
        return self._bench

    def _end_bench(self) -> None:
        if self._bench is not None:
            self._bench.close()
        self._bench = None


class _Bench:
    """The judging process of one device kind, with so many threads of a CPU."""

    def __init__(self, kind: DeviceKind, threads: int, root: Path, cache: Path) -> None:
        self.made_for = kind, threads
        context = multiprocessing.get_context("spawn")
        self._channel: Connection
        self._channel, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, kind, threads, root, cache), daemon=True, name="avo-redteam"
        )
        self._process.start()
        theirs.close()
        if self._receive(START_S) != "ready":
            raise RuntimeError(f"the judging process for {kind} does not start")

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def judge(self, task: Task) -> Outcome:
        """The outcome; a process that is lost is one too, and never an intended one."""
        self._channel.send(task)
        answer = self._receive(TRIAL_S)
        if isinstance(answer, Outcome):
            return answer
        self.close()
        return Outcome(status="worker", reason=f"the judging process {answer}", phase="judge")

    def close(self) -> None:
        """Ask it to end, then make it. Safe to call twice."""
        with contextlib.suppress(OSError):
            self._channel.send(None)
        self._process.join(10)
        self._process.kill()
        self._process.join()
        self._channel.close()

    def _receive(self, timeout_s: float) -> object:
        try:
            return self._channel.recv() if self._channel.poll(timeout_s) else "gave no answer"
        except (EOFError, OSError):
            self._process.join(5)
            return f"ended with status {self._process.exitcode}"


def _as_told(case: Case, outcome: Outcome, token: str) -> bool:
    """Whether it ended as the table says, and told nothing that it must not know."""
    if token in outcome.reason or _commands(outcome.reason):
        return False
    if outcome.status == "ok" == case.status:
        return (not case.most or outcome.speed <= case.most) and outcome.speed >= case.least
    return (
        outcome.status in case.status.split("|")
        and case.phase in ("", outcome.phase)
        and re.search(case.reason, outcome.reason, re.DOTALL) is not None
    )


def _commands(text: str) -> bool:
    """Whether a terminal or a CI system would obey a part of this text."""
    return any(not line.isprintable() or line.startswith("::") for line in text.split("\n"))


def _caught(as_told: bool, outcome: Outcome) -> Judgement:
    if outcome.status == "compiled":
        return "compiled"
    return "caught" if as_told else "missed"


def _accepted(ok: bool, outcome: Outcome) -> Judgement:
    if outcome.status == "compiled":
        return "compiled"
    return "accepted" if ok else "refused"


def _kind(case: Case) -> DeviceKind:
    return "cpu" if case.target == "cpu" else "cuda"


def _typical(case: Case) -> DeviceFacts:
    return (
        typical_facts("sm90", "sm_90") if case.target == "sm90" else typical_facts("sm80", "sm_90")
    )
