# SPDX-License-Identifier: MIT
"""A small chart per configuration, on one scale: a geometric mean hides what was traded."""

from __future__ import annotations

import math
from typing import Any

from avo_pytest.entries import Entry, figures
from avo_pytest.lineage import Lineage, Rung, baselines
from avo_pytest.report import svg
from avo_pytest.report.canvas import Layout, canvas
from avo_pytest.report.heat_map import gains
from avo_pytest.report.ladder import unit

MAX_SMALL = 24


def small_multiples(lineage: Lineage, layout: Layout, key: str) -> str:
    """A small chart per configuration: ratio to its fastest baseline, else TFLOPS, by version."""
    names = list(dict.fromkeys(n for r in lineage.rungs for n in _judged(r).configurations))
    names = names[:MAX_SMALL]
    if not names:
        return ""
    columns = min(layout.columns, len(names))
    lines = -(-len(names) // columns)
    with canvas(layout, 1.75 * lines + 0.5, "constrained") as figure:
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes, name in zip(grid.flat, names, strict=False):
            _small(axes, lineage, name, layout)
        for axes in grid.flat[len(names) :]:
            axes.set_axis_off()
        grid[0, 0].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        figure.supxlabel("version", fontsize=layout.font)
        return svg.rendered(figure, f"{layout.name[0]}s{key}-")


def _judged(rung: Rung) -> Entry:
    return rung.audit or rung.entry


def levels(lineage: Lineage, name: str) -> tuple[list[int], list[float], bool]:
    """Versions, their level in a configuration, and whether that is a ratio to a baseline.

    A version promoted without baselines beside it stands where its gains over the seed put it,
    counted from the latest version that was compared; where none was, levels are throughputs.
    """
    gain = {version: row.get(name) for version, row in gains(lineage).items()}
    compared: dict[int, float] = {}
    timed: dict[int, float] = {}
    for rung in (r for r in lineage.rungs if not r.reverted):
        if (found := figures(_judged(rung).configurations.get(name))) is None:
            continue
        timed[rung.version] = found.tflops[0] * unit(lineage)[1]
        ratios = [found.ratios[b][0] for b in baselines(_judged(rung)) if b in found.ratios]
        if ratios:
            compared[rung.version] = min(ratios)
    anchors = [v for v in compared if gain.get(v) is not None]
    if not anchors:
        return list(timed), list(timed.values()), False
    anchor = anchors[-1]
    for version in timed.keys() - compared.keys():
        if (own := gain.get(version)) is not None:
            compared[version] = compared[anchor] * math.exp(own - (gain[anchor] or 0.0))
    return sorted(compared), [compared[v] for v in sorted(compared)], True


def _small(axes: Any, lineage: Lineage, name: str, layout: Layout) -> None:
    xs, ys, compared = levels(lineage, name)
    if compared:
        axes.axhline(1.0, color=svg.COLORS["baseline"], linewidth=1)
    axes.grid(axis="y", color=svg.COLORS["grid"], linewidth=0.8)
    axes.step(xs, ys, where="post", color=svg.COLORS["audited"], linewidth=1.8)
    axes.plot(xs[-1:], ys[-1:], marker="o", markersize=4, color=svg.COLORS["audited"])
    if ys:
        last = f"{ys[-1]:.2f}" if compared else f"{ys[-1]:,.1f}"
        axes.annotate(last, (xs[-1], ys[-1]), xytext=(0, 5), ha="right",
                      textcoords="offset points", fontsize="small")  # fmt: skip
    axes.set_title(name, loc="left", fontsize=layout.font)
    axes.tick_params(length=0)
    axes.margins(y=0.18)
