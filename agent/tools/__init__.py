# SPDX-License-Identifier: MIT
"""What an operator may call in a step. Names, descriptions and schemas never change within a
version: they are the first part of the cached prompt."""

from __future__ import annotations

from pathlib import Path

from agent.evaluate import Evaluator
from agent.knowledge import Knowledge
from agent.memory import Memory
from agent.step import Spend, Tool
from agent.tools import (
    console,
    files,
    inspect,
    lineage,
    recall,
    scoring,
    submission,
)
from agent.tools.tool import Pages
from agent.workspace import Workspace

AUTHOR = "avo agent (AI)"


def toolbox(
    step_worktree: Path,
    folder: Path,
    *,
    workspace: Workspace,
    evaluator: Evaluator,
    spend: Spend,
    knowledge: Knowledge,
    memory: Memory,
    lineage_root: Path,
    shell: bool,
    author: str = AUTHOR,
) -> tuple[Tool, ...]:
    """The tools of one step, sorted by name. `shell`: only where `agent.shell.refusal` is empty."""
    place, number = workspace.place, int(step_worktree.name)
    pages = Pages({step_worktree: "", evaluator.home: "", workspace.root: "(repository)"})
    own = folder.relative_to(step_worktree).parts
    judged = scoring.Scoring(folder, workspace, evaluator, spend)
    known = recall.Recall(
        knowledge=knowledge, memory=memory, run=place.run, step=number, pages=pages
    )
    ancestry = lineage.Ancestry(lineage_root, place, workspace, number)
    inspection = inspect.Inspection(step_worktree, evaluator, judged, spend)
    submitting = submission.Submitting(workspace, number, judged, author)
    found = [
        *files.tools(files.Files(step_worktree, own), pages),
        *scoring.tools(judged, pages),
        *inspect.tools(inspection, pages),
        *lineage.tools(ancestry, pages),
        *recall.tools(known),
        *submission.tools(submitting, pages),
    ]
    if shell:
        found += console.tools(console.Console(step_worktree, folder), pages)
    return tuple(sorted(found, key=lambda tool: tool.name))
