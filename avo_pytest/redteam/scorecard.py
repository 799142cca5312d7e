# SPDX-License-Identifier: MIT
"""What a run of the red team found: by family, as text or JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from avo_pytest.redteam.runner import Result

_HEAD = ("family", "attacks", "caught", "missed", "compiled", "twins", "accepted", "refused", "s")


def families(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Counts by family. Honest controls count among the twins."""
    table: dict[str, dict[str, float]] = {}
    for result in results:
        row = table.setdefault(result.case.family, dict.fromkeys(_HEAD[1:], 0))
        row["s"] += result.seconds
        for kind, judgement in (("attacks", result.judgement), ("twins", result.twin)):
            if not judgement:
                continue
            kind = "twins" if result.case.honest else kind
            row[kind] += 1
            if judgement == "compiled":
                row["compiled"] += 1
            else:
                row[judgement] += 1
    return table


def as_json(results: Sequence[Result], place: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for scripts."""
    cases = [
        {
            "name": r.case.name,
            "family": r.case.family,
            "target": r.case.target,
            "catalogue": list(r.case.catalogue),
            "by": r.case.by,
            "per_launch": r.case.per_launch,
            "per_run": r.case.per_run,
            "judgement": r.judgement,
            "outcome": asdict(r.outcome),
            "twin": r.twin,
            "twin_outcome": asdict(r.twin_outcome) if r.twin_outcome else None,
            "seconds": round(r.seconds, 2),
        }
        for r in results
    ]
    return {**place, "families": families(results), "good": good(results), "cases": cases}


def as_text(results: Sequence[Result]) -> Iterator[str]:
    """The scorecard, what went wrong, and one line at the end."""
    rows = families(results)
    width = max(len(name) for name in (*rows, _HEAD[0]))
    yield f"{_HEAD[0]:<{width}}" + "".join(f"{name:>10}" for name in _HEAD[1:])
    for name in sorted(rows):
        yield f"{name:<{width}}" + "".join(f"{rows[name][key]:>10.0f}" for key in _HEAD[1:])
    for result in results:
        if not result.good:
            yield from _complaint(result)
    total = {key: sum(row[key] for row in rows.values()) for key in _HEAD[1:]}
    yield (
        f"AVO redteam: attacks {total['attacks']:.0f}, caught {total['caught']:.0f}, "
        f"missed {total['missed']:.0f}, compiled only {total['compiled']:.0f} · "
        f"honest {total['twins']:.0f}, accepted {total['accepted']:.0f}, "
        f"refused {total['refused']:.0f} · {total['s']:.0f} s"
    )


def good(results: Sequence[Result]) -> bool:
    """No attack was missed, no honest kernel refused."""
    return all(result.good for result in results)


def _complaint(result: Result) -> Iterator[str]:
    case, outcome = result.case, result.outcome
    if result.judgement in ("missed", "refused"):
        yield f"{result.judgement.upper()} {case.name} ({case.family}, {', '.join(case.catalogue)})"
        wanted = case.status + (f" with /{case.reason}/" if case.reason else "")
        yield f"    wanted: {wanted} {case.phase}"
        speed = f", {outcome.speed:.2f} times the twin's speed" if outcome.speed else ""
        yield f"    came:   {outcome.status} in {outcome.phase}{speed} {outcome.reason[:400]}"
    if result.twin == "refused" and result.twin_outcome is not None:
        twin = result.twin_outcome
        yield f"REFUSED the honest twin of {case.name} ({case.family})"
        yield f"    came:   {twin.status} in {twin.phase}: {twin.reason[:400]}"
