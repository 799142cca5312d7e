# SPDX-License-Identifier: MIT
"""Speed is not to be bought with accuracy.

The tolerance of a check has room for every honest way to compute, and a search would use it up: of
two kernels that both pass, the less exact one is often faster. But candidate and incumbent are
checked on the same rows of the same inputs, so that their errors can be compared closely.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from avo_pytest.correctness import FLOOR
from avo_pytest.score import Record
from avo_pytest.verdict import Reason

if TYPE_CHECKING:
    from avo_pytest.case import Case


def error_growth(record: Record) -> Mapping[str, float]:
    """Of each configuration: the mean over processes of ln(candidate's RMS error / incumbent's).

    An error below that of rounding the output, `FLOOR`, counts as that. Configurations that are
    compared bitwise have no error and no entry. Raises ValueError where only one arm has an error.
    """
    roles = {arm.name: arm.role for arm in record.arms}
    found: defaultdict[tuple[str, int], dict[str, float | None]] = defaultdict(dict)
    for check in record.checks:
        if check.replicate is not None and roles.get(check.arm) in ("candidate", "incumbent"):
            found[check.configuration, check.replicate][roles[check.arm]] = check.error_rms
    logs: defaultdict[str, list[float]] = defaultdict(list)
    for (configuration, replicate), errors in found.items():
        ours, theirs = errors.get("candidate"), errors.get("incumbent")
        if (ours is None) != (theirs is None):
            raise ValueError(f"process {replicate}: {configuration}: one arm's error is not there")
        if ours is not None and theirs is not None:
            logs[configuration].append(math.log(max(ours, FLOOR) / max(theirs, FLOOR)))
    return {name: sum(values) / len(values) for name, values in logs.items()}


def compared(case: Case) -> Reason | None:
    """Errors of both arms, or of none."""
    try:
        case.error_growth  # noqa: B018 - computed here
    except ValueError as error:
        return Reason("accuracy", str(error), "the confirm counts as an attempt; run it again")
    return None


def less_accurate(case: Case) -> Reason | None:
    """A configuration whose error grew too much. Each process compares thousands of rows, so that
    the estimate needs no interval."""
    allowed = math.log1p(case.policy.max_error_growth)
    worst = max(case.error_growth, key=lambda name: (case.error_growth[name], name), default=None)
    if worst is None or case.error_growth[worst] <= allowed:
        return None
    text = (
        f"{worst}: the error is {math.exp(case.error_growth[worst]):.3f}x the incumbent's, "
        f"{math.exp(allowed):.3f}x is the limit"
    )
    return Reason("accuracy", text, "gain speed without losing accuracy")
