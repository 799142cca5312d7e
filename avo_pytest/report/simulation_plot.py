# SPDX-License-Identifier: MIT
"""The picture of `avo simulate`: claims against truth, and what each rule promotes for nothing.

matplotlib comes with the extra `report` and is imported when a picture is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avo_pytest.report.simulation import OLD_RULES, searches
from avo_pytest.simulation.bounds import promoted
from avo_pytest.simulation.measured import OURS, Measured

MISSING = "a plot needs matplotlib: pip install 'avo-pytest[report]' (the tables do without)"


def load_pyplot() -> Any:
    """matplotlib without a display. Raises ImportError with a sentence."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(MISSING) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save(measured: Sequence[Measured], alpha: float, path: Path) -> None:
    """Write the picture; the suffix chooses the format. Raises ImportError, OSError, ValueError."""
    pyplot = load_pyplot()
    evolved = [one for one in measured if "evolution" in one.counts]
    figure, axes = pyplot.subplots(
        1, 1 + len(evolved), figsize=(5 * (1 + len(evolved)), 4), squeeze=False, layout="tight"
    )
    _no_change(axes[0, 0], measured, alpha)
    for axis, one in zip(axes[0, 1:], evolved, strict=True):
        _claims(axis, one)
    figure.savefig(path)
    pyplot.close(figure)


def _no_change(axis: Any, measured: Sequence[Measured], alpha: float) -> None:
    """Share of no-change candidates that each rule promotes; ours as its 95 % limit."""
    for one in measured:
        counts = one.counts["old rules"]
        shares = [counts[rule] / counts["candidates"] for rule in OLD_RULES]
        ours = promoted(one, "no change")
        assert ours is not None
        axis.plot([*shares, ours.upper()], [*OLD_RULES, OURS], "o", label=one.noise, alpha=0.7)
    axis.axvline(alpha, color="k", linestyle=":", linewidth=1, label=f"promised: {alpha:g}")
    axis.set_xscale("log")
    axis.set_xlabel(f"no-change candidates promoted ({OURS}: 95 % limit)")
    axis.set_title("False promotions")
    axis.legend(fontsize="small")


def _claims(axis: Any, one: Measured) -> None:
    """Claimed against true gain of a search, in percent."""
    for rule, (_, _, true, claimed) in searches(one).items():
        axis.plot(100 * true, 100 * claimed, "o", label=rule)
    low, high = axis.get_xlim()
    axis.plot([low, high], [low, high], "k:", linewidth=1)
    axis.set_xlabel("true gain, %")
    axis.set_ylabel("claimed gain, %")
    axis.set_title(f"A search under noise: {one.noise}")
    axis.legend(fontsize="small")
