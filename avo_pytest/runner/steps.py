# SPDX-License-Identifier: MIT
"""A step of setting up a machine: shell text that says whether it is done, does it, undoes it.

The text is what runs and what --dry-run shows, so that somebody may as well paste it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["done", "made", "undone", "failed", "skipped", "would be made"]
SHELL = ("bash", "--noprofile", "--norc", "-euo", "pipefail", "-c")
TIMEOUT_S = 3600.0  # of one text; an environment with torch takes minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`check` succeeds where nothing is to do; `lacks` says what the step cannot do without.

    `again`: the check also proves that `apply` worked, and is asked once more after it.
    """

    name: str
    what: str
    check: str
    apply: str
    undo: str = ""
    lacks: str = ""
    again: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a step; `text` is what its shell said last."""

    step: Step
    outcome: Outcome
    text: str = ""


def set_up(
    steps: Sequence[Step], told: Callable[[Result], None], *, dry_run: bool = False
) -> tuple[Result, ...]:
    """Do what is not done, in order; the first failure ends it, since later steps need it."""
    results: list[Result] = []
    for step in steps:
        results.append(_set_up(step, dry_run))
        told(results[-1])
        if results[-1].outcome == "failed":
            break
    return tuple(results)


def undo(steps: Sequence[Step], told: Callable[[Result], None]) -> tuple[Result, ...]:
    """Take everything back, the last first; a failure does not keep the others."""
    results = []
    for step in reversed(steps):
        if step.undo:
            code, text = _run(step.undo)
            results.append(Result(step, "failed" if code else "undone", text))
            told(results[-1])
    return tuple(results)


def _set_up(step: Step, dry_run: bool) -> Result:
    if step.lacks:
        return Result(step, "skipped", step.lacks)
    code, text = _run(step.check)
    if code == 0:
        return Result(step, "done", text)
    if dry_run:
        return Result(step, "would be made", text)
    code, text = _run(step.apply)
    if code == 0 and step.again:
        code, text = _run(step.check)
    return Result(step, "failed" if code else "made", text)


def _run(text: str) -> tuple[int, str]:
    """Status and the last lines of what was said."""
    try:
        done = subprocess.run(
            [*SHELL, text], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, f"took more than {TIMEOUT_S:.0f} s"
    return done.returncode, "\n".join(done.stdout.strip().splitlines()[-8:])
