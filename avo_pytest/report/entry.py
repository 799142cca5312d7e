# SPDX-License-Identifier: MIT
"""One entry of the ledger as text, and two versions side by side."""

from __future__ import annotations

from collections.abc import Iterator

from avo_pytest.entries import Entry, Figures, figures
from avo_pytest.lineage import Lineage, Rung, difference
from avo_pytest.report.ladder import cost_text, percent

LABEL = 15


def show(entry: Entry) -> str:
    """Everything that an entry says, the verdict first."""
    facts = {
        "idea": entry.idea,
        "author": entry.author,
        "verdict": entry.verdict,
        "version": "" if entry.version is None else str(entry.version),
        "gain": percent(entry.gain) if entry.gain else "",
        "commit": entry.commit,
        "judged on": f"{entry.device}, role {entry.role}" if entry.device else entry.role,
        "run": _joined(entry.mode, entry.set, entry.regime, entry.isolation),
        "replicates": str(entry.replicates or ""),
        **{f"{key} id": value[:16] for key, value in entry.identities.items()},
        **{key: str(value) for key, value in entry.environment.items()},
        **{key: f"{value:g}" for key, value in entry.cost.items()},
        "raw samples": _raw(entry),
    }
    lines = [f"{entry.kernel}/{entry.target} {entry.kind} {entry.id} of {entry.created}"]
    lines += [f"  {key:<{LABEL}} {text}" for key, text in facts.items() if text]
    lines += [f"  {line}" for reason in entry.reasons for line in _reason(dict(reason))]
    lines += ["", *_figures(entry)] if entry.overall or entry.configurations else []
    return "\n".join(lines) + "\n"


def compare(lineage: Lineage, a: Rung, b: Rung) -> str:
    """What changed between two versions, and where it was won or lost."""
    lines = [f"{lineage.series}: version {a.version} to version {b.version}"]
    lines += [f"  {r.version:>4}  {r.entry.idea or 'seed'}" for r in (a, b)]
    lines.append(f"claimed in between: {percent((b.chain - a.chain,) * 3).split(' [')[0]}")
    spent = lineage.spent()
    between = [x for r in lineage.rungs if a.version < r.version <= b.version
               for x in spent[r.entry.id]]  # fmt: skip
    lines.append(f"attempts: {len(between)}  {cost_text(between)}".rstrip())
    first, second = (r.audit or r.entry for r in (a, b))
    for key in difference(first.environment, second.environment):
        lines.append(f"{key}: {first.environment.get(key)} to {second.environment.get(key)}")
    if first.epoch != second.epoch:
        lines.append("different epochs: the figures below are not comparable")
    lines += ["", *_table(first, second)]
    return "\n".join(lines) + "\n"


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


def _raw(entry: Entry) -> str:
    if not entry.raw:
        return ""
    kept = entry.raw.get("stored") or "not kept"
    return f"{kept}, {entry.raw.get('bytes')} bytes, sha256 {entry.raw.get('sha256')}"


def _reason(reason: dict[str, str]) -> Iterator[str]:
    yield f"{reason.get('rule', 'reason')}: {reason.get('text', '')}"
    if reason.get("advice"):
        yield f"{'':<4}next: {reason['advice']}"


def _figures(entry: Entry) -> Iterator[str]:
    yield f"{'configuration':<32} {'TFLOPS':>10}  ratios"
    rows = {**entry.configurations, **entry.groups, "geomean": entry.overall}
    for name, raw in rows.items():
        found = figures(raw)
        if found is None:
            yield f"{name:<32} {str((raw or {}).get('status', '')):>10}"
            continue
        ratios = "  ".join(f"{r[0]:.3f}x {arm}" for arm, r in found.ratios.items())
        yield f"{name:<32} {found.tflops[0]:>10.4g}  {ratios}"


def _table(a: Entry, b: Entry) -> Iterator[str]:
    yield f"{'configuration':<32} {'TFLOPS':>10} {'TFLOPS':>10} {'change':>9}"
    for name in dict.fromkeys([*a.configurations, *b.configurations, *a.groups, "geomean"]):
        first, second = (_figure(entry, name) for entry in (a, b))
        if first is None and second is None:
            continue
        left, right = (f"{f.tflops[0]:.4g}" if f else "" for f in (first, second))
        both = first is not None and second is not None
        change = f"{100 * (second.tflops[0] / first.tflops[0] - 1):+.2f} %" if both else ""  # type: ignore[union-attr]
        yield f"{name:<32} {left:>10} {right:>10} {change:>9}"


def _figure(entry: Entry, name: str) -> Figures | None:
    if name == "geomean":
        return figures(entry.overall)
    return figures(entry.configurations.get(name) or entry.groups.get(name))
