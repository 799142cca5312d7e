# SPDX-License-Identifier: MIT
"""What the trials try and what they counted: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

OURS = "screen + confirm"  # the rule in force, beside the old ones
STREAM = 400  # candidates of one search


@dataclass(frozen=True, slots=True)
class SlowMode:
    """A candidate's own: in this share of its processes it is slower by `by` (log ratio)."""

    share: float = 0.0
    by: float = 0.0

    @property
    def mean(self) -> float:
        """What it costs on average."""
        return self.share * self.by


# What the calibration, an A/A of the incumbent, cannot see; by the words of the report.
SLOW_MODES: Mapping[str, SlowMode] = MappingProxyType(
    {
        "2 % of processes 1 % slower": SlowMode(0.02, 0.01),
        "5 % of processes 1 % slower": SlowMode(0.05, 0.01),
        "5 % of processes 2 % slower": SlowMode(0.05, 0.02),
    }
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Counts under one kind of noise, and what `power` promises there. Gains are log ratios."""

    noise: str
    process_sd: float
    excess: float  # gain above min_gain that is promised to be found …
    promised: float  # … with this probability
    counts: Mapping[str, Mapping[str, float]]  # by trial; what never happened is not there
