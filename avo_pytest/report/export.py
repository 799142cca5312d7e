# SPDX-License-Identifier: MIT
"""Records and ledgers in the formats of other tools. Pure: values in, text out."""

from __future__ import annotations

import csv
import importlib
import importlib.metadata
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from avo_pytest.entries import Entry, Figures, figures
from avo_pytest.lineage import best_baseline, lineages
from avo_pytest.report.figures import TERA, Unit, throughput
from avo_pytest.report.trace import by_arm, candidate
from avo_pytest.score import Record
from avo_pytest.summary import GroupRow, summarise

LEDGER_COLUMNS = (
    "id", "created", "kind", "kernel", "target", "device", "role", "epoch", "verdict", "version",
    "idea", "author", "commit", "gain", "gain_low", "gain_high", "tflops", "tflops_low",
    "tflops_high", "best_baseline", "ratio", "seconds", "gpu_seconds", "usd", "tokens", "candidate",
    "artifact", "harness", "reason",
)  # fmt: skip
SAMPLE_COLUMNS = ("replicate", "block", "configuration", "turn", "position", "arm", "ms", "host_ms",
                  "key", "repeats", "disturbed")  # fmt: skip


def pytest_benchmark(record: Record) -> str:
    """The JSON of `--benchmark-json`: one benchmark per configuration and arm, in seconds."""
    groups = {c.name: c.group for c in record.configurations}
    summary = {row.configuration: row for row in summarise(record).rows}
    benchmarks = []
    for (configuration, arm), samples in by_arm(record).items():
        extra: dict[str, Any] = {"run": record.run, "arm": arm, "regime": record.regime}
        row = summary.get(configuration)
        if arm == "candidate" and row is not None:
            extra |= {"tflops": row.tflops, "ratios": dict(row.ratios)}
        name = f"{record.kernel}-{record.target}[{configuration}-{arm}]"
        benchmarks.append({
            "group": configuration, "name": name, "fullname": f"{record.kernel}/{name}",
            "params": {"configuration": configuration, "arm": arm, "mask": groups[configuration]},
            "param": f"{configuration}-{arm}", "extra_info": extra, "options": _OPTIONS,
            "stats": _stats([s.ms / 1e3 for s in samples]),
        })  # fmt: skip
    raw = {
        "machine_info": _machine(record), "commit_info": _commit(record), "benchmarks": benchmarks,
        "datetime": record.created, "version": _version("pytest-benchmark"),
    }  # fmt: skip
    return json.dumps(raw, indent=1, sort_keys=True) + "\n"


def github_action_benchmark(record: Record) -> str:
    """The JSON of the tool `customBiggerIsBetter`: throughput per configuration and as geomeans."""
    summary = summarise(record)
    unit = throughput(record, summary)
    named: dict[str, GroupRow] = {
        row.configuration: GroupRow(row.tflops, row.tflops_low, row.tflops_high, row.ratios)
        for row in summary.rows
        if row.status == "ok"
    }
    named |= {f"geomean {name}": row for name, row in summary.groups.items()}
    named |= {"geomean": summary.overall} if summary.overall else {}
    prefix, extra = f"{record.kernel}/{record.target}", f"run {record.run}"
    rows = [_custom(f"{prefix} {name}", Figures((row.tflops, row.tflops_low, row.tflops_high),
                                                row.ratios), unit, extra)
            for name, row in named.items()]  # fmt: skip
    return json.dumps(rows, indent=1) + "\n"


def github_action_benchmark_of(entries: Iterable[Entry]) -> str:
    """The same of what each lineage has on `main`."""
    rows = []
    for lineage in lineages(entries):
        rung = lineage.current
        if rung is None or rung.measured is None:
            continue
        kind = "audited" if rung.audited else "measured at its promotion"
        extra = f"version {rung.version}, {kind}, run {(rung.audit or rung.entry).id}"
        rows.append(_custom(f"{lineage.series} geomean", rung.measured, TERA, extra))
    return json.dumps(rows, indent=1) + "\n"


def samples_csv(record: Record) -> str:
    """Every timed launch, one row each."""
    return _csv(
        SAMPLE_COLUMNS, ({c: getattr(s, c) for c in SAMPLE_COLUMNS} for s in record.samples)
    )


def ledger_csv(entries: Iterable[Entry]) -> str:
    """Every entry, one row each."""
    return _csv(LEDGER_COLUMNS, (_entry_row(entry) for entry in entries))


_OPTIONS = {"disable_gc": False, "timer": "perf_counter", "min_rounds": 1, "max_time": 0.0,
            "min_time": 0.0, "warmup": False}  # fmt: skip


def _stats(seconds: Sequence[float]) -> dict[str, Any]:
    """By the consumer's own class, so that its fields mean what it means by them."""
    stats: Any = importlib.import_module("pytest_benchmark.stats").Stats()
    for value in seconds:
        stats.update(value)
    fields = {name: getattr(stats, name) for name in stats.fields}
    return {**fields, "data": list(seconds), "iterations": 1}


def _machine(record: Record) -> dict[str, Any]:
    environment = record.environment
    return {
        "node": str(environment.get("device", "")), "processor": str(environment.get("device", "")),
        "machine": record.target, "python_version": str(environment.get("python", "")),
        "system": str(environment.get("kernel", "")), "release": str(environment.get("driver", "")),
        "cpu": {"brand_raw": str(environment.get("device", ""))},
    }  # fmt: skip


def _commit(record: Record) -> dict[str, Any]:
    return {"id": candidate(record), "time": record.created, "author_time": record.created,
            "dirty": False, "project": record.kernel, "branch": record.target}  # fmt: skip


def _custom(name: str, found: Figures, unit: Unit, extra: str) -> dict[str, Any]:
    value, low, high = (x * unit.per_tflops for x in found.tflops)
    ratios = ", ".join(f"{r[0]:.3f}x {arm}" for arm, r in found.ratios.items())
    return {"name": name, "unit": unit.name, "value": round(value, 4),
            "range": f"± {max(high - value, value - low):.3g}",
            "extra": f"{extra}\n{ratios}".strip()}  # fmt: skip


def _entry_row(entry: Entry) -> dict[str, Any]:
    found, best = figures(entry.overall), best_baseline(entry)
    gain: Mapping[str, float] = dict(zip(("gain", "gain_low", "gain_high"), entry.gain or (),
                                         strict=False))  # fmt: skip
    tflops = dict(zip(("tflops", "tflops_low", "tflops_high"), found.tflops if found else (),
                      strict=False))  # fmt: skip
    plain = {
        c: getattr(entry, c) for c in LEDGER_COLUMNS if c not in ("gain",) and hasattr(entry, c)
    }
    reasons = "; ".join(f"{r.get('rule', '')}: {r.get('text', '')}" for r in entry.reasons)
    return {
        **plain, **gain, **tflops, **entry.cost, **entry.identities, "reason": reasons,
        "best_baseline": best[0] if best else "", "ratio": best[1] if best else "",
    }  # fmt: skip


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A proposer's text must not become a formula of the reader's spreadsheet."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def _version(package: str) -> str:
    return importlib.metadata.version(package)
