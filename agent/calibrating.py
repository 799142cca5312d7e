# SPDX-License-Identifier: MIT
"""The noise of this machine with main's version on it: measured where it is not known.

Also again after each promotion, for bands made of other code may not fit the new incumbent.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from agent.clone import Clone
from agent.state import Plan
from avo_pytest import calibration, calibrations, policy
from avo_pytest.calibration import Calibration, of_another_version
from avo_pytest.identity import tree_hash
from avo_pytest.score import Record

PROCESSES = 8  # of a calibration that a run makes by itself: the fewest that are kept
CALIBRATE_S = 1800.0
LEAST_S = 60.0
SHARE = 0.7  # of the run, or of what is left of it, that one part may take


class Disturbed(Exception):
    """The machine is not quiet enough to tell anything; the text says what was seen."""


def calibrated(
    plan: Plan, clone: Clone, record: Record, say: Callable[[str], None], left_s: float
) -> None:
    """Calibrate where no calibration of these conditions and main's version is there. Raises
    Disturbed."""
    if not (why := _missing(plan, clone, record)):
        return
    say(f"calibrating ({why}): {PROCESSES} processes of main's version against itself")
    _calibrate(plan, clone, left_s)
    if why := _missing(plan, clone, record):
        raise Disturbed(f"the calibration does not apply: {why}")


def renewed(plan: Plan, clone: Clone, left_s: float) -> None:
    """Calibrate again before a confirm where `main` has another version since. On a machine that is
    too disturbed for it the judge decides by the calibration that there is, and says so."""
    home, version = clone.root / ".avo", _version(plan, clone)
    if not any(calibrations.of_version(home, plan.kernel, plan.target, version)):
        with contextlib.suppress(Disturbed):
            _calibrate(plan, clone, left_s)


def newest(plan: Plan, clone: Clone, record: Record) -> tuple[Calibration | None, str]:
    """The calibration for a confirm under the conditions of a record, or why there is none."""
    rules, version = policy_of(plan, clone, record), _version(plan, clone)
    wanted = calibration.conditions(
        record.environment, rules, kernel=record.kernel, target=record.target
    )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return calibrations.newest(clone.root / ".avo", wanted, at=now, policy=rules, version=version)


def policy_of(plan: Plan, clone: Clone, record: Record) -> policy.Policy:
    """The policy of a confirm under the conditions of a record."""
    found = policy.load(clone.root, "cpu" if record.target in ("cpu", "simulated") else "cuda")
    names = tuple(c.name for c in record.configurations)
    return replace(found, set=record.set, harness=record.harness, configurations=names)


def _calibrate(plan: Plan, clone: Clone, left_s: float) -> None:
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


def _missing(plan: Plan, clone: Clone, record: Record) -> str:
    found, why = newest(plan, clone, record)
    return why if found is None else of_another_version(found, _version(plan, clone)) or ""


def _version(plan: Plan, clone: Clone) -> str:
    return tree_hash(clone.root / "kernels" / plan.kernel / plan.target)
