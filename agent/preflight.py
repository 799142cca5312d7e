# SPDX-License-Identifier: MIT
"""Before the first token: can the operator work, does the judge score the incumbent here, is this
machine calibrated, is there a ledger? Each failure is a sentence with its fix."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.clone import Clone
from agent.config import ConfigurationError
from agent.state import Plan
from agent.step import Operator
from avo_pytest import calibration, calibrations, ledger, policy
from avo_pytest.branches import opened
from avo_pytest.journal import write_atomically
from avo_pytest.recording import SHORT
from avo_pytest.score import Record

PROCESSES = 8  # of a calibration that a run makes by itself: the fewest that are kept
CALIBRATE_S = 1800.0
QUICK_S = 900.0
LEAST_S = 60.0
SHARE = 0.7  # of the run, or of what is left of it, that one part may take
SETTLED = ("MEASURED", "NO-CHANGE")  # of the incumbent, scored against itself


class Disturbed(Exception):
    """The machine is not quiet enough to tell anything; the text says what was seen."""


def check(
    plan: Plan,
    clone: Clone,
    operator: Operator,
    evaluator: Any,
    *,
    say: Callable[[str], None],
    left_s: Callable[[], float],
) -> Record:
    """All of it; the record of the incumbent's own score. `left_s`: of the run, for all of it.

    Raises ConfigurationError, Disturbed.
    """
    operator.preflight()
    if plan.score_via == "local":
        _begin_ledger(clone)
    record, path = _scored(plan, clone, evaluator, say, left_s())
    if plan.score_via == "local":
        calibrated(plan, clone, record, say, left_s())
        _record_first(clone, record, path, say)
    return record


def calibrated(
    plan: Plan, clone: Clone, record: Record, say: Callable[[str], None], left_s: float
) -> None:
    """Calibrate where no calibration of these conditions is there."""
    if not (why := _missing(plan, clone, record)):
        return
    say(f"calibrating ({why}): {PROCESSES} processes of main's version against itself")
    line = [sys.executable, "-m", "avo_pytest", "calibrate", plan.kernel]
    line += ["--target", plan.target] if plan.target != "simulated" else []
    line += ["--device", plan.device] if plan.device else []
    line += ["--processes", str(PROCESSES)]
    limit_s = min(CALIBRATE_S, max(LEAST_S, SHARE * left_s))
    try:
        done = subprocess.run(
            line, cwd=clone.root, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Disturbed(f"calibrating took more than {limit_s / 60:.1f} minutes") from error
    if done.returncode:
        said = [text for text in done.stderr.splitlines() if text.strip()] or ["it failed"]
        raise Disturbed(said[0].removeprefix("avo calibrate: "))
    if why := _missing(plan, clone, record):
        raise Disturbed(f"the calibration does not apply: {why}")


def confirm_s(plan: Plan, clone: Clone, record: Record) -> float:
    """How long a whole confirm takes here, by the calibration; 0 where that is not known."""
    found, _ = _newest(plan, clone, record)
    if found is None:
        return 0.0
    rules = _policy(plan, clone, record)
    replicates = calibration.plan(rules, found)["replicates"]
    starting, block = (statistics.median(v) for v in (found.start_seconds, found.block_seconds))
    return float(replicates * (starting + rules.confirm_blocks * block))


def fits(plan: Plan, confirm_s: float) -> None:
    """Whether one confirm fits into the run at all. Raises Disturbed."""
    if plan.max_hours is not None and confirm_s > SHARE * 3600 * plan.max_hours:
        raise Disturbed(
            f"by the calibration a confirm takes {confirm_s / 60:.0f} minutes here, and the run "
            f"has {60 * plan.max_hours:.0f}: more --max-hours, or a quieter machine"
        )


def _scored(
    plan: Plan, clone: Clone, evaluator: Any, say: Callable[[str], None], left_s: float
) -> tuple[Record, Path]:
    """Main's version by the judge here; once for each tip of main."""
    note = clone.root / ".avo" / "preflight.json"
    if note.exists():
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["main"] == clone.tip() and (path := Path(known["record"])).exists():
            return Record.from_json(path.read_bytes()), path
    say(f"preflight: {plan.kernel}/{plan.target} as it is on main")
    record, path = _score(plan, clone, evaluator, left_s)
    write_atomically(note, json.dumps({"main": clone.tip(), "record": str(path)}))
    return record, path


def _score(plan: Plan, clone: Clone, evaluator: Any, left_s: float) -> tuple[Record, Path]:
    folder = clone.root / "kernels" / plan.kernel / plan.target
    if not folder.is_dir():
        raise ConfigurationError(f"main has no kernels/{plan.kernel}/{plan.target}")
    ticket = evaluator.start("quick", folder)
    limit_s = min(QUICK_S, max(LEAST_S, SHARE * left_s))
    found = evaluator.wait(ticket, limit_s)
    if found is None:
        raise Disturbed(f"main's version was not scored within {limit_s:.0f} s (is it in use?)")
    if found.verdict not in SETTLED or not found.record_path:
        raise ConfigurationError(
            f"main's version does not score here, so nothing can: {found.verdict}: {found.reason} "
            "(avo doctor tells what this machine lacks)"
        )
    path = Path(found.record_path)
    return Record.from_json(path.read_bytes()), path


def _begin_ledger(clone: Clone) -> None:
    """`avo init --remote`, where the remote has no ledger yet."""
    with opened(clone.root) as repository:
        if ledger.find(repository, clone.remote) is not None:
            return
    line = [sys.executable, "-m", "avo_pytest", "init", "--remote", clone.remote]
    done = subprocess.run(line, cwd=clone.root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it failed"]
        raise ConfigurationError(f"{said[-1]} (the ledger could not be begun on {clone.remote})")


def _record_first(clone: Clone, record: Record, path: Path, say: Callable[[str], None]) -> None:
    """Version 0, the seed that main has, where the ledger knows none on this device."""
    device = str(record.environment.get("device", ""))[:SHORT]
    entries = ledger.load(clone.root, clone.remote)
    place = (record.kernel, record.target, device)
    if any((e.kernel, e.target, e.device) == place and e.version is not None for e in entries):
        return
    line = [sys.executable, "-m", "avo_pytest", "promote", str(path), "--remote", clone.remote]
    done = subprocess.run(line, cwd=clone.root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["it failed"]
        say(f"note: main's version has no entry in the ledger: {said[0]}")


def _missing(plan: Plan, clone: Clone, record: Record) -> str:
    found, why = _newest(plan, clone, record)
    return "" if found is not None else why


def _newest(plan: Plan, clone: Clone, record: Record) -> tuple[Any, str]:
    rules = _policy(plan, clone, record)
    wanted = calibration.conditions(
        record.environment, rules, kernel=record.kernel, target=record.target
    )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return calibrations.newest(clone.root / ".avo", wanted, at=now, policy=rules)


def _policy(plan: Plan, clone: Clone, record: Record) -> policy.Policy:
    found = policy.load(clone.root, "cpu" if record.target in ("cpu", "simulated") else "cuda")
    names = tuple(c.name for c in record.configurations)
    return replace(found, set=record.set, harness=record.harness, configurations=names)
