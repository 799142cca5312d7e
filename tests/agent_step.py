# SPDX-License-Identifier: MIT
"""A step of the `claude` operator on loopback: a real worktree, a few real tools, a real budget."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.budget import Budget
from agent.config import Settings
from agent.operators import operator
from agent.step import Limits, Outcome, Result, Step, Submission

QUICK: dict[str, Any] = {"backoff_s": 0.01, "idle_s": 5.0, "retries": 3}
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
FREE: dict[str, Any] = {"type": "object"}


class Plain:
    """A tool of a name, a schema and a function."""

    def __init__(
        self, name: str, run: Callable[[Mapping[str, Any]], Result], schema: Mapping[str, Any]
    ) -> None:
        self.name, self.run, self.schema = name, run, schema
        self.description = f"Does {name}."


def tools(folder: Path) -> tuple[Plain, ...]:
    """write, read, score, submit, break: each does what it says."""
    file = folder / "kernel.h"

    def write(given: Mapping[str, Any]) -> Result:
        file.write_text(given["text"])
        return Result(text=f"{len(given['text'])} characters written")

    def submit(given: Mapping[str, Any]) -> Result:
        return Result(text="submitted", submission=Submission(idea=given["text"]))

    def fail(given: Mapping[str, Any]) -> Result:
        raise OSError(f"cannot open /home/someone/{given.get('text')}")

    return (
        Plain("write", write, TEXT),
        Plain("submit", submit, TEXT),
        Plain("score", lambda _: Result(text="gain +1.2 %", facts={"scored": True}), FREE),
        Plain("read", lambda _: Result(text=file.read_text(), more="read from=100"), FREE),
        Plain("break", fail, FREE),
    )


def make(
    root: Path, *, usd: float | None = 50.0, brief: str = "Make it faster.", **about: Any
) -> Step:
    """A step in a fresh worktree below `root`; called again, the same step gone on with."""
    folder = root / "tree" / "kernels" / "toy" / "cpu"
    if not folder.exists():
        folder.mkdir(parents=True)
        (folder / "kernel.h").write_text("int two = 2;\n")
        for line in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm one"):
            subprocess.run(["git", *line.split()], cwd=root / "tree", check=True)
    budget = Budget(root / "budget.jsonl", {"usd": usd})
    return Step(
        run="r1",
        number=1,
        kernel="toy",
        target="cpu",
        worktree=root / "tree",
        folder=folder,
        directory=root / "step",
        brief=brief,
        tools=about.pop("tools", tools(folder)),
        spend=budget,
        limits=Limits(**about),
    )


def vary(step: Step, **settings: Any) -> Outcome:
    """What comes of it, with a model that is looked up first."""
    claude = operator("claude", Settings(**{**QUICK, **settings}))
    claude.preflight()
    return claude.vary(step)


def left(step: Step) -> float:
    """US dollars."""
    usd = step.spend.left()["usd"]
    assert not math.isnan(usd)
    return usd
