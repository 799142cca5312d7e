# SPDX-License-Identifier: MIT
"""What a step has used so far, told from the events of its trajectory and nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from agent.step import Ending, Limits


class Over(Exception):
    """A limit of the step is reached; `ending` says of what kind."""

    def __init__(self, ending: Ending, reason: str) -> None:
        super().__init__(reason)
        self.ending = ending


class Tally:
    """Turns, scored attempts, tokens and money of one step."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.turns = self.requests = 0
        self.input_tokens = self.cached_tokens = self.output_tokens = 0
        self.usd = self._usd_at_score = 0.0
        self._clock, self._score_at = clock, clock()
        self._tickets: set[str] = set()  # a result that is asked for again is no new attempt

    def take(self, event: str, **about: Any) -> None:
        """Any event; those that do not count pass."""
        if event == "request":
            self.requests += 1
        elif event in ("response", "failure"):
            self.usd += float(about.get("usd") or 0.0)
        if event == "response":
            self._response(about)
        elif event == "tool" and "verdict" in about["facts"]:
            self._scored(str(about["facts"].get("ticket", about["id"])))

    def check(self) -> None:
        """Raises Over."""
        limits = self.limits
        if self.turns >= limits.turns:
            raise Over(Ending.LIMIT, f"{self.turns} turns without a proposal")
        usd, minutes = self.since_score()
        if usd >= limits.usd_without_score:
            raise Over(Ending.ABANDONED, f"{usd:.2f} USD without a scored attempt")
        if minutes >= limits.minutes_without_score:
            raise Over(Ending.ABANDONED, f"{minutes:.0f} minutes without a scored attempt")

    def since_score(self) -> tuple[float, float]:
        """US dollars and minutes since the last scored attempt, or the beginning."""
        return self.usd - self._usd_at_score, (self._clock() - self._score_at) / 60

    def reminder(self, left: Mapping[str, float]) -> str:
        """What is used and what is left, for the model."""
        usd, minutes = self.since_score()
        limits = self.limits
        parts = [
            f"turn {self.turns} of {limits.turns}",
            f"{self.attempts} scored attempts",
            f"{minutes:.0f} minutes{_of(limits.minutes_without_score)} and {usd:.2f} USD"
            f"{_of(limits.usd_without_score)} since the last one",
        ]
        units = {"usd": "USD", "hours": "hours", "gpu_seconds": "GPU seconds"}
        rest = [f"{left[k]:.4g} {u}" for k, u in units.items() if math.isfinite(left[k])]
        if rest:
            parts.append(f"left to the run: {', '.join(rest)}")
        return f"[Budget: {'; '.join(parts)}]"

    @property
    def attempts(self) -> int:
        """Results of the judge, each once."""
        return len(self._tickets)

    def usage(self) -> dict[str, float]:
        """For `Outcome.usage`."""
        names = ("requests", "input_tokens", "cached_tokens", "output_tokens", "usd")
        return {name: getattr(self, name) for name in names}

    def _scored(self, ticket: str) -> None:
        if ticket not in self._tickets:
            self._tickets.add(ticket)
            self._usd_at_score, self._score_at = self.usd, self._clock()

    def _response(self, about: Mapping[str, Any]) -> None:
        usage = about["usage"]
        written = usage["cache_write_5m"] + usage["cache_write_1h"]
        self.input_tokens += usage["input"] + usage["cache_read"] + written
        self.cached_tokens += usage["cache_read"]
        self.output_tokens += usage["output"]
        self.turns += 1 if about.get("talk") else 0


def _of(limit: float) -> str:
    return f" of {limit:g}" if math.isfinite(limit) else ""
