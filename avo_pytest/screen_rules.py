# SPDX-License-Identifier: MIT
"""From the calibration to the end of the screen: is a confirm worth its time?

Each rule objects with a Reason or says nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from avo_pytest import calibration as calibrations
from avo_pytest.score import Stage
from avo_pytest.verdict import Reason, limit, percent

if TYPE_CHECKING:
    from avo_pytest.case import Case

_CALIBRATE = "run `avo calibrate` on this device, then confirm again"
_AGAIN = "the confirm counts as an attempt; run it again"


def calibration_applies(case: Case) -> Reason | None:
    """A calibration is of this device under these conditions, neither old nor skewed; of a merged
    confirm that of every share."""
    record, policy = case.record, case.policy
    if not record.calibration:
        return None
    if record.shares and record.calibration not in [s.calibration for s in record.shares]:
        return Reason("calibration", "it is of none of the shares", _AGAIN)
    try:
        found = case.machines
    except (ValueError, TypeError) as error:
        return Reason("calibration", f"unreadable: {error}", _CALIBRATE)
    wanted = calibrations.conditions(
        record.environment, policy, kernel=record.kernel, target=record.target
    )
    for number, (calibration, at) in enumerate(found, 1):
        why = calibrations.applies(calibration, wanted, at=at, policy=policy)
        if why is not None:
            where = f"share {number}: " if record.shares else ""
            return Reason("calibration", where + why, _CALIBRATE)
    return None


def calibrated(case: Case) -> Reason | None:
    """There is one. A screen can do without: what it says holds under any noise."""
    if case.record.calibration:
        return None
    return Reason("calibration", "there was none of this device", _CALIBRATE)


def planned(case: Case) -> Reason | None:
    """The plan is the one that policy and calibration give: nothing was chosen by looking."""
    for key, wanted in case.plan.items():
        has = case.record.plan.get(key, wanted if key == "block_sd" else None)
        if key != "reason" and not _same(has, wanted):
            text = f"{key} was planned as {has!r}; policy and calibration give {wanted!r}"
            return Reason("plan", text, _AGAIN)
    return None


def screened(case: Case) -> Reason | None:
    """A screen that is whole: at most two processes, and as many blocks as it needed."""
    stages = [r for r in case.record.replicates if r.stage is Stage.SCREEN]
    if len(stages) > 2 or bool(stages) != bool(case.policy.screen_blocks):
        text = f"{len(stages)} screen processes for {case.policy.screen_blocks} blocks"
        return Reason("screen", text, _AGAIN)
    if not stages:
        return None
    try:
        seen = case.screening
    except ValueError as error:
        return Reason("samples", f"screen: {error}", _AGAIN)
    if seen.decision != "continue" or seen.blocks >= case.policy.screen_blocks:
        return None
    text = f"it ended undecided after {seen.blocks} of {case.policy.screen_blocks} blocks"
    return Reason("screen", text, "a screen that was broken off says nothing; run it again")


def futile(case: Case) -> Reason | None:
    """The screen's upper bound is not above min_gain."""
    if not case.policy.screen_blocks or (seen := case.screening).decision != "futile":
        return None
    text = (
        f"after {seen.blocks} blocks the gain is at most {percent(seen.upper)} (estimate "
        f"{percent(seen.mean)}), {limit(case.min_gain)} is asked for"
    )
    return Reason("screen", text, "try another idea; this one costs no more time")


def undecided(case: Case) -> Reason | None:
    """The screen gave up."""
    if not case.policy.screen_blocks or (seen := case.screening).decision != "continue":
        return None
    text = (
        f"after {seen.blocks} blocks the gain is between {percent(seen.lower)} and "
        f"{percent(seen.upper)}: too small to be worth a confirm"
    )
    return Reason("screen", text, f"look for more than {limit(case.min_gain)}")


def only_screened(case: Case) -> Reason | None:
    """Promising, and nothing more."""
    if case.record.mode != "screen":
        return None
    text = "the policy has no screen"
    if case.policy.screen_blocks:
        text = f"promising after {case.screening.blocks} blocks"
    return Reason("mode", text, "--avo-mode confirm decides, with fresh processes")


def _same(has: Any, wanted: Any) -> bool:
    """Positive numbers, equal but for rounding."""
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in (has, wanted)):
        return False
    return bool(has >= 0 and math.isclose(has, wanted, rel_tol=1e-9))
