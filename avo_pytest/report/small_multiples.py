# SPDX-License-Identifier: MIT
"""A small chart per configuration, on one scale: a geometric mean hides what was traded."""

from __future__ import annotations

from typing import Any

from avo_pytest.entries import Entry, figures
from avo_pytest.lineage import Lineage, Rung, baselines
from avo_pytest.report import svg
from avo_pytest.report.canvas import Layout, canvas
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


def _small(axes: Any, lineage: Lineage, name: str, layout: Layout) -> None:
    xs, ys = [], []
    compared = False
    for rung in lineage.rungs:
        found = figures(_judged(rung).configurations.get(name))
        if found is None or rung.reverted:
            continue
        ratios = [found.ratios[b][0] for b in baselines(_judged(rung)) if b in found.ratios]
        xs.append(rung.version)
        ys.append(min(ratios) if ratios else found.tflops[0] * unit(lineage)[1])
        compared = compared or bool(ratios)
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
