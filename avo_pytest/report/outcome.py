# SPDX-License-Identifier: MIT
"""A record in one word, one exit code and one line. The line is a contract with scripts."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from avo_pytest.report.figures import arm_order, percent, throughput
from avo_pytest.score import Check, Record, Status
from avo_pytest.summary import GroupRow, Summary

MAX_REASON = 160
INTERRUPTED = "interrupted"  # the note of a run that was ended by hand


EXIT_CODES = {
    "PROMOTE": 0,
    "REJECT": 10,
    "INCONCLUSIVE": 11,
    "INCORRECT": 12,
    "INVALID": 13,
    "NO-CHANGE": 14,
}


class Outcome(Enum):
    """What a run found. The value is the exit code of `--avo-exit-verdict` of a measurement."""

    MEASURED = 11  # correct and timed; a measurement decides nothing
    INCORRECT = 12
    UNMEASURED = 13  # incomplete, interrupted, or another arm failed


def outcome(record: Record, summary: Summary) -> Outcome:
    """A subset that is correct counts as measured: it was asked for."""
    failed = first_failure(record)
    if failed is not None:
        judged = failed.arm == "candidate" and failed.status is not Status.INVALID
        return Outcome.INCORRECT if judged else Outcome.UNMEASURED
    timed = all(row.status == "ok" for row in summary.rows)
    lost = any(replicate.status is not Status.OK for replicate in record.replicates)
    complete = (timed if record.subset else summary.overall is not None) and not lost
    return Outcome.MEASURED if complete and not interrupted(record) else Outcome.UNMEASURED


def exit_code(record: Record, summary: Summary) -> int:
    """Of `--avo-exit-verdict`: the verdict's where there is one, else what was found."""
    found = verdict(record)
    return EXIT_CODES[found["kind"]] if found else outcome(record, summary).value


def verdict(record: Record) -> Mapping[str, Any]:
    """What was decided, as plain JSON; empty for a measurement."""
    found: Mapping[str, Any] = record.derived.get("verdict", {})
    return found


def interrupted(record: Record) -> bool:
    """Whether samples are missing because somebody ended the run."""
    return INTERRUPTED in record.notes


def first_failure(record: Record) -> Check | None:
    """The check that made the score zero; the candidate's come first."""
    failed = [check for check in record.checks if not check.ok]
    return next((c for c in failed if c.arm == "candidate"), failed[0] if failed else None)


def last_line(record: Record, summary: Summary) -> str:
    """`AVO score attention/cpu: 231.4 GFLOPS geomean · 1.62x torch-sdpa-bf16 · … · run …`"""
    mean = None if interrupted(record) or first_failure(record) else summary.overall
    parts = [
        f"AVO score {record.kernel}/{record.target}: {_score(record, summary, mean)}",
        *(_ratios(record, mean) if mean else ()),
        *_decided(verdict(record)),
        f"correct {summary.correct}/{summary.checked}",
        f"run {record.run}",
    ]
    return " · ".join(parts)


def _decided(found: Mapping[str, Any]) -> list[str]:
    """`verdict PROMOTE +0.42 % (>= +0.31 %)`: the confirm's estimate and the bound that decided."""
    if not found:
        return []
    text = f"verdict {found['kind']}"
    if found["gain"] is not None:
        rejected = found["kind"] == "REJECT"
        bound = f"<= {percent(found['upper'])}" if rejected else f">= {percent(found['lower'])}"
        text += f" {percent(found['gain'])} ({bound})"
    return [text]


def _score(record: Record, summary: Summary, mean: GroupRow | None) -> str:
    failed = first_failure(record)
    if failed is not None:
        word = failed.status.value.replace("_", " ")
        return f"0 ({word}: {describe(failed)})"
    if mean is not None:
        return f"{throughput(record, summary).text(mean.tflops)} geomean"
    timed = sum(row.status == "ok" for row in summary.rows)
    word = INTERRUPTED if interrupted(record) else "subset" if record.subset else "incomplete"
    what = f"{timed} of {len(summary.rows)} configurations timed" if timed else "nothing timed"
    return f"none ({word}: {what})"


def _ratios(record: Record, row: GroupRow) -> list[str]:
    shown = []
    for arm in arm_order(record):
        if arm.name in row.ratios and arm.role != "null":
            digits = 3 if arm.role == "incumbent" else 2
            shown.append(f"{row.ratios[arm.name][0]:.{digits}f}x {arm.name}")
    return shown


def describe(check: Check) -> str:
    """Where and why a check failed, on one line, each said once."""
    said = [] if check.arm == "candidate" else [check.arm]
    said += [] if check.reason.startswith(check.configuration) else [check.configuration]
    return ": ".join([*said, one_line(check.reason)])


def one_line(reason: str) -> str:
    """The reason on one line, cut where it gets long."""
    text = " ".join(reason.split())
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"
