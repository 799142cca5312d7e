# SPDX-License-Identifier: MIT
"""A step with all its tools in a scratch repository: real git, the real judge, a simulated device.

world = step_in(tmp_path); world.call("score", mode="quick")
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from agent.budget import Budget
from agent.evaluate import Evaluator
from agent.knowledge import Knowledge
from agent.memory import Memory
from agent.step import Result, Tool
from agent.tools import toolbox
from agent.workspace import Workspace

RUN = "r1"
POLICY = "replicates = 8\nscreen_blocks = 24\nconfirm_blocks = 4"


@dataclass
class World:
    """Everything of one step."""

    root: Path
    home: Path
    workspace: Workspace
    evaluator: Evaluator
    spend: Budget
    tools: dict[str, Tool]
    worktree: Path

    @property
    def folder(self) -> Path:
        return self.workspace.folder(1)

    def call(self, name: str, **given: Any) -> Result:
        return self.tools[name].run(given)

    def scored(self, mode: str = "quick", **given: Any) -> Result:
        ticket = self.call("score", mode=mode, **given)
        assert not ticket.is_error, ticket.text
        return self.call("wait", ticket=ticket.facts["ticket"])


def simulated() -> ModuleType:
    """The helper that writes repositories with a simulated device."""
    path = Path(__file__).parent / "simulated_repository.py"
    spec = importlib.util.spec_from_file_location("simulated_repository", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)
    spec.loader.exec_module(module)
    return module


def git(root: Path, *line: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@localhost", *line],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def repository(root: Path) -> Path:
    """A repository with `toy` on main, for a simulated device."""
    root.mkdir(parents=True)
    simulated().write(root, POLICY)
    (root / ".gitignore").write_text(".avo/\n")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "-A")
    git(root, "commit", "--quiet", "-m", "Begin")
    return root


def step_in(
    root: Path, *, kernel: str = "toy", target: str = "simulated", shell: bool = False,
    device: str | None = "simulated", limits: dict[str, float] | None = None,
    options: tuple[str, ...] = (),
) -> World:  # fmt: skip
    """Step 1 of a run in a repository."""
    home = root / ".avo" / "evolve" / RUN
    workspace = Workspace(root, home)
    workspace.begin(RUN, kernel, target)
    evaluator = Evaluator(root, kernel, target, device, options, home=home / "evaluations")
    spend = Budget(home / "budget.jsonl", limits or {})
    worktree = workspace.worktree(1)
    found = toolbox(
        worktree, workspace.folder(1), workspace=workspace, evaluator=evaluator, spend=spend,
        knowledge=Knowledge(), memory=Memory.of(root, kernel, target), lineage_root=root,
        shell=shell,
    )  # fmt: skip
    tools = {tool.name: tool for tool in found}
    return World(root, home, workspace, evaluator, spend, tools, worktree)
