# SPDX-License-Identifier: MIT
"""When a step may join the working lineage, and when that must face a confirm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent.working import FLOOR, PERIOD, STEPS, Accepted, due, estimate, objection

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def accepted(*gains: float) -> list[Accepted]:
    return [Accepted(commit=f"c{i}", at=NOW, gain=gain) for i, gain in enumerate(gains)]


@pytest.mark.parametrize(
    ("before", "gain", "may"),
    [
        ((), 0.0, True),
        ((), -0.0029, True),  # a valley may be crossed
        ((), FLOOR - 1e-4, False),
        ((-0.002,), -0.002, False),  # but not in small steps
        ((0.01,), -0.0029, True),
        ((0.01,), -0.02, False),
        ((-0.002,), 0.004, True),
    ],
)
def test_the_floor_holds_for_a_step_and_for_all_together(before, gain, may):
    why = objection(accepted(*before), verdict="INCONCLUSIVE", correct=True, gain=gain)
    assert (why == "") is may, why


@pytest.mark.parametrize(
    ("verdict", "correct", "gain"),
    [
        ("INCORRECT", False, None),
        ("INVALID", None, None),
        ("NO-CHANGE", True, None),
        ("ERROR", None, 0.5),
        ("REJECT", False, 0.5),
        ("INCONCLUSIVE", True, None),
        ("", True, 0.5),
    ],
)
def test_what_was_not_screened_as_correct_never_joins(verdict, correct, gain):
    assert objection((), verdict=verdict, correct=correct, gain=gain)


def test_the_tip_must_face_a_confirm_after_some_steps_or_a_day():
    assert due((), NOW + 10 * PERIOD) == ""
    assert due(accepted(*[0.001] * (STEPS - 1)), NOW) == ""
    assert due(accepted(*[0.001] * STEPS), NOW) == "5 steps since main"
    assert due(accepted(0.001), NOW + PERIOD - timedelta(seconds=1)) == ""
    assert due(accepted(0.001), NOW + PERIOD) == "24 hours since main"


def test_steps_are_compounded():
    assert estimate(accepted(0.1, 0.1)) == pytest.approx(0.21)
    assert estimate(()) == 0.0
