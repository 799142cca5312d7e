# SPDX-License-Identifier: MIT
"""The page: one file without a network, drawn as static SVG; a small script only moves and hides.

Figures come from matplotlib as SVG, so the page says the same without a script, and nothing has to
be vendored; `page.js` switches units, looks up attempts and answers pointer and keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources

from avo_pytest.lineage import Lineage, best_baseline, over_incumbent
from avo_pytest.report import charts, page_data, page_tables, small_multiples
from avo_pytest.report.badge import of
from avo_pytest.report.canvas import NARROW, WIDE, Layout
from avo_pytest.report.heat_map import heat_map
from avo_pytest.report.ladder import unit
from avo_pytest.report.plot import VERDICTS, Plot, plot

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
GLYPHS = {
    "REJECT": '<path d="M2 3h8l-4 7z"/>', "INCONCLUSIVE": '<path d="M6 1l5 5-5 5-5-5z"/>',
    "PROMOTE": '<circle cx="6" cy="6" r="5"/>', "NO-CHANGE": '<path d="M5 1h2v10h-2z"/>',
    "INVALID": '<path d="M2 2h8v8h-8z"/>',
    "INCORRECT": '<path d="M2 3.4l1.4-1.4 2.6 2.6 2.6-2.6 1.4 1.4-2.6 2.6 2.6 2.6-1.4 1.4-2.6-2.6'
    '-2.6 2.6-1.4-1.4 2.6-2.6z"/>',
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the ledger does not hold. `diffs` by landing commit; `commit_url` ends before a SHA."""

    title: str
    ledger: str = ""
    commit_url: str = ""
    diffs: Mapping[str, str] = field(default_factory=dict)


def page(lineages: Sequence[Lineage], around: Surroundings) -> str:
    """The whole document."""
    assets = resources.files("avo_pytest") / "report"
    style, script = ((assets / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    sections = "".join(_section(lineage, number, around) for number, lineage in enumerate(lineages))
    nothing = "<p>The ledger is empty: nothing has been judged yet.</p>"
    title = escape(around.title)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>Lineage of {title}</title><link rel="icon" href="data:,"><style>{style}</style></head>
<body><a class="skip" href="#main">Skip to the charts</a>
<header><h1>{title}</h1>{_contents(lineages)}
<button id="theme" type="button" hidden>Theme: system</button></header>
<main id="main">{sections or nothing}</main>
<footer><p>Drawn from the ledger{f" at {escape(around.ledger)}" if around.ledger else ""} by
<code>avo page</code>. Gains are measured side by side in one process; levels of different days are
comparable through audits only.</p></footer>
<script>{script}</script></body></html>
"""


def _contents(lineages: Sequence[Lineage]) -> str:
    if len(lineages) < 2:
        return ""
    links = "".join(
        f'<li><a href="#s{n}">{escape(str(x.series))}</a></li>' for n, x in enumerate(lineages)
    )
    return f'<nav aria-label="Lineages"><ul>{links}</ul></nav>'


def _section(lineage: Lineage, number: int, around: Surroundings) -> str:
    found = plot(lineage)
    stacks = "".join(_stack(found, layout, number) for layout in (WIDE, NARROW))
    small = "".join(
        f'<div class="{layout.name}">{drawn}</div>'
        for layout in (WIDE, NARROW)
        if (drawn := small_multiples.small_multiples(lineage, layout, str(number)))
    )
    name = escape(str(lineage.series))
    return f"""<section class="series" id="s{number}" aria-labelledby="h{number}">
<h2 id="h{number}">{name}</h2>{_tiles(lineage)}
<figure class="chart"><div class="controls" hidden>{_choice(found, number, "y")}\
{_choice(found, number, "x")}</div>
{stacks}{_legend(found)}
<div class="tip" role="status" aria-live="polite" hidden></div>
<figcaption>Each mark is a judged candidate: at the level of its incumbent times its own gain, or,
without a score, in the lanes below. <span class="keys" hidden>Point at one, or focus the chart and
use the arrow keys; Enter explains it.</span></figcaption></figure>
{_small(lineage, small)}{heat_map(lineage)}
{page_tables.versions(lineage, around.diffs, around.commit_url)}
{page_tables.rejections(lineage)}{page_tables.notes(lineage)}{page_tables.calibration(lineage)}
<script type="application/json" class="data">{page_data.as_json(found)}</script></section>
"""


def _tiles(lineage: Lineage) -> str:
    badges = of(lineage)
    rung = lineage.current
    measured = rung.measured if rung else None
    tiles = []
    if rung is not None and measured is not None:
        name, factor = unit(lineage)
        kind = "audited" if rung.audited else "at its promotion, not audited"
        tiles.append(
            (f"{measured.tflops[0] * factor:,.1f} {name}", f"version {rung.version}, {kind}")
        )
        best = best_baseline(rung.audit or rung.entry)
        if best:
            tiles.append((f"{best[1]:.2f}x", f"of {best[0]}, the best baseline"))
        gain = over_incumbent(rung.audit, measured) if rung.audit else rung.chain
        if gain is not None and rung.version:  # side by side: throughputs are of different days
            said = "since the seed" if rung.audit else "since the seed, as claimed"
            tiles.append((_times(math.exp(gain)), said))
    else:
        tiles.append(("none", "version so far"))
    count = len(lineage.attempts)
    tiles.append((f"{count:,}", "attempts" if count != 1 else "attempt"))
    tiles.append((badges["noise"].message, "noise floor"))
    cells = "".join(f"<div><dd>{escape(a)}</dd><dt>{escape(b)}</dt></div>" for a, b in tiles)
    return f'<dl class="tiles">{cells}</dl>'


def _times(ratio: float) -> str:
    """Percent, or a factor where percents are no longer read."""
    return f"{100 * (ratio - 1):+.0f} %" if ratio < 2 else f"{ratio:.1f}x"


def _choice(found: Plot, number: int, axis: str) -> str:
    axes = found.ys if axis == "y" else found.xs
    legend = "Up" if axis == "y" else "Across"
    radios = "".join(
        f'<label><input type="radio" name="{axis}{number}" value="{a.key}"'
        f"{' checked' if a is axes[0] else ''}><span>{escape(a.name)}</span></label>"
        for a in axes
    )
    return f"<fieldset><legend>{legend}</legend>{radios}</fieldset>"


def _stack(found: Plot, layout: Layout, number: int) -> str:
    first = (found.xs[0], found.ys[0])
    frames = "".join(
        f'<div class="frame" data-x="{x.key}" data-y="{y.key}"'
        f"{'' if (x, y) == first else ' hidden'}>"
        f"{charts.frame(found, layout, x, y, f'{number}{x.key[0]}{y.key[0]}')}</div>"
        for x in found.xs
        for y in found.ys
    )
    what = f"{found.ys[0].label} over {found.xs[0].label}: {len(found.points)} versions of "
    label = f"{what}{len(found.dots)} attempts; the table below has the figures"
    return (
        f'<div class="stack {layout.name}" role="group" aria-roledescription="chart" '
        f'aria-label="{escape(label)}"><div class="dots">'
        f"{charts.dots(found, layout, str(number))}</div>{frames}</div>"
    )


def _legend(found: Plot) -> str:
    counts = {v: sum(d.verdict == v for d in found.dots) for v in VERDICTS}
    marks = "".join(
        f'<label style="--mark:var(--{v})">{_box(v)}'
        f'<svg viewBox="0 0 12 12" aria-hidden="true">{GLYPHS[v]}</svg>{v} {count:,}</label>'
        for v, count in counts.items()
        if count
    )
    baseline = '<span><i class="line baseline"></i>baseline, measured in the same runs</span>'
    compared = any(arms for point in found.points for arms in point.baselines.values())
    return f"""<div class="legend">{marks}
<span><i class="line audited"></i>version, filled where audited, with 95 % interval</span>
<span><i class="line chain"></i>product of claimed gains</span>
{baseline if compared else ""}</div>"""


def _box(verdict: str) -> str:
    """Versions stay: the line is theirs."""
    return (
        "" if verdict == "PROMOTE" else f'<input type="checkbox" value="{verdict}" checked hidden>'
    )


def _small(lineage: Lineage, drawn: str) -> str:
    if not drawn:
        return ""
    what = "ratio to its fastest baseline" if any(
        best_baseline(r.audit or r.entry) for r in lineage.rungs) else unit(lineage)[0]  # fmt: skip
    return f"<h3>Each configuration, {what}</h3><figure class='small'>{drawn}</figure>"
