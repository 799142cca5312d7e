# SPDX-License-Identifier: MIT
"""What to do next, from a record."""

from __future__ import annotations

import shlex
from pathlib import Path

from avo_pytest.report.outcome import Outcome, first_failure, interrupted, outcome, verdict
from avo_pytest.score import NO_INCUMBENT, Record, Status
from avo_pytest.summary import Summary


def advice(
    record: Record, summary: Summary, saved: Path | None, candidate: str | None = None
) -> list[str]:
    """One sentence a step, the most urgent first. `candidate` is what --avo-candidate named."""
    found = outcome(record, summary)
    if found is Outcome.INCORRECT:
        steps = [_mend(record, candidate)]
    elif interrupted(record) and record.mode == "confirm":
        steps = ["The same command takes it up again; finished replicates of a confirm are kept."]
    elif verdict(record):
        steps = [r["advice"] for r in verdict(record)["reasons"] if r["advice"]]
        steps = [_sentence(step) for step in dict.fromkeys(steps)]
    elif found is Outcome.UNMEASURED:
        steps = ["The run is incomplete: see above, then run it again."]
    elif record.subset:
        steps = ["Run without -k and --avo-configuration for a score."]
    else:
        steps = _improve(record, summary)
    if record.isolation == "none" and record.environment:
        steps.append("Candidate code ran unconfined; `avo doctor` says how to change that.")
    if saved is not None:
        steps.append(f"Raw samples and environment: {saved}")
    return steps


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _mend(record: Record, candidate: str | None) -> str:
    failed = first_failure(record)
    assert failed is not None
    where = candidate or f"kernels/{record.kernel}/{record.target}"
    judged = f" --avo-candidate {shlex.quote(candidate)}" if candidate else ""
    if failed.status is Status.BUILD_ERROR:
        return (
            f"Mend {where}; `avo build --kernel {record.kernel} --target {record.target}` "
            "shows the compiler's whole output."
        )
    return (
        f"Mend {where}, then replay this check: pytest --avo-score --avo-kernel {record.kernel} "
        f"--avo-target {record.target}{judged} --avo-seed {record.seed} "
        f"-k '[{failed.configuration}]'"
    )


def _improve(record: Record, summary: Summary) -> list[str]:
    where = f"kernels/{record.kernel}/{record.target}"
    alone = any(note.startswith(NO_INCUMBENT) for note in record.notes)
    known = "--avo-incumbent names" if alone else "the version on main is then"
    steps = [f"Edit {where} and score again: {known} the incumbent."]
    baselines = [arm.name for arm in record.arms if arm.role == "baseline"]
    ratios = [
        (row.ratios[name][0], row.configuration, name)
        for row in summary.rows
        for name in baselines
        if name in row.ratios
    ]
    if ratios:
        value, configuration, arm = min(ratios)
        steps.append(f"Weakest point: {configuration}, {value:.2f}x {arm}.")
    return steps
