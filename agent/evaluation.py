# SPDX-License-Identifier: MIT
"""A judge's record as the agent sees it: verdict, gain, bound, why, and a short table."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avo_pytest.printable import printable
from avo_pytest.report import compiled
from avo_pytest.report.outcome import Outcome, first_failure, outcome, verdict
from avo_pytest.score import Record
from avo_pytest.summary import GroupRow, Summary, summarise

ERROR = "ERROR"  # no verdict about the candidate: the judge or the request failed
MEASURED = "MEASURED"  # a measurement decides nothing
FAILURES = 3  # shown of the checks that failed
REASON = 400  # characters of each
TAIL = 1200  # characters of a judge's last words
PLACE = re.compile(r"/\S*/evaluations/[\w-]+/candidate/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What one run of the judge came to. Gains are fractions over the incumbent, None where there
    is none; `correct` is None where that was not told. `text` is what a reader is shown."""

    mode: str
    verdict: str  # as in avo_pytest.verdict.Kind, or MEASURED, or ERROR
    gain: float | None = None
    lower: float | None = None
    upper: float | None = None
    tflops: float | None = None
    correct: bool | None = None
    reason: str = ""
    record_path: Path | None = None
    gpu_seconds: float = 0.0
    text: str = ""
    run: str = ""
    candidate: str = ""  # identity of the folder that was judged


def of_record(mode: str, path: Path, seconds: float) -> Evaluation:
    """Read a record. Raises ValueError or OSError. `seconds`: how long the judge worked."""
    record = Record.from_json(path.read_bytes())
    summary = summarise(record)
    found = outcome(record, summary)
    kind, reason = _decided(verdict(record), record, found)
    gain, lower, upper = _gain(verdict(record), summary)
    timed = sum(replicate.seconds for replicate in record.replicates)
    arms = [arm.identity for arm in record.arms if arm.role == "candidate"]
    lines = [f"{mode}: {kind}{f' ({reason})' if reason else ''}", *_table(record, summary)]
    return Evaluation(
        mode=mode,
        verdict=kind,
        gain=gain,
        lower=lower,
        upper=upper,
        tflops=summary.overall.tflops if summary.overall else None,
        correct=_correct(record, found),
        reason=reason,
        record_path=path,
        gpu_seconds=0.0 if record.target == "cpu" else round(timed or seconds, 3),
        text=printable("\n".join(lines)),
        run=record.run,
        candidate=arms[0] if arms else "",
    )


def of_failure(mode: str, said: str, seconds: float, *, on_gpu: bool) -> Evaluation:
    """No record: the judge's own words say why."""
    lines = [line for line in printable(said).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    reason = (errors or lines or ["the judge said nothing"])[-1].removeprefix("ERROR: ")[:REASON]
    return Evaluation(
        mode=mode,
        verdict=ERROR,
        reason=reason,
        gpu_seconds=round(seconds, 3) if on_gpu else 0.0,
        text=f"{mode}: {ERROR} (the judge did not finish; this says nothing about the candidate)\n"
        + "\n".join(lines)[-TAIL:],
    )


def pathless(text: str) -> str:
    """A judge's sentence without where this machine keeps the candidate."""
    return PLACE.sub("", text)


def _decided(found: Mapping[str, Any], record: Record, told: Outcome) -> tuple[str, str]:
    if found:
        reasons = found.get("reasons") or [{}]
        return str(found["kind"]), str(reasons[0].get("text", ""))[:REASON]
    failed = first_failure(record)
    reason = f"{failed.configuration}: {failed.reason}" if failed else ""
    if told is Outcome.INCORRECT:
        return "INCORRECT", reason[:REASON]
    if told is Outcome.UNMEASURED:
        return "INVALID", (reason or "not everything was measured")[:REASON]
    return MEASURED, ""


def _correct(record: Record, found: Outcome) -> bool | None:
    mine = [check for check in record.checks if check.arm == "candidate"]
    if found is Outcome.INCORRECT:
        return False
    return all(check.ok for check in mine) if mine else None


def _gain(
    found: Mapping[str, Any], summary: Summary
) -> tuple[float | None, float | None, float | None]:
    """A confirm's own estimate and bounds; else the ratio and its bootstrap interval."""
    if found and found.get("gain") is not None:
        values = (found.get(key) for key in ("gain", "lower", "upper"))
        gain, lower, upper = (None if v is None else math.expm1(v) for v in values)
        return gain, lower, upper
    ratio = summary.overall.ratios.get("incumbent") if summary.overall else None
    if ratio is None:
        return None, None, None
    return ratio[0] - 1, ratio[1] - 1, ratio[2] - 1


def _table(record: Record, summary: Summary) -> Iterator[str]:
    """Short on purpose: the record has all."""
    if summary.overall is not None:
        ratio = summary.overall.ratios.get("incumbent")
        yield f"geomean {_figures(summary.overall)}"
        if ratio is None:
            yield "there was no incumbent to compare with"
    if any(row.tflops for row in summary.rows):
        yield "configuration | TFLOPS | against incumbent | of ceiling"
    for row in summary.rows:
        if row.tflops:
            ceiling = "" if row.ceiling_percent is None else f" | {row.ceiling_percent:.0f} %"
            yield f"{row.configuration} | {_figures(row)}{ceiling}"
    failed = [check for check in record.checks if not check.ok]
    for check in failed[:FAILURES]:
        yield f"failed {check.arm} {check.configuration}: {check.status}: {check.reason[:REASON]}"
    if len(failed) > FAILURES:
        yield f"and {len(failed) - FAILURES} more checks failed"
    yield from (f"note: {note[:REASON]}" for note in record.notes)
    yield from (f"compiler: {remark}" for remark in compiled.remarks(record))
    yield f"correct {summary.correct}/{summary.checked}, run {record.run}"


def _figures(row: Any) -> str:
    text = f"{row.tflops:.4g}"
    ratio = row.ratios.get("incumbent")
    if ratio is None:
        return text if isinstance(row, GroupRow) else f"{text} | -"
    gain, low, high = (100 * (value - 1) for value in ratio)
    return f"{text} | {gain:+.2f} % [{low:+.2f}, {high:+.2f}]"
