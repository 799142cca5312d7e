# SPDX-License-Identifier: MIT
"""What a confirm on a device finds and what it costs, as text. Gains are log ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from avo_pytest import power
from avo_pytest.report.columns import table

SHOWN = (1.5, 2.0, 3.0, 5.0)  # gains of the table, as multiples of min_gain


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What the power of a confirm depends on. `replicate_s` None: nobody has measured it.

    `told` says where the figures come from.
    """

    told: str
    sd: float  # of a process value between A/A processes
    min_gain: float
    alpha: float
    wanted: float
    replicate_s: float | None = None

    def power(self, gain: float, processes: int) -> float:
        """P(confirmed)."""
        return power.power(
            gain, processes=processes, sd=self.sd, min_gain=self.min_gain, alpha=self.alpha
        )

    def smallest(self, processes: int) -> float:
        """The gain that is confirmed as often as wanted; inf where none is."""
        return power.minimum_detectable_gain(
            processes=processes,
            sd=self.sd,
            min_gain=self.min_gain,
            alpha=self.alpha,
            wanted=self.wanted,
        )

    def seconds(self, processes: int) -> str:
        """What a confirm takes beside its screen, on one device."""
        return f"{self.replicate_s * processes:.0f} s" if self.replicate_s is not None else "-"


def text(r: Resolution, gain: float) -> str:
    """Origin of the figures, the answer for one gain, and the table around it."""
    facts = f"process sd {r.sd:.3%}, min_gain {r.min_gain:.2%}, alpha {r.alpha:g}"
    return f"{r.told}\n{facts}\n\n{_answer(r, gain)}\n\n{_table(r, gain)}\n"


def _answer(r: Resolution, gain: float) -> str:
    if gain <= r.min_gain:
        return (
            f"A gain of {gain:.3g} ({gain:.2%}) is not above min_gain ({r.min_gain:.2%}): it is "
            "confirmed only by mistake, with any number of replicates."
        )
    fits = (p for p in power.PROCESSES if r.power(gain, p) >= r.wanted)
    chosen = next(fits, None)
    if chosen is not None:
        cost = "" if r.replicate_s is None else f" = {r.seconds(chosen)}"
        return (
            f"On this device a {_percent(gain)} gain is confirmed with {r.wanted:.0%} probability "
            f"with {chosen} replicates{cost}."
        )
    most = power.PROCESSES[-1]
    return (
        f"On this device a {_percent(gain)} gain is confirmed with {r.power(gain, most):.0%} "
        f"probability with {most} replicates, the most there are; {r.wanted:.0%} begins at "
        f"{_percent(r.smallest(most))}."
    )


def _table(r: Resolution, gain: float) -> str:
    gains = sorted({*(multiple * r.min_gain for multiple in SHOWN), gain})
    header = ("replicates", "time", f"{r.wanted:.0%} from", *map(_percent, gains))
    rows = [_row(r, processes, gains) for processes in power.PROCESSES]
    return table(header, rows)


def _row(r: Resolution, processes: int, gains: Sequence[float]) -> tuple[str, ...]:
    chances = (f"{r.power(gain, processes):.0%}" for gain in gains)
    return (str(processes), r.seconds(processes), _percent(r.smallest(processes)), *chances)


def _percent(value: float) -> str:
    """0.3%, 0.25%, 1.5%: three digits are enough."""
    return f"{100 * value:.3g}%" if math.isfinite(value) else "never"
