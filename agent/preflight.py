# SPDX-License-Identifier: MIT
"""Before the first token: can the operator work, does the judge score the incumbent here, is this
machine calibrated, is there a ledger? Each failure is a sentence with its fix."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent import calibrating
from agent.calibrating import LEAST_S, SHARE, Disturbed
from agent.clone import Clone
from agent.config import ConfigurationError
from agent.state import Plan
from agent.step import Operator
from avo_pytest import gates, ledger, sample_size
from avo_pytest.branches import opened
from avo_pytest.journal import write_atomically
from avo_pytest.recording import SHORT
from avo_pytest.score import Record

QUICK_S = 900.0
SETTLED = ("MEASURED", "NO-CHANGE")  # of the incumbent, scored against itself


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
        calibrating.calibrated(plan, clone, record, say, left_s())
        _record_first(clone, record, path, say)
    return record


def confirm_s(plan: Plan, clone: Clone, record: Record) -> float:
    """How long a whole confirm takes here, by the calibration; 0 where that is not known."""
    found, _ = calibrating.newest(plan, clone, record)
    if found is None:
        return 0.0
    rules = calibrating.policy_of(plan, clone, record)
    replicates = sample_size.plan(rules, found)["replicates"]
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
    place = {"kernel": record.kernel, "target": record.target}
    device = gates.called(gates.load(clone.root), **place, device=device)
    entries = ledger.load(clone.root, clone.remote)
    known = (*place.values(), device)
    if any((e.kernel, e.target, e.device) == known and e.version is not None for e in entries):
        return
    line = [sys.executable, "-m", "avo_pytest", "promote", str(path), "--remote", clone.remote]
    done = subprocess.run(line, cwd=clone.root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["it failed"]
        say(f"note: main's version has no entry in the ledger: {said[0]}")
