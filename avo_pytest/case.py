# SPDX-License-Identifier: MIT
"""A complete record under a policy, with everything that its rules look at, computed once."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avo_pytest import calibration as calibrations
from avo_pytest import completeness, error_budget
from avo_pytest.calibration import Calibration
from avo_pytest.confirm import Confirmation, NonInferiority, confirm, non_inferiority
from avo_pytest.intervals import Band, Estimate, estimate, prediction_band
from avo_pytest.policy import Policy
from avo_pytest.processes import Processes, block_values, processes, said
from avo_pytest.score import Record, Stage
from avo_pytest.screen import Screening, minimum_blocks, scale, screen


@dataclass(frozen=True, kw_only=True)
class Case:
    """One record under one policy. The properties raise ValueError with the sentence."""

    record: Record
    policy: Policy

    @functools.cached_property
    def calibration(self) -> Calibration:
        return _calibration(json.dumps(dict(self.record.calibration), sort_keys=True))

    @functools.cached_property
    def alpha(self) -> float:
        """Level of the confirm."""
        return error_budget.level(self.policy, self.record.attempts)

    @functools.cached_property
    def plan(self) -> Mapping[str, Any]:
        """What should have been planned, from policy and calibration alone; `block_sd` sets the
        screen's ρ, which costs time where it is wrong and no errors."""
        if self.record.calibration:
            made = calibrations.plan(self.policy, self.calibration, self.alpha)
            return {**made, "block_sd": self.calibration.block_sd}
        return {
            "blocks": self.policy.confirm_blocks,
            "screen_blocks": self.policy.screen_blocks,
            "effective_min_gain": self.policy.min_gain,
            "block_sd": self.record.plan.get("block_sd"),
        }

    @property
    def min_gain(self) -> float:
        """The effective one (log ratio)."""
        return float(self.plan["effective_min_gain"])

    @functools.cached_property
    def screening(self) -> Screening:
        """Where the screen stood when it first decided, or at its end."""
        launches = completeness.launches(self.record, self.policy, Stage.SCREEN)
        d, alpha = block_values(launches), self.policy.alpha_screen
        for n in range(min(minimum_blocks(alpha), len(d)), len(d) + 1):
            rho = scale(self.plan["block_sd"])
            seen = screen(d[:n], rho=rho, min_gain=self.min_gain, alpha=alpha)
            if seen.decision != "continue":
                break
        return seen

    @functools.cached_property
    def processes(self) -> Processes:
        """Of the confirm."""
        return processes(completeness.launches(self.record, self.policy, Stage.CONFIRM))

    @functools.cached_property
    def effects(self) -> dict[str, tuple[Estimate, Band]]:
        """Each with the band in which the calibration expects as many processes."""
        found = self.processes
        values = {"null twin": found.null_values, "order effect": found.order}
        values = {k: said(v) for k, v in {**values, "carry-over": found.carry}.items()}
        usual, coverage = self.calibration.effects, self.policy.band
        return {
            name: (estimate(x), prediction_band(usual[name], coverage, len(x)))
            for name, x in values.items()
        }

    @functools.cached_property
    def confirmation(self) -> Confirmation:
        return confirm(self.processes.values, min_gain=self.min_gain, alpha=self.alpha)

    @functools.cached_property
    def configurations(self) -> Mapping[str, NonInferiority]:
        """Each configuration against −max_regression."""
        judged = non_inferiority(
            self.processes.medians,
            max_regression=self.policy.max_regression,
            alpha=self.policy.alpha_guard,
        )
        return dict(zip(self.policy.configurations, judged, strict=True))


@functools.lru_cache(maxsize=16)
def _calibration(text: str) -> Calibration:
    """A stream of records has one calibration."""
    return calibrations.from_dict(json.loads(text))
