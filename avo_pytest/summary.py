# SPDX-License-Identifier: MIT
"""A record's scoreboard: throughput, paired ratios, geometric means, derived from raw samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from avo_pytest.evidence import gather, paired
from avo_pytest.score import Check, Record, Sample, Stage
from avo_pytest.statistics import Array, bootstrap_interval, process_value

Ratio = tuple[float, float, float]
Place = tuple[int, int]  # replicate, block


@dataclass(frozen=True, slots=True)
class Row:
    """One throughput configuration. TFLOPS of the candidate; ratio > 1: the candidate is faster."""

    configuration: str
    group: str
    tflops: float
    tflops_low: float
    tflops_high: float
    ratios: Mapping[str, Ratio]
    ceiling_percent: float | None
    error: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class GroupRow:
    """Geometric mean over configurations."""

    tflops: float
    tflops_low: float
    tflops_high: float
    ratios: Mapping[str, Ratio]


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything a scoreboard shows. `overall` is None for a subset, a failure or no samples."""

    rows: tuple[Row, ...]
    groups: Mapping[str, GroupRow]
    overall: GroupRow | None
    correct: int
    checked: int
    first_failure: str


def block_times(
    samples: Sequence[Sample], configuration: str, arm: str
) -> dict[Place, dict[int, float]]:
    """(replicate, block) → turn → milliseconds of one arm on one configuration."""
    times: dict[Place, dict[int, float]] = {}
    for s in samples:
        if s.configuration == configuration and s.arm == arm:
            times.setdefault((s.replicate, s.block), {})[s.turn] = s.ms
    return times


def paired_log_ratios(
    samples: Sequence[Sample], configuration: str, a: str, b: str
) -> dict[Place, float]:
    """(replicate, block) → mean over turns of ln t_b − ln t_a: positive where `a` is faster.

    Only turns in which both arms have a sample count: what is paired is paired in time.
    """
    taken = [s for s in samples if s.configuration == configuration and s.arm in (a, b)]
    launches = gather(taken, [configuration], [a, b])
    ratios = zip(launches.rows, paired(launches, a, b)[:, 0], strict=True)
    return {place: float(d) for place, d in ratios if not math.isnan(d)}


def summarise(record: Record) -> Summary:
    """Derive the scoreboard of a record. Pure: the same record gives the same figures.

    Where a candidate was confirmed its screen is left out: it was stopped when it looked good.
    """
    record = replace(record, samples=_scored(record))
    candidate = next((a.name for a in record.arms if a.role == "candidate"), "candidate")
    others = [a.name for a in record.arms if a.name != candidate]
    checks = [c for c in record.checks if c.arm == candidate]
    failures = [c for c in checks if not c.ok]
    rows = tuple(_row(record, c.name, candidate, others, checks) for c in record.configurations)
    # a failed check makes the score zero; a subset has no geometric mean
    complete = bool(rows) and not failures and all(r.status == "ok" for r in rows)
    scored = complete and not record.subset
    groups = {}
    if scored:
        for group in dict.fromkeys(c.group for c in record.configurations):
            names = [c.name for c in record.configurations if c.group == group]
            groups[group] = _group(record, names, candidate, others)
    overall = _group(record, [r.configuration for r in rows], candidate, others) if scored else None
    first = f"{failures[0].configuration}: {failures[0].reason}" if failures else ""
    return Summary(rows, groups, overall, len(checks) - len(failures), len(checks), first)


def _scored(record: Record) -> tuple[Sample, ...]:
    confirm = {r.number for r in record.replicates if r.stage is Stage.CONFIRM}
    if not confirm:
        return record.samples
    return tuple(s for s in record.samples if s.replicate in confirm)


def _row(
    record: Record, name: str, candidate: str, others: Sequence[str], checks: Sequence[Check]
) -> Row:
    configuration = next(c for c in record.configurations if c.name == name)
    logs = _log_tflops(record, name, candidate)
    check = next((c for c in checks if c.configuration == name), None)
    failed = check is not None and not check.ok
    status = (
        "ok"
        if logs.size and not failed
        else (str(check.status) if check and failed else "not timed")
    )
    tflops, low, high = _exp_interval([logs]) if logs.size and not failed else (0.0, 0.0, 0.0)
    ratios = {o: r for o in others if (r := _ratio(record, [name], candidate, o)) is not None}
    ceiling = _ceiling(record)
    return Row(
        configuration=name,
        group=configuration.group,
        tflops=tflops,
        tflops_low=low,
        tflops_high=high,
        ratios=ratios if not failed else {},
        ceiling_percent=100 * tflops / ceiling if ceiling and tflops else None,
        error=_error(check),
        status=status,
        reason=check.reason if check and failed else "",
    )


def _group(record: Record, names: Sequence[str], candidate: str, others: Sequence[str]) -> GroupRow:
    tflops, low, high = _exp_interval([_log_tflops(record, n, candidate) for n in names])
    ratios = {o: r for o in others if (r := _ratio(record, names, candidate, o)) is not None}
    return GroupRow(tflops, low, high, ratios)


def _log_tflops(record: Record, name: str, arm: str) -> Array:
    flops = next(c.flops for c in record.configurations if c.name == name)
    times = block_times(record.samples, name, arm)
    values = [math.log(flops / 1e9 / float(np.median(list(t.values())))) for t in times.values()]
    return np.array(values)


def _ratio(record: Record, names: Sequence[str], candidate: str, other: str) -> Ratio | None:
    logs = [
        np.array(list(paired_log_ratios(record.samples, n, candidate, other).values()))
        for n in names
    ]
    if not logs or any(d.size == 0 for d in logs):
        return None
    return _exp_interval(logs)


def _exp_interval(logs: Sequence[Array]) -> Ratio:
    low, high = bootstrap_interval(logs)
    return math.exp(process_value(logs)), math.exp(low), math.exp(high)


def _ceiling(record: Record) -> float | None:
    probes: list[Any] = [b["ceiling_tflops"] for b in record.blocks if b.get("ceiling_tflops")]
    return float(np.median(probes)) if probes else None


def _error(check: Check | None) -> str:
    if check is None or check.error_rms is None or check.limit_rms is None:
        return ""
    return f"{check.error_rms:.1e}/{check.limit_rms:.1e}"
