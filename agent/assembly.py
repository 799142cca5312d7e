# SPDX-License-Identifier: MIT
"""From a plan to a run whose parts are open; and closed again, however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent import operators, preflight
from agent.budget import Budget
from agent.clone import Clone, prepare
from agent.config import Settings, load_settings
from agent.evaluate import Evaluator
from agent.knowledge import OURS, Knowledge
from agent.live import View
from agent.memory import Memory
from agent.run import Run
from agent.state import OPENED, Journal, Plan
from agent.step import Operator, Spend
from agent.supervisor import Ask
from agent.workspace import Workspace
from avo_pytest.score import Record


@contextlib.contextmanager
def opened(root: Path, home: Path, plan: Plan, view: View) -> Iterator[Run]:
    """A run that can be gone on with. Raises ConfigurationError, Disturbed, StateError."""
    with contextlib.ExitStack() as stack:
        journal = Journal(home, view.event)
        stack.callback(journal.close)
        clone = prepare(root, home, plan.remote)
        evaluator = Evaluator(
            clone.root, plan.kernel, plan.target, plan.device, plan.score_arguments
        )
        stack.callback(evaluator.close)
        settings, knowledge = _settings(root, plan)
        limits = {"usd": plan.max_usd, "hours": plan.max_hours, "gpu_seconds": plan.max_gpu_seconds}
        budget = Budget(home / "budget.jsonl", limits)
        stack.callback(budget.close)
        view.watch(lambda: journal.history, budget.spent)
        operator = operators.operator(plan.operator, settings)
        record = preflight.check(
            plan, clone, operator, evaluator, say=view.say,
            left_s=lambda: 3600 * budget.left()["hours"],
        )  # fmt: skip
        operator = _told_device(operator, plan, settings, record)
        confirm_s = preflight.confirm_s(plan, clone, record) if plan.score_via == "local" else 0.0
        preflight.fits(plan, confirm_s)
        journal.append(OPENED, main=clone.tip(), device=_device(record), confirm_s=confirm_s)
        yield Run(
            plan=plan,
            home=home,
            journal=journal,
            clone=clone,
            spaces=_spaces(plan, home, clone),
            evaluator=evaluator,
            operator=operator,
            spend=budget,
            spent=budget.spent,
            settings=settings,
            knowledge=knowledge,
            memory=Memory.of(root, plan.kernel, plan.target),
            ask=_ask(operator, budget),
            confirm_s=confirm_s,
        )


def _settings(root: Path, plan: Plan) -> tuple[Settings, Knowledge]:
    settings = load_settings(root, **plan.operator_settings)
    folders = [OURS, *((root / folder).resolve() for folder in settings.knowledge)]
    knowledge = Knowledge(folders)
    return replace(settings, knowledge_index=knowledge.index()), knowledge


def _told_device(operator: Operator, plan: Plan, settings: Settings, record: Record) -> Operator:
    """The operator again with the device's facts, which are part of its cached prompt."""
    if settings.device or plan.operator == "sweep":
        return operator
    told = operators.operator(plan.operator, replace(settings, device=_device(record)))
    told.preflight()
    return told


def _device(record: Record) -> str:
    named = ("device", "cpus", "threads", "isa", "driver", "compiler", "power_limit_w")
    facts = [f"{k}: {record.environment[k]}" for k in named if record.environment.get(k)]
    return "\n".join(facts)


def _spaces(plan: Plan, home: Path, clone: Clone) -> list[Workspace]:
    """One an island, each with branches of its own; `main` is common."""
    spaces = []
    for island in range(plan.islands):
        name = plan.run if plan.islands == 1 else f"{plan.run}-{island}"
        space = Workspace(clone.root, home / "islands" / str(island))
        space.home.mkdir(parents=True, exist_ok=True)
        space.begin(name, plan.kernel, plan.target)
        spaces.append(space)
    return spaces


def _ask(operator: Operator, spend: Spend) -> Ask | None:
    """The supervisor asks the operator's model, where it has one."""
    model: Any = getattr(operator, "model", None)
    if model is None:
        return None
    return lambda system, text: str(model.complete(system, text, spend=spend))
