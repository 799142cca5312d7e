# SPDX-License-Identifier: MIT
"""What is decided about a candidate, and why: values only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

DIGITS = 12  # of a published figure: two processors may differ in the last bits of a logarithm


class Kind(StrEnum):
    """What is decided. Only PROMOTE moves `main`."""

    PROMOTE = "PROMOTE"
    REJECT = "REJECT"
    INCONCLUSIVE = "INCONCLUSIVE"
    INCORRECT = "INCORRECT"
    INVALID = "INVALID"
    NO_CHANGE = "NO-CHANGE"


@dataclass(frozen=True, slots=True)
class Reason:
    """Which rule spoke and what it says, with what to do next."""

    rule: str
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Gains are log ratios over all configurations, candidate over incumbent; None: not measured.

    `lower` and `upper` are the confirm's one-sided bounds at its α. `guards` are what was watched
    beside the gain: shares, effects and each configuration, in log ratios.
    """

    kind: Kind
    reasons: tuple[Reason, ...]
    gain: float | None = None
    lower: float | None = None
    upper: float | None = None
    p_value: float | None = None
    sign_flip_p: float | None = None
    replicates: int = 0
    guards: dict[str, float | str] = field(default_factory=dict)

    def told(self) -> str:
        """The rules that spoke, each with its sentence."""
        return "; ".join(f"{r.rule}: {r.text}" for r in self.reasons)

    def plain(self) -> dict[str, Any]:
        """Plain JSON, as `Record.derived` holds it."""
        raw = asdict(self)
        return {**raw, "kind": str(self.kind), "reasons": list(raw["reasons"])}


def spoken(
    groups: Sequence[tuple[Kind, Sequence[Callable[..., Reason | None]]]], *facts: Any
) -> Verdict | None:
    """The verdict of the first group with a rule that objects, with all that its rules say."""
    for kind, rules in groups:
        if reasons := tuple(r for rule in rules if (r := rule(*facts)) is not None):
            return Verdict(kind=kind, reasons=reasons)
    return None


def rounded(value: float) -> float:
    """A figure as it is published."""
    return float(f"{value:.{DIGITS}g}")


def percent(log_ratio: float) -> str:
    """`+0.312 %` for the log ratio of 1.00312."""
    return f"{100 * math.expm1(log_ratio):+.3f} %"


def limit(log_ratio: float) -> str:
    """`0.1 %` for a limit of 0.001, as it is written in the policy."""
    return f"{100 * log_ratio:.3g} %"
