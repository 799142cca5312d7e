# SPDX-License-Identifier: MIT
"""What the trials counted: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OURS = "screen + confirm"  # the rule in force, beside the old ones
STREAM = 400  # candidates of one search


@dataclass(frozen=True, slots=True)
class Measured:
    """Counts under one kind of noise, and what `power` promises there. Gains are log ratios."""

    noise: str
    process_sd: float
    excess: float  # gain above min_gain that is promised to be found …
    promised: float  # … with this probability
    counts: Mapping[str, Mapping[str, float]]  # by trial; what never happened is not there
