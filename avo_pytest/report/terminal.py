# SPDX-License-Identifier: MIT
"""A record as text for people: header, a row a configuration, geometric means, what to do next."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from avo_pytest.report import compiled
from avo_pytest.report.advice import advice
from avo_pytest.report.figures import Unit, arm_order, ratio, spread, throughput
from avo_pytest.report.outcome import describe, first_failure, interrupted, one_line
from avo_pytest.report.verdict import INDENT, verdict_lines
from avo_pytest.score import ArmRecord, Check, Record
from avo_pytest.summary import GroupRow, Row, Summary

UNLIMITED = 10_000
MAX_FAILURES, MAX_LOG = 10, 30
SHORT, LABEL = 24, 11
SUBSET = "SUBSET: not the whole set, so no geometric mean and never promotable"
STOPPED = "INTERRUPTED: what was timed before, so no geometric mean and never promotable"
UNSEEN = "INTERRUPTED: no figures, for a confirm is not looked at before its end"


def scoreboard(
    record: Record,
    summary: Summary,
    *,
    width: int | None = None,
    color: bool = False,
    saved: Path | None = None,
    candidate: str | None = None,
) -> str:
    """Everything but the last line. `width` None means that lines may be as long as they need;
    `candidate` is what was given as --avo-candidate."""
    columns = width or UNLIMITED
    if interrupted(record):
        summary = replace(summary, groups={}, overall=None)
    steps = advice(record, summary, saved, candidate)
    blocks = [
        _header(record, columns),
        _wrap(SUBSET, columns) if record.subset else "",
        _wrap(UNSEEN if _unseen(record) else STOPPED, columns) if interrupted(record) else "",
        _failures(record, columns),
        _figures(record, summary, columns, color),
        _remarks(record, columns),
        "\n".join(_wrap(line, columns, " " * INDENT) for line in verdict_lines(record)),
        "\n".join(_wrap(f"- {step}", columns, "  ") for step in steps),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _header(record: Record, columns: int) -> str:
    title = f"AVO {record.kernel}/{record.target} · {record.mode} · set {record.set}"
    facts = {key: _fact(value) for key, value in record.environment.items()}
    device = facts.pop("device", "")
    why = facts.pop("isolation_reason", "")
    facts.pop("isolation", None)
    short = [f"{key} {text}" for key, text in facts.items() if 0 < len(text) <= SHORT]
    isolation = f"isolation {record.isolation}"
    isolation += f" ({why})" if why and record.isolation == "none" else ""
    ran = [isolation] if record.environment else []  # else no worker, nothing to isolate
    run = [f"regime {record.regime}", *ran, f"seed {record.seed}"]
    lines = {"device": device, "machine": _parts(short), "run": _parts(run)}
    lines |= {key: text for key, text in facts.items() if len(text) > SHORT}
    indent = " " * LABEL if columns > 4 * LABEL else "  "
    return "\n".join(
        [_wrap(f"{title} · run {record.run}", columns, "  ")]
        + [
            _wrap(f"{key.replace('_', ' '):<{LABEL - 1}} {text}", columns, indent)
            for key, text in lines.items()
            if text
        ]
    )


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return " · ".join(f"{key} {_fact(part)}" for key, part in value.items() if _fact(part))
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(part) for part in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def _failures(record: Record, columns: int) -> str:
    """Each reason once; a compiler's output as it came."""
    alike: dict[tuple[str, str], list[Check]] = {}
    for check in record.checks:
        if not check.ok:
            alike.setdefault((check.status.value, check.reason), []).append(check)
    lines = []
    for (status, reason), checks in list(alike.items())[:MAX_FAILURES]:
        more = f" (and {len(checks) - 1} more)" if len(checks) > 1 else ""
        log = [line for line in reason.splitlines() if line.strip()][:MAX_LOG]
        shown = f"{checks[0].configuration}:" if len(log) > 1 else describe(checks[0])
        lines.append(_wrap(f"{status:<12} {shown}{more}", columns, "  "))
        lines += [f"  {line}" for line in log if len(log) > 1]
    if len(alike) > MAX_FAILURES:
        lines.append(f"... and {len(alike) - MAX_FAILURES} more reasons")
    return "\n".join(lines)


def _figures(record: Record, summary: Summary, columns: int, color: bool) -> str:
    timed = [row for row in summary.rows if row.status == "ok"]
    if not timed or first_failure(record) is not None or _unseen(record):
        return ""
    unit, arms = throughput(record, summary), arm_order(record)
    table = _table(timed, summary, unit, arms)
    console = Console(
        file=io.StringIO(),
        width=UNLIMITED,
        color_system="standard" if color else None,
        force_terminal=color,
        highlight=False,
        legacy_windows=False,
    )
    if console.measure(table).maximum > columns:
        return _stacked(timed, summary, unit, arms, columns)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())


def _unseen(record: Record) -> bool:
    """Whether it is a confirm that can still go on."""
    return interrupted(record) and record.mode == "confirm"


def _table(rows: list[Row], summary: Summary, unit: Unit, arms: list[ArmRecord]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("configuration", no_wrap=True)
    for title in (unit.name, *(f"vs {arm.name}" for arm in arms), "error/limit", "ceiling"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.configuration, *_cells(row, unit, arms))
    if summary.groups:
        table.add_row()
    for group, mean in summary.groups.items():
        table.add_row(f"geomean {group}".strip(), *_means(mean, unit, arms))
    if summary.overall is not None and len(summary.groups) != 1:
        table.add_row("geomean", *_means(summary.overall, unit, arms), style="bold")
    return table


def _cells(row: Row, unit: Unit, arms: list[ArmRecord]) -> list[Text]:
    ceiling = "" if row.ceiling_percent is None else f"{row.ceiling_percent:.0f}%"
    return [*_means(row, unit, arms), Text(row.error), Text(ceiling)]


def _means(row: Row | GroupRow, unit: Unit, arms: list[ArmRecord]) -> list[Text]:
    figure = f"{unit.figure(row.tflops)} {spread(row.tflops, row.tflops_low, row.tflops_high)}"
    return [Text(figure.rstrip()), *(_ratio_cell(row, arm) for arm in arms)]


def _ratio_cell(row: Row | GroupRow, arm: ArmRecord) -> Text:
    found = row.ratios.get(arm.name)
    if found is None:
        return Text("-")
    text = ratio(found, 3 if arm.role == "incumbent" else 2)
    return Text(text, style="red" if found[2] < 1 else "green" if found[1] > 1 else "")


def _stacked(
    rows: list[Row], summary: Summary, unit: Unit, arms: list[ArmRecord], columns: int
) -> str:
    """The same rows below each other, for a narrow terminal."""
    entries: list[tuple[str, Row | GroupRow]] = [(row.configuration, row) for row in rows]
    if len(summary.groups) > 1:
        entries += [(f"geomean {name}".strip(), row) for name, row in summary.groups.items()]
    if summary.overall is not None:
        entries.append(("geomean", summary.overall))
    return "\n".join(_stack(name, row, unit, arms, columns) for name, row in entries)


def _stack(name: str, row: Row | GroupRow, unit: Unit, arms: list[ArmRecord], columns: int) -> str:
    interval = spread(row.tflops, row.tflops_low, row.tflops_high)
    parts = [f"{unit.text(row.tflops)} {interval}".rstrip()]
    parts += [
        f"{ratio(row.ratios[arm.name], 3 if arm.role == 'incumbent' else 2)} {arm.name}"
        for arm in arms
        if arm.name in row.ratios
    ]
    if isinstance(row, Row):
        parts += [f"error {row.error}"] if row.error else []
        parts += [] if row.ceiling_percent is None else [f"{row.ceiling_percent:.0f}% of ceiling"]
    return _wrap(name, columns, "  ") + "\n" + _wrap("  " + _parts(parts), columns, "  ")


def _remarks(record: Record, columns: int) -> str:
    lines = [f"not compared with {name}: {one_line(why)}" for name, why in record.absent.items()]
    lines += [f"note: {one_line(note)}" for note in record.notes]
    lines += [f"compiler: {remark}" for remark in compiled.remarks(record)]
    return "\n".join(_wrap(line, columns, "  ") for line in lines)


def _parts(parts: list[str]) -> str:
    """Joined so that `_wrap` breaks between parts only where it can."""
    return " · ".join(part.replace(" ", "\xa0") for part in parts)


def _wrap(text: str, columns: int, indent: str = "") -> str:
    lines = textwrap.fill(text, columns, subsequent_indent=indent, break_on_hyphens=False)
    return lines.replace("\xa0", " ")
