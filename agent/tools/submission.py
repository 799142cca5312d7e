# SPDX-License-Identifier: MIT
"""`submit`: the step ends with a proposal, if its tree can be one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.step import Result, Submission
from agent.tools.scoring import Scoring
from agent.tools.tool import Declared, Pages, ToolError, number, text
from agent.workspace import Workspace
from avo_pytest.recording import clean


@dataclass(frozen=True, slots=True)
class Submitting:
    """A step's tree and who wrote it."""

    workspace: Workspace
    number: int
    scoring: Scoring
    author: str

    def submit(self, given: Mapping[str, Any]) -> Result:
        """Check the normal form's rules, then end the step."""
        if objection := self.workspace.objection(self.number):
            raise ToolError(f"this cannot be proposed: {objection}")
        submission = Submission(
            idea=clean(given["idea"]),
            rationale=given.get("rationale", ""),
            expected_gain=_fraction(given.get("expected_gain_percent")),
            measured_gain=_fraction(given.get("measured_gain_percent")),
            author=self.author,
        )
        scored = self.scoring.scored()
        told = (
            "submitted" if scored else "submitted; the folder as it is was not scored in this step"
        )
        return Result(text=told, submission=submission, facts={"scored": scored})


def tools(submitting: Submitting, pages: Pages) -> list[Declared]:
    """`submit`."""
    gain = ("over the published version, in percent", -100, 10_000)
    return [
        Declared(
            name="submit", act=submitting.submit, pages=pages, required=("idea",),
            description="Propose the target folder as it is now and end the step. Do it once a "
            "screen says that it is correct and likely faster: the judge then confirms it with "
            "fresh processes.",
            properties={
                "idea": text("what was changed and why it is faster: one line", 120, minLength=3),
                "rationale": text("what was seen, tried and measured", 4000),
                "expected_gain_percent": number(f"expected gain {gain[0]}", *gain[1:]),
                "measured_gain_percent": number(f"measured gain {gain[0]}", *gain[1:]),
            },
        )
    ]  # fmt: skip


def _fraction(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
