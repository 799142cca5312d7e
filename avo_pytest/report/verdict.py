# SPDX-License-Identifier: MIT
"""A verdict in plain words: what was decided and why, the figures, what was watched, attempts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from avo_pytest.report.figures import percent
from avo_pytest.report.outcome import interrupted, verdict
from avo_pytest.score import Record

INDENT = 11
SHARES = ("throttled", "disturbed")  # guards that are shares; the others are log ratios


def verdict_lines(record: Record) -> list[str]:
    """One line a subject; none for a measurement."""
    found = verdict(record)
    if not found or interrupted(record):
        return []
    lines = [(found["kind"], "; ".join(reason["text"] for reason in found["reasons"]))]
    lines += [("gain", text) for text in _gain(record, found)]
    lines += [("watched", text) for text in _guards(found["guards"])]
    lines += [("plan", text) for text in _plan(record)]
    lines += [("attempts", text) for text in _attempts(record)]
    return [f"{title:<{INDENT - 1}} {text}" for title, text in lines]


def _gain(record: Record, found: Mapping[str, Any]) -> Iterator[str]:
    if found["gain"] is None:
        return
    alpha = record.plan.get("alpha", record.policy["alpha_confirm"])
    level = f"{100 * (1 - alpha):.5g} %"
    yield (
        f"{percent(found['gain'])}, from {percent(found['lower'])} to {percent(found['upper'])} "
        f"(one-sided bounds at {level}); p = {found['p_value']:.2g}, by sign flips "
        f"{found['sign_flip_p']:.2g}; {found['replicates']} replicates"
    )


def _guards(guards: Mapping[str, Any]) -> Iterator[str]:
    if guards:
        yield " · ".join(f"{name} {_figure(name, value)}" for name, value in guards.items())


def _figure(name: str, value: Any) -> str:
    if not isinstance(value, float | int):
        return str(value)
    return f"{value:.1%}" if name.startswith(SHARES) else percent(value)


def _plan(record: Record) -> Iterator[str]:
    plan = record.plan
    if "screen_blocks" not in plan:
        return
    yield (
        f"screen of up to {plan['screen_blocks']} blocks, then {plan['replicates']} replicates of "
        f"{plan['blocks']} blocks ({plan['reason']})"
    )


def _attempts(record: Record) -> Iterator[str]:
    """How often luck was tried, and what that may have promoted."""
    counted = record.attempts
    if record.mode != "confirm" or not counted:
        return
    yield (
        f"{counted['confirms']} earlier confirms of this artifact ({counted['invalid']} INVALID), "
        f"{counted['all_confirms']} of this kernel and target here; if none were better, "
        f"{counted['expected_false_promotions']:.3g} false promotions are expected in all"
    )
