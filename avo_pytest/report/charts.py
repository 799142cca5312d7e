# SPDX-License-Identifier: MIT
"""The page's charts, drawn by matplotlib as SVG whose colours are the page's.

The main chart is a stack of layers of one size: the attempts, and per choice of axes a frame with
versions, baselines and ticks. Without a script the first frame shows; the script moves the dots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avo_pytest.report import svg
from avo_pytest.report.canvas import WIDE, Layout, canvas
from avo_pytest.report.plot import LANES, VERDICTS, Axis, Plot, Point

MARKERS = {
    "REJECT": ("v", 3.6), "INCONCLUSIVE": ("D", 3.4), "PROMOTE": ("o", 5.5),
    "NO-CHANGE": ("|", 5.0), "INVALID": ("s", 3.4), "INCORRECT": ("x", 4.4),
}  # fmt: skip
MANY = 100  # attempts; fewer have room for larger marks
LINE = 0.045  # of the height, that a line of text takes
BREAK_WIDTH = 0.4  # of the width, that the label of a break takes where there is least room
BREAK_LINES = 4
LABELLED = 12  # versions that have room for their numbers


def dots(plot: Plot, layout: Layout, key: str) -> str:
    """The layer of all attempts, on the first axes. `key` is the figure's own on the page."""
    x, y = plot.xs[0], plot.ys[0]
    with canvas(layout, layout.height) as figure:
        main, strip = _axes(figure, layout, x, y)
        for axes in (main, strip):
            axes.set_axis_off()
        for verdict in VERDICTS:
            axes = strip if verdict in LANES else main
            mine = [d for d in plot.dots if d.verdict == verdict]
            if not mine:
                continue
            xs = [min(max(d.at[x.key], x.low), x.high) for d in mine]
            ys = [
                float(LANES.index(verdict)) if verdict in LANES
                else y.low + y.share(d.value[y.key]) * (y.high - y.low)
                for d in mine
            ]  # fmt: skip
            marker, size = MARKERS[verdict]
            size *= 1.0 if len(plot.dots) > MANY else 1.6
            color = svg.COLORS[verdict]
            axes.plot(
                xs, ys, linestyle="", marker=marker, markersize=size, color=color,
                markeredgecolor=color, markeredgewidth=1.1 if marker in "x|" else 0.0,
                gid=f"dots-{verdict}",
            )  # fmt: skip
        return svg.rendered(figure, f"{layout.name[0]}d{key}")


def frame(plot: Plot, layout: Layout, x: Axis, y: Axis, key: str) -> str:
    """Versions, baselines, breaks and axes of one choice of units."""
    with canvas(layout, layout.height) as figure:
        main, strip = _axes(figure, layout, x, y)
        main.grid(axis="y", color=svg.COLORS["grid"], linewidth=0.8)
        main.tick_params(labelbottom=False, length=0)
        strip.tick_params(length=0)
        strip.set_yticks(range(len(LANES)), [lane.lower() for lane in LANES])
        strip.set_xlabel(x.label)
        if x.key == "attempt":
            strip.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        main.set_ylabel(y.label)
        _breaks(main, plot.points, x)
        _baselines(main, plot.points, x, y, layout)
        _versions(main, plot.points, x, y)
        _numbers(main, plot.points, x, y)
        return svg.rendered(figure, f"{layout.name[0]}f{key}-")


def _axes(figure: Any, layout: Layout, x: Axis, y: Axis) -> tuple[Any, Any]:
    main, strip = figure.add_axes(layout.main), figure.add_axes(layout.strip)
    for axes in (main, strip):
        axes.set_xlim(x.low, x.high)
    main.set_ylim(y.low, y.high)
    strip.set_ylim(-0.7, len(LANES) - 0.3)
    return main, strip


def _versions(axes: Any, points: Sequence[Point], x: Axis, y: Axis) -> None:
    """Step line, its interval as a band, and the claimed chain as a thin dashed second line."""
    kept = [p for p in points if not p.rung.reverted]
    color = svg.COLORS["audited"]
    for run in _runs(kept, x):
        xs = [place for place, _ in run]
        values = [p.value[y.key] for _, p in run]
        low, high = [v[1] for v in values], [v[2] for v in values]
        axes.fill_between(xs, low, high, step="post", color=color, alpha=0.25, linewidth=0)
        axes.step(xs, [v[0] for v in values], where="post", color=color, linewidth=2.2)
        chain = [p.chain[y.key] for _, p in run]
        axes.step(xs, chain, where="post", color=svg.COLORS["ink"], linewidth=0.9,
                  linestyle=(0, (4, 3)))  # fmt: skip
    color = svg.COLORS["PROMOTE"]
    for audited in (True, False):
        mine = [p for p in points if p.rung.audited is audited]
        axes.plot(
            [p.at[x.key] for p in mine], [p.value[y.key][0] for p in mine], linestyle="",
            marker="o", markersize=6.5, markeredgecolor=color, markeredgewidth=1.5,
            color=color if audited else svg.COLORS["paper"],
        )  # fmt: skip


def _numbers(axes: Any, points: Sequence[Point], x: Axis, y: Axis) -> None:
    """Of the versions, where they have room: left above, where their own line does not go."""
    for point in points if len(points) <= LABELLED else ():
        first = point is points[0]
        axes.annotate(
            f"v{point.rung.version}", (point.at[x.key], point.value[y.key][0]),
            xytext=(0, 7) if first else (-5, 5), textcoords="offset points", fontsize="small",
            ha="center" if first else "right", color=svg.COLORS["ink"],
        )  # fmt: skip


def _runs(points: Sequence[Point], x: Axis) -> list[list[tuple[float, Point]]]:
    """Points that may be joined; each run reaches to where the next begins."""
    runs: list[list[tuple[float, Point]]] = []
    for point in points:
        place = point.at[x.key]
        if runs and point.rung.breaks:
            runs[-1].append((place, runs[-1][-1][1]))
        if not runs or point.rung.breaks:
            runs.append([])
        runs[-1].append((place, point))
    if runs:
        runs[-1].append((x.high, runs[-1][-1][1]))
    return runs


def _breaks(axes: Any, points: Sequence[Point], x: Axis) -> None:
    """What began anew at a version; labels that would touch stand one above the other."""
    ends = [-1.0] * BREAK_LINES  # up to where each line is written
    for point in points:
        if point.rung.breaks:
            place = point.at[x.key]
            axes.axvline(place, color=svg.COLORS["faint"], linewidth=1, linestyle=(0, (1, 2)))
            late = x.share(place) > 0.75
            begin = x.share(place) - (BREAK_WIDTH if late else 0.0)
            free = [line for line, end in enumerate(ends) if end <= begin]
            line = free[0] if free else ends.index(min(ends))
            ends[line] = begin + BREAK_WIDTH
            axes.annotate(
                point.rung.breaks, (place, 0.012 + line * LINE), xycoords=("data", "axes fraction"),
                xytext=(-4 if late else 4, 0), textcoords="offset points", fontsize="small",
                ha="right" if late else "left",
                bbox={"facecolor": svg.COLORS["paper"], "edgecolor": "none", "pad": 1.0},
            )  # fmt: skip


def _baselines(axes: Any, points: Sequence[Point], x: Axis, y: Axis, layout: Layout) -> None:
    """As levels measured in the same runs as the versions; the name at the end, or, where there is
    no room beside, at the beginning."""
    names = list(dict.fromkeys(n for p in points for n in p.baselines[y.key]))
    named: dict[str, float] = {}
    for name in names:
        mine = [p for p in points if name in p.baselines[y.key] and not p.rung.reverted]
        for run in _runs(mine, x):
            levels = [p.baselines[y.key][name] for _, p in run]
            axes.step([place for place, _ in run], levels, where="post",
                      color=svg.COLORS["baseline"], linewidth=1.3)  # fmt: skip
        named[name] = mine[-1 if layout is WIDE else 0].baselines[y.key][name]
    free = -1.0  # up to here other names stand
    for name, level in sorted(named.items(), key=lambda item: item[1]):
        share = max(y.share(level), free)
        free = share + LINE
        if layout is WIDE:
            place, at, go = (1.0, share), (6, 0), {"va": "center", "ha": "left"}
        else:  # at the left, since versions come to a baseline from below
            place, at, go = (0.0, share), (2, 3), {"va": "bottom", "ha": "left"}
        said = name if level >= y.low else f"{name} {level:.3g} \N{DOWNWARDS ARROW}"
        axes.annotate(
            said, place, xycoords="axes fraction", xytext=at, fontsize="small",
            textcoords="offset points", color=svg.COLORS["baseline"], **go,
        )  # fmt: skip
