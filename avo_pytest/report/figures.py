# SPDX-License-Identifier: MIT
"""How figures are written: one unit for a scoreboard, intervals in percent, arms in order."""

from __future__ import annotations

import math
from dataclasses import dataclass

from avo_pytest.score import ArmRecord, Record
from avo_pytest.summary import Ratio, Summary


@dataclass(frozen=True, slots=True)
class Unit:
    """TFLOPS, or GFLOPS where a CPU stays below one TFLOPS."""

    name: str
    per_tflops: float

    def figure(self, tflops: float) -> str:
        """The bare number."""
        value = tflops * self.per_tflops
        return f"{value:.1f}" if value >= 10 else f"{value:.3g}"

    def text(self, tflops: float) -> str:
        """The number with its unit."""
        return f"{self.figure(tflops)} {self.name}"


TERA, GIGA = Unit("TFLOPS", 1.0), Unit("GFLOPS", 1000.0)


def throughput(record: Record, summary: Summary) -> Unit:
    """The unit of all throughput figures of a record."""
    fastest = max((row.tflops for row in summary.rows), default=0.0)
    return GIGA if record.target == "cpu" and fastest < 1 else TERA


def spread(value: float, low: float, high: float) -> str:
    """The wider half of an interval in percent; empty where there is none."""
    if value <= 0 or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"±{100 * max(high - value, value - low) / value:.1f}%"


def percent(log_ratio: float) -> str:
    """A gain: `+0.42 %` for the log ratio of 1.0042."""
    return f"{100 * math.expm1(log_ratio):+.2f} %"


def ratio(value: Ratio, digits: int) -> str:
    """`1.62x ±0.4%`: above 1 the candidate is faster."""
    return f"{value[0]:.{digits}f}x {spread(*value)}".rstrip()


def arm_order(record: Record) -> list[ArmRecord]:
    """Incumbent, baselines in the candidate's dtype, the others."""
    dtype = next((arm.dtype for arm in record.arms if arm.role == "candidate"), "")
    others = [arm for arm in record.arms if arm.role != "candidate"]
    return sorted(others, key=lambda arm: (arm.role != "incumbent", arm.dtype != dtype))
