# SPDX-License-Identifier: MIT
"""From a record to its line in the ledger. Pure: the same record gives the same line."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from avo_pytest.entries import VERDICT, Entry, Interval
from avo_pytest.evidence import EvidenceError
from avo_pytest.ledger import raw_facts
from avo_pytest.printable import one_plain_line
from avo_pytest.score import Record, Status
from avo_pytest.summary import GroupRow, Row, Summary, summarise

SHORT = 80
EPOCH_DIGITS = 12
# Of the environment, what tells machines apart; the whole is in the record
ENVIRONMENT = (
    "device",
    "driver",
    "uuid",
    "cpus",
    "threads",
    "compiler",
    "torch",
    "power_limit_w",
    "clocks",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a record does not know about itself."""

    kind: str = VERDICT
    idea: str = ""
    author: str = ""
    role: str = "local"
    device: str = ""  # its name in the gate table; else as the record has it
    epoch: str = ""
    version: int | None = None
    commit: str = ""  # the landing commit
    cost: Mapping[str, float] = field(default_factory=dict)  # usd, tokens of the proposer
    stored: str = ""  # where the raw samples are: `ref`, `artifact`


def entry_of(record: Record, circumstances: Circumstances) -> Entry:
    """The entry of a record; its verdict is the one that `derived` holds, if any."""
    return under(told(record), circumstances)


def under(entry: Entry, circumstances: Circumstances) -> Entry:
    """What a record tells, with what it does not know."""
    known = circumstances
    return replace(
        entry,
        kind=known.kind,
        device=known.device or entry.device,
        role=known.role,
        epoch=known.epoch or entry.epoch,
        version=known.version,
        idea=clean(known.idea),
        author=clean(known.author),
        commit=known.commit,
        cost={**entry.cost, **known.cost},
        raw={**entry.raw, "stored": known.stored},
    )


def told(record: Record) -> Entry:
    """What a record says about itself."""
    summary = _summary(record)
    verdict: Mapping[str, Any] = record.derived.get("verdict") or {}
    return Entry(
        id=record.run,
        kind=VERDICT,
        created=record.created,
        kernel=record.kernel,
        target=record.target,
        device=_short(record.environment.get("device", "")),
        mode=record.mode,
        set=record.set,
        regime=record.regime,
        isolation=record.isolation,
        epoch=epoch_of(record.harness),
        verdict=str(verdict.get("kind", "")) or _verdict(record),
        reasons=_reasons(verdict, summary),
        gain=_gain(verdict),
        p_value=verdict.get("p_value"),
        replicates=int(verdict.get("replicates") or len(record.replicates)),
        arms={arm.name: arm.role for arm in record.arms},
        overall=_group(summary.overall),
        groups={name: _group(row) or {} for name, row in summary.groups.items()},
        configurations={row.configuration: _row(row) for row in summary.rows},
        identities=_identities(record),
        environment={k: _short(record.environment[k]) for k in ENVIRONMENT if k in _named(record)},
        cost=_cost(record),
        noise=_noise(record.calibration),
        plan={k: v for k, v in record.plan.items() if isinstance(v, (int, float, str))},
        raw=raw_facts(record.to_json()),
    )


def epoch_of(harness: str) -> str:
    """The name of the period in which one harness and problem judge."""
    return harness[:EPOCH_DIGITS]


def clean(text: str) -> str:
    """An outsider's text as one plain line of at most 120 characters."""
    return one_plain_line(text, 120)


def _summary(record: Record) -> Summary:
    """Impossible samples have no figures; the attempt is recorded all the same."""
    try:
        return summarise(record)
    except EvidenceError as error:
        return Summary((), {}, None, 0, 0, str(error))


def _verdict(record: Record) -> str:
    """Of a record that was not judged: only that it is wrong can be told."""
    mine = [c for c in record.checks if c.arm == "candidate" and not c.ok]
    if not mine:
        return ""
    return "INVALID" if all(c.status is Status.INVALID for c in mine) else "INCORRECT"


def _reasons(verdict: Mapping[str, Any], summary: Summary) -> tuple[dict[str, str], ...]:
    found = verdict.get("reasons") or ()
    if not found and summary.first_failure:
        return ({"rule": "correct", "text": summary.first_failure},)
    return tuple({k: str(v) for k, v in reason.items() if v} for reason in found)


def _gain(verdict: Mapping[str, Any]) -> Interval | None:
    value, low, high = (verdict.get(key) for key in ("gain", "lower", "upper"))
    if value is None:
        return None
    return (
        _round(value),
        _round(value if low is None else low),
        _round(value if high is None else high),
    )


def _group(row: GroupRow | None) -> dict[str, Any] | None:
    """None too where so few blocks were measured that there is no interval."""
    found = (row.tflops, row.tflops_low, row.tflops_high) if row else ()
    if row is None or not all(map(math.isfinite, found)):
        return None
    ratios = {k: list(map(_round, v)) for k, v in row.ratios.items() if all(map(math.isfinite, v))}
    return {"tflops": list(map(_round, found)), "vs": ratios}


def _row(row: Row) -> dict[str, Any]:
    if row.status != "ok":
        return {"group": row.group, "status": row.status}
    figures = _group(GroupRow(row.tflops, row.tflops_low, row.tflops_high, row.ratios))
    return {"group": row.group, **(figures or {"status": "too few blocks"})}


def _identities(record: Record) -> dict[str, str]:
    found = {"harness": record.harness}
    for arm in record.arms:
        if arm.role in ("candidate", "incumbent"):
            found[arm.role] = arm.identity
        if arm.role == "candidate":
            found["artifact"] = arm.artifact
    for name, value in (("environment", record.environment), ("policy", record.policy)):
        if value:  # of a policy this is `policy.digest`
            text = json.dumps(value, sort_keys=True, separators=(",", ":"))
            found[name] = hashlib.sha256(text.encode()).hexdigest()
    found["nonce"] = record.nonce
    return {key: value for key, value in found.items() if value}


def _cost(record: Record) -> dict[str, float]:
    seconds = sum(r.seconds for r in record.replicates)
    if not seconds:
        return {}
    gpu = {} if record.target == "cpu" else {"gpu_seconds": round(seconds, 1)}
    return {"seconds": round(seconds, 1), **gpu}


def _noise(calibration: Mapping[str, Any]) -> dict[str, Any]:
    values = calibration.get("values") or ()
    if len(values) < 2:
        return {}
    floor = _round(statistics.stdev(values))
    return {
        "floor": floor,
        "created": str(calibration.get("created", "")),
        "processes": len(values),
    }


def _named(record: Record) -> set[str]:
    return {key for key, value in record.environment.items() if value not in (None, "")}


def _short(value: Any) -> Any:
    return value if isinstance(value, (int, float, bool)) else str(value)[:SHORT]


def _round(value: float) -> float:
    return float(f"{value:.6g}")
