# SPDX-License-Identifier: MIT
"""Speed is not to be bought with accuracy.

The tolerance of a check has room for every honest way to compute, and a search would use it up: of
two kernels that both pass, the less exact one is often faster. But candidate and incumbent are
checked beside the same oracle, so that their errors can be compared closely: on thousands of rows
in a process's first launch of a configuration, on a few in every launch that is timed, since a
kernel that knows its first launch may be careful in that one only. Of timed launches neither the
median over blocks may grow nor the mean. Speed is a median, so that a mean alone would forgive the
error of the blocks that decide for the care of a few slow ones that do not. A median alone would
not see a minority of careless, fast blocks; on a noisy machine these move the median of the times
to the faster ones of the others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING

from avo_pytest.correctness import FLOOR
from avo_pytest.score import Record, Stage
from avo_pytest.verdict import Reason

if TYPE_CHECKING:
    from avo_pytest.case import Case

FIRST, TIMED = "first launches", "timed launches"
Growth = Mapping[tuple[str, str], float]  # of a configuration, in FIRST or TIMED


def error_growth(record: Record) -> Growth:
    """The mean over processes of ln(candidate's RMS error / incumbent's); of the timed launches of
    a process by the median over its blocks, as `processes.Processes.values` has it of their times,
    and by the mean: the greater of both.

    An error below that of rounding the output, `FLOOR`, counts as that. Configurations that are
    compared bitwise have no error and no entry; nor have the timed launches of a record from before
    their errors were kept. Raises ValueError where only one arm has an error, or one is none.
    """
    roles = defaultdict(str, {arm.name: arm.role for arm in record.arms})
    found: defaultdict[tuple[str, str, int, int], defaultdict[str, list[float]]]
    found = defaultdict(lambda: defaultdict(list))
    for check in record.checks:
        if check.replicate is not None and check.error_rms is not None:
            errors = found[check.configuration, FIRST, check.replicate, 0]
            errors[roles[check.arm]].append(max(check.error_rms, FLOOR))
    confirms = {r.number for r in record.replicates if r.stage is Stage.CONFIRM}
    for sample in record.samples:
        if sample.replicate in confirms and "error_share" in sample.facts:
            errors = found[sample.configuration, TIMED, sample.replicate, sample.block]
            errors[roles[sample.arm]].append(sample.facts["error_share"])
    blocks: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    for (configuration, where, replicate, _), errors in found.items():
        ours, theirs = errors["candidate"], errors["incumbent"]
        if len(ours) != len(theirs):
            raise ValueError(f"process {replicate}: {configuration}: one arm's error is not there")
        if odd := [x for x in ours + theirs if not 0 < x < math.inf]:
            raise ValueError(f"process {replicate}: {configuration}: {odd[0]} is no error")
        if ours:
            blocks[configuration, where, replicate].append(_mean_log(ours) - _mean_log(theirs))
    logs: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for (configuration, where, _), values in blocks.items():
        logs[configuration, where].append((median(values), fmean(values)))
    return {
        key: max(fmean(values) for values in zip(*both, strict=True)) for key, both in logs.items()
    }


def _mean_log(errors: Sequence[float]) -> float:
    return sum(map(math.log, errors)) / len(errors)


def compared(case: Case) -> Reason | None:
    """Errors of both arms, or of none."""
    try:
        case.error_growth  # noqa: B018 - computed here
    except ValueError as error:
        return Reason("accuracy", str(error), "the confirm counts as an attempt; run it again")
    return None


def less_accurate(case: Case) -> Reason | None:
    """A configuration whose error grew too much. Thousands of rows are compared in both kinds of
    launches, which leaves a standard error of 0.3 % or less, so that the estimate needs no
    interval."""
    allowed = math.log1p(case.policy.max_error_growth)
    worst = max(case.error_growth, key=lambda key: (case.error_growth[key], key), default=None)
    if worst is None or case.error_growth[worst] <= allowed:
        return None
    configuration, where = worst
    text = (
        f"{configuration}: the error is {math.exp(case.error_growth[worst]):.3f}x the incumbent's "
        f"in {where}, {math.exp(allowed):.3f}x is the limit"
    )
    return Reason("accuracy", text, "gain speed without losing accuracy")
