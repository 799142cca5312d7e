# SPDX-License-Identifier: MIT
"""What is fixed before the first sample: policy, calibration, plan, and the attempts so far."""

from __future__ import annotations

import datetime
from dataclasses import asdict, replace
from typing import Any

from avo_pytest import calibration, calibrations, policy, sample_size
from avo_pytest.assignment import Assignment, RequestError
from avo_pytest.calibration import Calibration
from avo_pytest.devices import scenarios
from avo_pytest.harness import harness_hash
from avo_pytest.policy import Policy, PolicyError
from avo_pytest.problem import DeviceKind
from avo_pytest.run import Run

CALIBRATION_PROCESSES = 16
REPLICATES = 16  # of a plan that no calibration could make; none is ever started
# Of a block value, where no calibration tells: ten times more or less is safe, and only slower
# (measuring.md §2.4). An H100 had 0.1 to 0.3 %, two shared CPU cores 0.5 to 2 %.
BLOCK_SD: dict[DeviceKind, float] = {"cuda": 0.002, "cpu": 0.01}


def policy_of(assignment: Assignment) -> Policy:
    """The policy in force, by the judge's own tree. Raises RequestError."""
    root = assignment.request.root
    try:
        found = policy.load(root, assignment.kind)
    except PolicyError as error:
        raise RequestError(str(error)) from error
    simulated = assignment.target == scenarios.DEVICE  # decided like any other, never promoted
    return replace(
        found,
        isolation=policy.SIMULATED if simulated else found.isolation,
        set=assignment.set,
        harness=harness_hash(root, assignment.problem_ref),
        configurations=assignment.whole_set,
    )


def fix(run: Run, rules: Policy, *, alpha: float) -> None:
    """Choose calibration and plan for a confirm at this level; notes say what is missing. The
    environment must be known, but for a calibration's own run."""
    run.policy = asdict(rules)
    if run.assignment.request.mode == "calibrate":
        processes = run.assignment.request.processes or CALIBRATION_PROCESSES
        run.plan = _plan(rules, processes, "a calibration", screen_blocks=0)
        return
    version = next(a.identity for a in run.arm_records if a.role == "incumbent")
    found, why = _calibration(run, rules, version)
    if found is not None:
        if other := calibration.of_another_version(found, version):
            run.note(
                f"{other}, so that order effects or the null twin may leave its bands; "
                f"{_advice(run)}"
            )
        run.calibration = calibration.to_dict(found)
        run.plan = {**sample_size.plan(rules, found, alpha), "block_sd": found.block_sd}
        return
    sd = BLOCK_SD[run.assignment.kind]
    reason = f"no calibration: {why}"
    run.plan = {**_plan(rules, rules.replicates or REPLICATES, reason), "block_sd": sd}
    run.note(
        f"no calibration ({why}): the screen takes {sd:.1%} for the sd of a block, and nothing is "
        f"promoted; {_advice(run)}"
    )


def _advice(run: Run) -> str:
    request = run.assignment.request
    named = f" --incumbent {request.incumbent}" if request.incumbent else ""
    where = f"--target {run.assignment.target} --set {run.assignment.set}"
    return f"avo calibrate {request.kernel} {where}{named}"


def _calibration(run: Run, rules: Policy, version: str) -> tuple[Calibration | None, str]:
    wanted = calibration.conditions(
        run.environment, rules, kernel=run.assignment.request.kernel, target=run.assignment.target
    )
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return calibrations.newest(run.home, wanted, at=now, policy=rules, version=version)


def _plan(
    rules: Policy, replicates: int, reason: str, *, screen_blocks: int | None = None
) -> dict[str, Any]:
    return {
        "replicates": replicates,
        "blocks": rules.confirm_blocks,
        "screen_blocks": rules.screen_blocks if screen_blocks is None else screen_blocks,
        "effective_min_gain": rules.min_gain,
        "reason": reason,
    }
