# SPDX-License-Identifier: MIT
"""Versions × configurations: what each configuration has won over the seed, version by version.

A table, so that it reads without colours and without a script; blue and orange are told apart by
everybody, and the sign is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from avo_pytest.entries import Entry, Figures, figures
from avo_pytest.lineage import Lineage, Rung, over_incumbent

STEPS = 6  # of colour to each side
MAX_CONFIGURATIONS, MAX_VERSIONS = 32, 60

Gains = dict[str, float]  # configuration → log ratio over the seed


def heat_map(lineage: Lineage) -> str:
    """The table, newest version last; empty where there is nothing to compare."""
    found = gains(lineage)
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    names, versions = names[:MAX_CONFIGURATIONS], list(found)[-MAX_VERSIONS:]
    if len(found) < 2 or not names:
        return ""
    most = max((abs(found[v][n]) for v in versions for n in names if n in found[v]), default=0.0)
    heads = "".join(f'<th scope="col">{v}</th>' for v in versions)
    body = "".join(_row(name, versions, found, most) for name in names)
    left = _left_out(len(found) - len(versions), lineage, names)
    return f"""<h3>Gain of each configuration over the seed, in percent</h3>
<div class="scroll" tabindex="0" role="region" aria-label="Gain of each configuration by version">
<table class="heat"><thead><tr><th scope="col">version</th>{heads}</tr></thead>
<tbody>{body}</tbody></table></div>
<p class="hint">Blue is faster than the seed, orange slower, on a square-root scale up to
{_percent(most)}. As audited where a version was, else the product of what its promotions measured
side by side.{left}</p>"""


def gains(lineage: Lineage) -> dict[int, Gains]:
    """By version: as its audit found against the seed, else the version before times its own."""
    standing = [r for r in lineage.rungs if not r.reverted]
    found: dict[int, Gains] = {}
    before: Gains = {}
    for rung in standing:
        before = {
            name: gain
            for name in (rung.audit or rung.entry).configurations
            if (gain := _gain(name, rung, standing[0], before)) is not None
        }
        found[rung.version] = before
    return found


def _gain(name: str, rung: Rung, seed: Rung, before: Mapping[str, float]) -> float | None:
    if rung is seed:
        return 0.0 if _figures(name, rung.entry) else None
    if rung.audit and (own := over_incumbent(rung.audit, _figures(name, rung.audit))) is not None:
        return own
    own = over_incumbent(rung.entry, _figures(name, rung.entry))
    if name in before and own is not None:
        return before[name] + own
    mine, first = _figures(name, rung.audit or rung.entry), _figures(name, seed.entry)
    if mine is None or first is None:
        return None
    return math.log(mine.tflops[0] / first.tflops[0])


def _figures(name: str, entry: Entry) -> Figures | None:
    found = figures(entry.configurations.get(name))
    return found if found and found.tflops[0] > 0 else None


def _row(name: str, versions: Sequence[int], found: Mapping[int, Gains], most: float) -> str:
    cells = "".join(_cell(name, v, found[v].get(name), most) for v in versions)
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'


def _cell(name: str, version: int, gain: float | None, most: float) -> str:
    if gain is None:
        return '<td title="not measured">·</td>'
    step = math.ceil(STEPS * math.sqrt(abs(gain) / most)) if most else 0
    kind = f' class="{"up" if gain > 0 else "down"}{step}"' if step else ""
    title = escape(f"version {version}, {name}: {_percent(gain)} over the seed")
    return f'<td{kind} title="{title}">{100 * math.expm1(gain):+.0f}</td>'


def _percent(gain: float) -> str:
    return f"{100 * math.expm1(gain):+.2f} %"


def _left_out(versions: int, lineage: Lineage, names: Sequence[str]) -> str:
    """What there was no room for."""
    known = {n for r in lineage.rungs for n in (r.audit or r.entry).configurations}
    said = [f" {versions} earlier versions are left out."] if versions else []
    if more := len(known) - len(names):
        said.append(f" {more} configurations are left out.")
    return "".join(said)
