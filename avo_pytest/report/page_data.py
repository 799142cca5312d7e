# SPDX-License-Identifier: MIT
"""What the page's script needs: every attempt's place in every unit, and what to say about it."""

from __future__ import annotations

import json
import math
from typing import Any

from avo_pytest.report.canvas import NARROW, WIDE, rectangle
from avo_pytest.report.plot import VERDICTS, Dot, Plot

STEPS = 9999  # places along an axis: finer than any screen
MAX_REASONS = 3000


def as_json(plot: Plot) -> str:
    """JSON that cannot end its script element. One array a column; texts are said once."""
    strings: dict[str, int] = {"": 0}
    said = len(plot.dots) - MAX_REASONS
    raw: dict[str, Any] = {
        "steps": STEPS,
        "verdicts": VERDICTS,
        "verdict": [VERDICTS.index(d.verdict) for d in plot.dots],
        "id": [d.attempt.entry.id for d in plot.dots],
        "gain": [_percent(d) for d in plot.dots],
        "version": {i: d.attempt.entry.version for i, d in enumerate(plot.dots)
                    if d.attempt.entry.version is not None},
        "idea": [_index(strings, d.attempt.entry.idea) for d in plot.dots],
        "author": [_index(strings, d.attempt.entry.author) for d in plot.dots],
        "why": [_index(strings, _why(d)) if i >= said else 0 for i, d in enumerate(plot.dots)],
        "x": {a.key: [round(STEPS * a.share(d.at[a.key])) for d in plot.dots] for a in plot.xs},
        "y": {a.key: [_height(a.share(d.value[a.key])) if d.value else -1 for d in plot.dots]
              for a in plot.ys},
        "main": {layout.name: rectangle(layout, layout.main) for layout in (WIDE, NARROW)},
    }  # fmt: skip
    raw["strings"] = list(strings)
    return json.dumps(raw, separators=(",", ":")).replace("<", "\\u003c")


def _height(share: float) -> int:
    return round(STEPS * share)


def _percent(dot: Dot) -> float | None:
    gain = dot.attempt.entry.gain
    return None if gain is None else round(100 * math.expm1(gain[0]), 2)


def _why(dot: Dot) -> str:
    """Reasons, one a line, with the advice of each."""
    lines = []
    for reason in dot.attempt.entry.reasons:
        text = f"{reason.get('rule', '')}: {reason.get('text', '')}"
        lines.append(text + (f" Next: {reason['advice']}." if reason.get("advice") else ""))
    return "\n".join(lines)


def _index(strings: dict[str, int], text: str) -> int:
    return strings.setdefault(text, len(strings))
