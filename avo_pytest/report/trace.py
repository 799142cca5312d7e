# SPDX-License-Identifier: MIT
"""A record as FlashInfer-Bench traces, and what exporters ask of a record's arms."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from statistics import median
from typing import Any

from avo_pytest import __version__
from avo_pytest.score import Check, Record, Sample, Status
from avo_pytest.summary import summarise

TRACE_STATUS = {
    Status.OK: "PASSED", Status.INCORRECT: "INCORRECT_NUMERICAL", Status.TIMEOUT: "TIMEOUT",
    Status.BUILD_ERROR: "COMPILE_ERROR", Status.LAUNCH_ERROR: "RUNTIME_ERROR",
    Status.CRASHED: "RUNTIME_ERROR",
}  # fmt: skip


def flashinfer_trace(record: Record) -> str:
    """FlashInfer-Bench traces, one JSON line a configuration. Where its schema has only a median,
    interval and ratios go under `correctness.extra`; what the machine spoiled is left out."""
    lines = []
    checks = {c.configuration: c for c in record.checks if c.arm == "candidate" and c.ok}
    checks |= {c.configuration: c for c in record.checks if c.arm == "candidate" and not c.ok}
    rows = {row.configuration: row for row in summarise(record).rows}
    for name in dict.fromkeys([*rows, *(c for c in checks if not checks[c].ok)]):
        evaluation = _evaluation(record, name, checks.get(name))
        if evaluation is not None:
            key = f"{record.kernel}/{name}"
            lines.append(json.dumps({
                "definition": record.kernel,
                "workload": {"axes": _axes(name), "inputs": {},
                             "uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, key))},
                "solution": f"{record.target}-{candidate(record)[:12]}",
                "evaluation": evaluation,
            }, sort_keys=True))  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


def by_arm(record: Record) -> dict[tuple[str, str], list[Sample]]:
    """Samples of each configuration and arm."""
    found: dict[tuple[str, str], list[Sample]] = {}
    for sample in record.samples:
        found.setdefault((sample.configuration, sample.arm), []).append(sample)
    return found


def candidate(record: Record) -> str:
    """The identity of what was judged."""
    return next((a.identity for a in record.arms if a.role == "candidate"), "") or "unknown"


def _evaluation(record: Record, name: str, check: Check | None) -> dict[str, Any] | None:
    status = check.status if check else Status.OK
    times = [s.ms for s in record.samples if (s.configuration, s.arm) == (name, "candidate")]
    if status not in TRACE_STATUS or (status is Status.OK and not times):
        return None
    libraries = {k: v for k, v in record.environment.items() if isinstance(v, str) and v}
    raw: dict[str, Any] = {
        "status": TRACE_STATUS[status], "timestamp": record.created,
        "environment": {
            "hardware": str(record.environment.get("device") or "unknown"),
            "libs": {**libraries, "avo-pytest": __version__},
        },
        "log": check.reason if check else "",
    }  # fmt: skip
    if status in (Status.OK, Status.INCORRECT):
        raw["correctness"] = {
            "max_relative_error": (check.error_worst if check else None) or 0.0,
            "max_absolute_error": 0.0,
            "extra": _extra(record, name, times),
        }
    if status is Status.OK:
        raw["performance"] = _performance(record, name, median(times))
    return raw


def _performance(record: Record, name: str, latency: float) -> dict[str, float]:
    """Against the fastest baseline; zeros where none was timed."""
    arms = {a.name for a in record.arms if a.role == "baseline"}
    others = [
        median(s.ms for s in samples)
        for (configuration, arm), samples in by_arm(record).items()
        if configuration == name and arm in arms
    ]
    reference = min(others, default=0.0)
    return {"latency_ms": latency, "reference_latency_ms": reference,
            "speedup_factor": reference / latency}  # fmt: skip


def _extra(record: Record, name: str, times: Sequence[float]) -> dict[str, Any]:
    row = next((r for r in summarise(record).rows if r.configuration == name), None)
    if row is None or not times:
        return {"run": record.run}
    tflops = [row.tflops, row.tflops_low, row.tflops_high]
    ratios = {name: list(ratio) for name, ratio in row.ratios.items()}
    return {"run": record.run, "tflops": tflops, "ratios": ratios, "samples": len(times)}


def _axes(name: str) -> dict[str, int]:
    """`b2-h8-s512-d128-full` → b, h, s, d."""
    found = re.findall(r"(?:^|-)([a-z_]+)(\d+)(?=-|$)", name)
    return {axis: int(value) for axis, value in found}
