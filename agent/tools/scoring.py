# SPDX-License-Identifier: MIT
"""`score` hands the folder as it is to the judge and gives a ticket; `wait` collects what it found.

GPU seconds are reserved before a judge starts, never more than are left, and settled with what it
took; the judge's time is limited to the reservation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.evaluate import LIMITS_S, Evaluation, EvaluationError, Evaluator
from agent.step import Result, Spend
from agent.tools.tool import Declared, Pages, ToolError, choice, number, text
from agent.workspace import Workspace
from avo_pytest.identity import File, hash_of, read_tree

MOST_PENDING = 4  # they would only wait for each other: a device measures one at a time
LEAST_S = 20.0  # of GPU time, for the shortest look
WAIT_S = 300.0
FACTS = ("mode", "verdict", "gain", "lower", "upper", "tflops", "correct", "reason", "run")


@dataclass(slots=True)
class Scoring:
    """The judge as one step sees it. `seen`: candidates that were found correct in this step."""

    folder: Path
    workspace: Workspace
    evaluator: Evaluator
    spend: Spend
    reserved: dict[str, str] = field(default_factory=dict)  # ticket → reservation
    seen: set[str] = field(default_factory=set)
    last: Evaluation | None = None

    def score(self, given: Mapping[str, Any]) -> Result:
        """Start the judge."""
        if len(self.reserved) >= MOST_PENDING:
            raise ToolError(f"{MOST_PENDING} tickets are open: wait for one of them first")
        mode = given["mode"]
        against = self.workspace.tip() if given.get("against") == "tip" else None
        limit_s, reservation = self._reserve(mode)
        try:
            ticket = self.evaluator.start(mode, self.folder, incumbent=against, timeout_s=limit_s)
        except EvaluationError as error:
            self.spend.settle(reservation)
            raise ToolError(str(error)) from None
        self.reserved[ticket] = reservation
        told = f'{mode} started; wait {{"ticket": "{ticket}"}} collects it. Files may be edited.'
        return Result(text=told, facts={"ticket": ticket, "mode": mode})

    def wait(self, given: Mapping[str, Any]) -> Result:
        """What the judge found."""
        ticket = given.get("ticket") or next(iter(self.reserved), "")
        if not ticket:
            raise ToolError("no ticket is open: score first")
        try:
            found = self.evaluator.wait(ticket, float(given.get("seconds", WAIT_S)))
        except EvaluationError as error:
            raise ToolError(str(error)) from None
        if found is None:
            told = f"{ticket} is not finished: wait again, or do something else meanwhile"
            return Result(text=told, facts={"ticket": ticket})
        if ticket in self.reserved:
            self.spend.settle(self.reserved.pop(ticket), gpu_seconds=found.gpu_seconds)
        if found.correct and found.candidate:
            self.seen.add(found.candidate)
        self.last = found if found.tflops else self.last
        facts = {name: getattr(found, name) for name in FACTS}
        facts |= {"ticket": ticket, "gpu_seconds": found.gpu_seconds}
        facts["record"] = str(found.record_path) if found.record_path else ""
        return Result(text=found.text, facts=facts)

    def scored(self) -> bool:
        """Whether the folder as it is was found correct in this step."""
        try:
            found = read_tree(self.folder)
        except OSError:
            return False
        plain = {path: File(False, file.content) for path, file in found.items()}
        return hash_of(plain) in self.seen

    def _reserve(self, mode: str) -> tuple[float, str]:
        """The judge's time limit and the reservation. Raises Exhausted."""
        if self.evaluator.target == "cpu":
            return LIMITS_S[mode], self.spend.reserve(f"score {mode}")
        left = self.spend.left().get("gpu_seconds", math.inf)
        limit_s = max(LEAST_S, min(LIMITS_S[mode], left))
        return limit_s, self.spend.reserve(f"score {mode}", gpu_seconds=limit_s)


def tools(scoring: Scoring, pages: Pages) -> list[Declared]:
    """`score` and `wait`."""
    return [
        Declared(
            name="score", act=scoring.score, pages=pages, required=("mode",),
            description="Hand the target folder as it is now to the judge, which checks that it is "
            "correct and measures it. Returns a ticket at once: go on working, then wait. quick: "
            "all correctness checks and a brief look at the speed. screen: also stops early and "
            "says whether a gain is likely. Neither promotes anything.",
            properties={
                "mode": choice("how thoroughly", "quick", "screen"),
                "against": choice(
                    "what to compare with: the published version (main, without it) or the tip "
                    "that this step began from", "main", "tip",
                ),
            },
        ),
        Declared(
            name="wait", act=scoring.wait, pages=pages,
            description="Collect what the judge found: verdict, gain with its bound, why, and a "
            "table by configuration.",
            properties={
                "ticket": text("as score gave it; the oldest open one without it", 40),
                "seconds": number("at most so long", 0, 3600),
            },
        ),
    ]  # fmt: skip
