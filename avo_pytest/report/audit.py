# SPDX-License-Identifier: MIT
"""An audit in plain words: what was claimed, what was measured, what may differ, and the levels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from avo_pytest.policy import Policy
from avo_pytest.printable import printable
from avo_pytest.report.figures import arm_order, percent, throughput
from avo_pytest.score import Record
from avo_pytest.summary import summarise

if TYPE_CHECKING:
    from avo_pytest.auditing import Audit, Subject

LABEL = 10


def text(record: Record, of: Subject, found: Audit, policy: Policy) -> str:
    """A line a subject, the verdict last."""
    title = (
        f"AVO audit {of.lineage.series}: version {of.rung.version} ({of.commits[0][:10]}) against "
        f"the seed, {len(record.replicates)} processes · run {record.run}"
    )
    lines = [title, *_figures(found, policy.alpha_confirm), *_levels(record)]
    lines += [_line(found.kind, f"{r.rule}: {r.text}") for r in found.reasons]
    lines += [_line("next", r.advice) for r in found.reasons if r.advice]
    return "\n".join(printable(line, " ") for line in lines) + "\n"


def _figures(found: Audit, alpha: float) -> Iterator[str]:
    beside, audited = found.comparison, found.audited
    if beside is not None:
        yield _line("claimed", f"{percent(beside.claimed)} over the seed")
    if audited is not None:
        low, high = audited.lower(alpha), audited.upper(alpha)
        bounds = f"from {percent(low)} to {percent(high)} at {1 - 2 * alpha:.0%}"
        yield _line("measured", f"{percent(audited.value)}, {bounds}")
    if beside is not None:
        parts = ("sampling", "session", "selection")
        shares = ", ".join(f"{getattr(beside, name):.2%} {name}" for name in parts)
        yield _line("may differ", f"{percent(beside.least)} to {percent(beside.most)} ({shares})")


def _levels(record: Record) -> Iterator[str]:
    summary = summarise(record)
    if summary.overall is None:
        return
    unit = throughput(record, summary)
    ratios = {a.name: summary.overall.ratios.get(a.name) for a in arm_order(record)}
    beside = "".join(
        f" · {ratio[0]:.3f}x {'the seed' if name == 'incumbent' else name}"
        for name, ratio in ratios.items()
        if ratio and math.isfinite(ratio[0])
    )
    yield _line("level", f"{unit.text(summary.overall.tflops)} geomean{beside}")


def _line(title: str, said: str) -> str:
    return f"{title:<{LABEL}} {said}"
