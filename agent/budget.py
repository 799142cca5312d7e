# SPDX-License-Identifier: MIT
"""What a run may spend and has spent: money, GPU time, hours. Reserved first, settled after.

The journal is the truth: it survives a kill at any instruction, and a reservation that nobody
settled counts in full. Processes of one run share it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

from agent.lines import Line, Lines

UNITS = ("usd", "hours", "gpu_seconds")


class Exhausted(Exception):
    """The budget does not allow it; the text says which limit and by how much."""


class Budget:
    """`agent.step.Spend` on a journal. `limits`: of `UNITS`; absent or None is no limit."""

    def __init__(self, path: Path, limits: Mapping[str, float | None]) -> None:
        if unknown := sorted(set(limits) - set(UNITS)):
            raise ValueError(f"no such limit: {', '.join(unknown)}; there are {', '.join(UNITS)}")
        self._limits = {u: _amount(u, limits.get(u), math.inf) for u in UNITS}
        self._lines = Lines(path, sync=True)
        self._reserved: dict[str, dict[str, float]] = {}
        self._settled: dict[str, dict[str, float]] = {}
        self._seconds: dict[str, float] = {}  # of each process that worked on the run
        self._began = time.monotonic()
        with self._lines.exclusive(self._apply) as add:
            self._session = f"s{len(self._seconds) + 1}"
            add({"event": "open", "session": self._session, "limits": _finite(self._limits)})

    def reserve(self, what: str, *, usd: float = 0.0, gpu_seconds: float = 0.0) -> str:
        """A reservation's name. Raises `Exhausted` where it could go beyond a limit."""
        asked = {"usd": _amount("usd", usd), "gpu_seconds": _amount("gpu_seconds", gpu_seconds)}
        with self._lines.exclusive(self._apply) as add:
            spent = self._spent()
            for unit in UNITS:
                self._check(unit, what, spent[unit], asked.get(unit, 0.0))
            name = f"r{len(self._reserved) + 1}"
            add({"event": "reserve", "name": name, "what": what, **asked, **self._clock()})
            return name

    def settle(self, reservation: str, *, usd: float = 0.0, gpu_seconds: float = 0.0) -> None:
        """What it came to. Said twice (after a crash, say), the first time counts."""
        came = {"usd": _amount("usd", usd), "gpu_seconds": _amount("gpu_seconds", gpu_seconds)}
        with self._lines.exclusive(self._apply) as add:
            if reservation not in self._reserved:
                raise ValueError(f"{self._lines.path}: no reservation {reservation!r}")
            if reservation not in self._settled:
                add({"event": "settle", "name": reservation, **came, **self._clock()})

    def spent(self) -> Mapping[str, float]:
        """Of each unit, with what is reserved and not settled in full."""
        with self._lines.exclusive(self._apply):
            return self._spent()

    def left(self) -> Mapping[str, float]:
        """Of each unit; infinite where there is no limit."""
        spent = self.spent()
        return {unit: max(0.0, self._limits[unit] - spent[unit]) for unit in UNITS}

    def close(self) -> None:
        """Notes the time spent; safe to call twice."""
        if not self._lines.closed:
            self._lines.append({"event": "close", **self._clock()})
            self._lines.close()

    def _check(self, unit: str, what: str, spent: float, asked: float) -> None:
        limit = self._limits[unit]
        # `not <=` refuses a NaN; hours are spent by themselves, so their limit is the end itself.
        if not spent + asked <= limit or (unit == "hours" and spent >= limit):
            raise Exhausted(
                f"the budget of {limit:g} {unit} does not allow {what}: {spent:.6g} spent or"
                f" reserved, {asked:.6g} asked"
            )

    def _spent(self) -> dict[str, float]:
        held = [self._settled.get(name, asked) for name, asked in self._reserved.items()]
        seconds = {**self._seconds, **{self._session: self._elapsed_s()}}
        return {
            "usd": math.fsum(amounts["usd"] for amounts in held),
            "hours": math.fsum(seconds.values()) / 3600,
            "gpu_seconds": math.fsum(amounts["gpu_seconds"] for amounts in held),
        }

    def _apply(self, line: Line) -> None:
        event, name = line.get("event"), str(line.get("name"))
        if event in ("reserve", "settle"):
            into = self._reserved if event == "reserve" else self._settled
            into.setdefault(name, {u: float(line[u]) for u in ("usd", "gpu_seconds")})
        session = str(line.get("session"))
        self._seconds[session] = max(
            float(line.get("seconds", 0.0)), self._seconds.get(session, 0.0)
        )

    def _clock(self) -> dict[str, object]:
        return {"session": self._session, "seconds": round(self._elapsed_s(), 3)}

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began


def _amount(unit: str, value: float | None, absent: float = 0.0) -> float:
    amount = absent if value is None else float(value)
    if not amount >= 0 or (math.isinf(amount) and absent == 0):
        raise ValueError(f"{value!r} {unit} is no amount")
    return amount


def _finite(limits: Mapping[str, float]) -> dict[str, float | None]:
    return {unit: None if math.isinf(limit) else limit for unit, limit in limits.items()}
