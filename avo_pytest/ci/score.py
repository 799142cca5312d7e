# SPDX-License-Identifier: MIT
"""Job `score`, on the scoring machine: the only one that runs a candidate, and it holds no secret.

Environment against its lock, red team, calibration, confirm; each a process of its own. What this
job says of itself is believed by nobody: `verify` reads the record.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from avo_pytest.ci import environment, order, outputs
from avo_pytest.ci.environment import LockError
from avo_pytest.ci.order import Order, OrderError
from avo_pytest.harness import harness_hash
from avo_pytest.loading import problem_reference

FILE, RECORD = "score.json", "record.json.gz"
SIMULATED = "simulated"
CANARY_S = 1200.0
# Of this process's environment, what a judge needs; tokens and URLs of the workflow it does not.
KEPT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER", "PYTHONPATH", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS", "COLUMNS",
)  # fmt: skip


class Stopped(Exception):
    """No record is made: at which step, and why."""

    def __init__(self, step: str, why: str) -> None:
        self.step, self.why = step, why
        super().__init__(f"{step}: {why}")


@dataclass(slots=True)
class Report:
    """score.json: what was done, in order, and how long it took."""

    gate: str
    nonce: str
    status: str = "began"
    reason: str = ""
    sha256: str = ""  # of the packed record: damage on the way shows
    environment: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """One run of the job."""

    order: Order
    gate: Mapping[str, Any]  # as a job of the matrix: of one share
    root: Path
    out: Path
    device: str
    calibrations: Path | None
    deadline: float
    report: Report

    def call(self, step: str, line: Sequence[str], most_s: float | None = None) -> int:
        """Run a command of ours; its output goes to the log. Raises Stopped when time is up."""
        left = self.deadline - time.monotonic()
        limit, begun = left if most_s is None else min(left, most_s), time.monotonic()
        outputs.say(f"--- {step}")
        try:
            with subprocess.Popen(
                [sys.executable, "-m", *line], cwd=self.root, env=_environment(),
                stdin=subprocess.DEVNULL, start_new_session=True,
            ) as process:  # fmt: skip
                code = _wait(process, limit)
        except subprocess.TimeoutExpired:
            raise Stopped(step, f"not done after {limit:.0f} s") from None
        finally:
            seconds = round(time.monotonic() - begun, 1)
            self.report.steps.append({"step": step, "seconds": seconds})
        self.report.steps[-1]["exit"] = code
        return code


def run(arguments: argparse.Namespace) -> int:
    """Write score.json and, unless something kept it from being made, record.json.gz."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = Report(arguments.gate, "")
    before = signal.signal(signal.SIGTERM, _ended)  # a cancelled job: nothing of it may go on
    try:
        _score(arguments, report)
        report.status = "scored"
    except Stopped as stopped:
        report.status, report.reason = stopped.step, stopped.why
    except (OrderError, LockError, OSError, ValueError) as error:
        report.status, report.reason = "order", str(error)
    except BaseException:
        report.status, report.reason = "interrupted", "the job was ended from outside"
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        outputs.write_json(arguments.out / FILE, asdict(report))
    if report.status != "scored":
        outputs.say(f"avo ci score: {report.status}: {report.reason}")
        return 1
    return 0


def _ended(number: int, _: Any) -> None:
    raise SystemExit(128 + number)


def _score(arguments: argparse.Namespace, report: Report) -> None:
    root, found = arguments.root.resolve(), order.load(arguments.intake)
    gate = order.job(order.gate_named(found, arguments.gate), arguments.share)
    report.nonce = found.nonce
    kept = arguments.calibrations or os.environ.get("AVO_CALIBRATIONS")
    scoring = Scoring(
        order=found, gate=gate, root=root, out=arguments.out.resolve(),
        device=arguments.device or os.environ.get("AVO_DEVICE") or _device(gate),
        calibrations=Path(kept).resolve() if kept else None,
        deadline=time.monotonic() + arguments.timeout, report=report,
    )  # fmt: skip
    _check_tree(scoring)
    _check_environment(scoring, arguments.lock)
    if not arguments.no_canary and found.target != SIMULATED:  # whose candidates are no code
        _canary(scoring)
    with tempfile.TemporaryDirectory(prefix="avo-ci-") as scratch:
        candidate = order.restore(found, arguments.intake, Path(scratch) / "candidate")
        _calibrate(scoring)
        _confirm(scoring, candidate, Path(scratch) / "record.json")


def _device(gate: Mapping[str, Any]) -> str:
    return {"cpu": "cpu", SIMULATED: SIMULATED}.get(gate["target"], "cuda")


def _check_tree(scoring: Scoring) -> None:
    """The judge here is the one that intake saw."""
    found = scoring.order
    harness = harness_hash(scoring.root, problem_reference(found.kernel, scoring.root))
    if harness != found.harness:
        why = f"this tree's harness is {harness[:12]}, intake's {found.harness[:12]}"
        raise Stopped("tree", why)


def _check_environment(scoring: Scoring, named: str | None) -> None:
    lock = environment.chosen(named, scoring.root, scoring.order.target)
    compared = environment.compare(lock)
    scoring.report.environment = asdict(compared)
    if compared.differences:
        raise Stopped("environment", f"{compared.lock}: {'; '.join(compared.differences)}")


def _canary(scoring: Scoring) -> None:
    line = ("avo_pytest", "redteam", "--canary", "--target", scoring.order.target)
    code = scoring.call("canary", line, CANARY_S)
    if code != 0:
        why = "a cheat was missed here, or an honest kernel refused" if code == 1 else "no suite"
        raise Stopped("canary", f"{why} (avo redteam --canary ended with {code})")


def _calibrate(scoring: Scoring) -> None:
    """A calibration of this machine and this incumbent that is kept, else one made now: the first
    confirm after a promotion calibrates. None that applies is found by the judge, who refuses what
    does not fit."""
    home, kept = scoring.root / ".avo" / "calibrations", scoring.calibrations
    if kept is not None and kept.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        for path in kept.glob("*.json"):
            shutil.copy(path, home)
    if _calibrated(scoring, home):
        return
    found, base = scoring.order, scoring.order.base
    before = set(home.glob("*.json"))
    line = ["avo_pytest", "calibrate", found.kernel, f"--device={scoring.device}",
            f"--incumbent={base}", *_target(found.target)]  # fmt: skip
    if (code := scoring.call("calibrate", line)) != 0:
        raise Stopped("calibrate", f"avo calibrate ended with {code}: the machine is not quiet")
    for path in set(home.glob("*.json")) - before:
        shutil.copy(path, scoring.out / "calibration.json")
        if kept is not None:
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, kept)


def _calibrated(scoring: Scoring, home: Path) -> bool:
    """Whether there is one of this harness and incumbent; the judge looks at everything else."""
    from avo_pytest import calibrations
    from avo_pytest.identity import tree_hash
    from avo_pytest.source import SourceError, find_incumbent

    found, version = scoring.order, ""
    with tempfile.TemporaryDirectory(prefix="avo-ci-") as scratch, contextlib.suppress(SourceError):
        base = find_incumbent(scoring.root, found.kernel, found.target, found.base, Path(scratch))
        version = tree_hash(base.path) if base else ""  # none: avo calibrate says why
    made = calibrations.of_version(home.parent, found.kernel, found.target, version)
    return any(one.conditions.harness == found.harness for one in made)


def _confirm(scoring: Scoring, candidate: Path, raw: Path) -> None:
    """The record comes among the results only when it is whole."""
    found = scoring.order
    devices = os.environ.get("AVO_DEVICES")
    line = [
        "avo_pytest", "score", "--mode=confirm", f"--kernel={found.kernel}",
        *_target(found.target), f"--candidate={candidate}", f"--incumbent={found.base}",
        f"--devices={devices}" if devices else f"--device={scoring.device}",
        f"--share={scoring.gate['share']}", f"--nonce={found.nonce}",
        f"--json={raw}", "--exit-verdict",
        "--", "-q", "-p", "no:cacheprovider",
    ]  # fmt: skip
    code = scoring.call("confirm", line)
    if not raw.is_file():
        raise Stopped("confirm", f"the judge ended with {code} and left no record")
    with raw.open("rb") as source, gzip.open(scoring.out / RECORD, "wb") as packed:
        shutil.copyfileobj(source, packed)
    scoring.report.sha256 = hashlib.sha256((scoring.out / RECORD).read_bytes()).hexdigest()
    outputs.say(f"the judge ended with {code}")


def _target(target: str) -> list[str]:
    return [] if target == SIMULATED else [f"--target={target}"]


def _environment() -> dict[str, str]:
    return {key: os.environ[key] for key in KEPT if key in os.environ}


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> int:
    """Its exit status; whatever happens, nothing of it is left running."""
    try:
        return process.wait(timeout=max(0.1, limit_s))
    except BaseException:
        os.killpg(process.pid, 9)
        process.wait()
        raise
