# SPDX-License-Identifier: MIT
"""A complete record under a policy, with everything that its rules look at, computed once."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avo_pytest import calibration as calibrations
from avo_pytest import completeness, error_budget, sample_size, shares
from avo_pytest.accuracy import Growth, error_growth
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
        return _calibration(_text(self.record.calibration))

    @functools.cached_property
    def machines(self) -> tuple[tuple[Calibration, str], ...]:
        """The calibration of each machine that took part, and when it began."""
        record = self.record
        if not record.shares:
            return ((self.calibration, record.created),)
        return tuple((_calibration(_text(s.calibration)), s.created) for s in record.shares)

    @functools.cached_property
    def foreign_calibration(self) -> str:
        """What to do where a calibration was made of other code than the incumbent's, or nothing:
        an effect outside of its bands may be the code's own."""
        version = next((a.identity for a in self.record.arms if a.role == "incumbent"), "")
        others = (calibrations.of_another_version(c, version) for c, _ in self.machines)
        found = next((other for other in others if other), "")
        return found and f"{found}: `avo calibrate` with this incumbent, then confirm again"

    @functools.cached_property
    def alpha(self) -> float:
        """Level of the confirm."""
        return error_budget.level(self.policy, self.record.attempts)

    @functools.cached_property
    def plan(self) -> Mapping[str, Any]:
        """What should have been planned, from policy and calibration alone; `block_sd` sets the
        screen's ρ, which costs time where it is wrong and no errors."""
        if self.record.calibration:
            return {
                **self._plans[0],
                "replicates": sum(self.parts),
                "effective_min_gain": max(p["effective_min_gain"] for p in self._plans),
                "block_sd": self.calibration.block_sd,
            }
        return {
            "blocks": self.policy.confirm_blocks,
            "screen_blocks": self.policy.screen_blocks,
            "effective_min_gain": self.policy.min_gain,
            "block_sd": self.record.plan.get("block_sd"),
        }

    @functools.cached_property
    def parts(self) -> tuple[int, ...]:
        """How many replicates each machine was to run: its share of what it planned by its own
        calibration, which was fixed before its first sample."""
        count = len(self._plans)
        totals = [plan["replicates"] for plan in self._plans]
        return tuple(len(shares.places(k, count, total)) for k, total in enumerate(totals, 1))

    @functools.cached_property
    def _plans(self) -> tuple[Mapping[str, Any], ...]:
        """What each machine should have planned."""
        return tuple(sample_size.plan(self.policy, c, self.alpha) for c, _ in self.machines)

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
        """Each with the band in which the calibration, and every machine's, expects as many
        processes."""
        found = self.processes
        values = {"null twin": found.null_values, "order effect": found.order}
        values = {k: said(v) for k, v in {**values, "carry-over": found.carry}.items()}
        return {name: (estimate(x), self._band(name, len(x))) for name, x in values.items()}

    def _band(self, name: str, count: int) -> Band:
        usual = [machine.effects[name] for machine, _ in self.machines]
        bands = [prediction_band(x, self.policy.band, count) for x in usual]
        low, high = max(b.low for b in bands), min(b.high for b in bands)
        if low > high:
            raise ValueError(f"{name}: what is usual on one machine is not on another")
        return Band(low, high)

    @functools.cached_property
    def confirmation(self) -> Confirmation:
        return confirm(self.processes.values, min_gain=self.min_gain, alpha=self.alpha)

    @functools.cached_property
    def error_growth(self) -> Growth:
        return error_growth(self.record)

    @functools.cached_property
    def configurations(self) -> Mapping[str, NonInferiority]:
        """Each configuration against −max_regression."""
        judged = non_inferiority(
            self.processes.medians,
            max_regression=self.policy.max_regression,
            alpha=self.policy.alpha_guard,
        )
        return dict(zip(self.policy.configurations, judged, strict=True))


def _text(calibration: Mapping[str, Any]) -> str:
    return json.dumps(dict(calibration), sort_keys=True)


@functools.lru_cache(maxsize=16)
def _calibration(text: str) -> Calibration:
    """A stream of records has one calibration."""
    return calibrations.from_dict(json.loads(text))
