# SPDX-License-Identifier: MIT
"""The screen: blocks until an always-valid bound decides, in one fresh process or a second one.

It may be looked at after every block, and stopped there; its samples decide nothing further.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from avo_pytest import replicates
from avo_pytest.evidence import TURNS, gather
from avo_pytest.processes import ARMS, block_values
from avo_pytest.replicates import Running
from avo_pytest.run import Run
from avo_pytest.score import Stage
from avo_pytest.screen import Decision, Screening, scale, screen


def run_screen(run: Run) -> Decision:
    """What it decided; "continue" where it gave up or a replicate failed (see `run.failure`)."""
    blocks = int(run.plan["screen_blocks"])
    earlier: list[float] = []
    disturbed = 0
    decision: Decision = "continue"
    for number, planned in enumerate((math.ceil(blocks / 2), blocks // 2)):
        if not planned:
            break
        running = Running(
            number=number, stage=Stage.SCREEN, device=run.assignment.device, blocks=planned
        )
        run.stage(f"screen, process {number + 1} of at most 2: up to {planned} blocks")
        look = _Look(run, running, earlier, disturbed)
        try:
            replicates.play(run, running, run.arms, look)
        finally:
            if running.failure is not None:
                replicates.blame(run, running)
            replicates.keep(run, running)
        if running.failure is not None:
            replicates.fail(run, running)
            return "continue"
        earlier, decision, disturbed = look.values, look.decision, look.disturbed
        if look.hopeless:
            run.note(f"the screen was stopped: {disturbed} disturbed launches are too many")
            return "continue"
        if decision != "continue":
            break
    return decision


class _Look:
    """Takes the stand after each block; true once it is decided, or hopeless."""

    def __init__(
        self, run: Run, running: Running, earlier: Sequence[float], disturbed: int
    ) -> None:
        self._run, self._running, self._earlier = run, running, earlier
        self._disturbed_before = self.disturbed = disturbed
        self._rho = scale(run.plan["block_sd"])
        self._names = [c.name for c in run.assignment.throughput]
        self.values = list(earlier)
        self.decision: Decision = "continue"

    def __call__(self, message: Mapping[str, Any]) -> bool:
        if message["kind"] == "staging":
            self._run.progress(0, 0, f"loading {message['configuration']}")
        if message["kind"] != "block_end":
            return False
        new = block_values(gather(self._running.samples, self._names, ARMS))
        self.values = [*self._earlier, *map(float, new)]
        stand = screen(
            np.array(self.values),
            rho=self._rho,
            min_gain=self._run.plan["effective_min_gain"],
            alpha=self._run.policy["alpha_screen"],
        )
        self.decision = stand.decision
        found = sum(bool(s.disturbed) for s in self._running.samples)
        self.disturbed = self._disturbed_before + found
        self._tell(stand)
        return self.decision != "continue" or self.hopeless

    @property
    def hopeless(self) -> bool:
        """Whether too many launches are disturbed, were all others of the screen quiet."""
        launches = int(self._run.plan["screen_blocks"]) * TURNS * len(ARMS) * len(self._names)
        return self.disturbed > launches * float(self._run.policy["max_disturbed"])

    def _tell(self, stand: Screening) -> None:
        total, done = int(self._run.plan["screen_blocks"]), len(self.values)
        running = self._running
        spent_s = time.monotonic() - running.begun_s - running.start_seconds
        left_s = spent_s / (done - len(self._earlier)) * (total - done)
        bound = f"at most {stand.upper:+.2%}" if math.isfinite(stand.upper) else "no bound yet"
        text = f"{stand.mean:+.2%}, {bound}, at most {left_s:.0f} s left"
        self._run.estimate(done, total, f"screen: {text}")
