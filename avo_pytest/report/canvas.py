# SPDX-License-Identifier: MIT
"""Where charts are drawn: two sizes, one style, matplotlib without its global state."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from avo_pytest.report import svg


@dataclass(frozen=True, slots=True)
class Layout:
    """A size in inches at 72 dots, and where the axes are, as shares of it."""

    name: str
    width: float
    height: float
    left: float
    right: float
    columns: int  # of small multiples
    font: float

    @property
    def main(self) -> tuple[float, float, float, float]:
        """Left, bottom, width, height of the axes of levels."""
        return self.left, 0.245, self.right - self.left, 0.735

    @property
    def strip(self) -> tuple[float, float, float, float]:
        """Of the lanes of those without a score."""
        return self.left, 0.105, self.right - self.left, 0.125


WIDE = Layout("wide", 13.0, 6.2, 0.085, 0.87, 4, 10.5)
NARROW = Layout("narrow", 5.2, 6.0, 0.155, 0.97, 2, 11.0)


def rectangle(layout: Layout, which: tuple[float, float, float, float]) -> list[float]:
    """Axes in the units of the SVG: left, bottom edge, width, height."""
    left, bottom, width, height = which
    w, h = layout.width * 72, layout.height * 72
    return [round(v, 2) for v in (left * w, (1 - bottom) * h, width * w, height * h)]


@contextmanager
def canvas(layout: Layout, height: float, arrangement: str | None = None) -> Iterator[Any]:
    """A figure in the page's style."""
    matplotlib: Any = importlib.import_module("matplotlib")
    figures: Any = importlib.import_module("matplotlib.figure")
    with matplotlib.rc_context(_style(layout)):
        yield figures.Figure(figsize=(layout.width, height), layout=arrangement)


def _style(layout: Layout) -> dict[str, Any]:
    ink, faint = svg.COLORS["ink"], svg.COLORS["faint"]
    return {
        "font.size": layout.font, "svg.fonttype": "none", "svg.hashsalt": "avo",
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "axes.edgecolor": faint, "axes.labelcolor": ink, "text.color": ink, "xtick.color": faint,
        "ytick.color": faint, "xtick.labelcolor": ink, "ytick.labelcolor": ink,
        "figure.facecolor": "none", "axes.facecolor": "none", "axes.axisbelow": True,
        "axes.titlesize": layout.font, "path.simplify": True, "axes.formatter.useoffset": False,
    }  # fmt: skip
