# SPDX-License-Identifier: MIT
"""A run from the command line: opened, evolved, reported; the last line says what came of it."""

from __future__ import annotations

from pathlib import Path

from agent import clone
from agent.assembly import opened
from agent.budget import Budget
from agent.calibrating import Disturbed
from agent.config import ConfigurationError
from agent.evolve import Conclusion, Exit, evolve
from agent.judging import JudgingError
from agent.live import View
from agent.report import FILE, conclusion, report
from agent.state import History, Plan, history
from avo_pytest.ci.github import GitHubError
from avo_pytest.journal import write_atomically
from avo_pytest.printable import printable


def run(root: Path, home: Path, plan: Plan) -> int:
    """Go as far as possible; the exit status."""
    view = View(plan)
    view.say(f"run {plan.run}: {plan.kernel}/{plan.target} by {plan.operator}, in {home}")
    if unseen := clone.unused_changes(root, plan.kernel, plan.target):
        view.say(f"note: {unseen}")
    ended = _evolved(root, home, plan, view)
    known = history(home)
    write_atomically(home / FILE, reported(home, plan, known))
    view.say(f"report: {home / FILE}")
    for line in _last(plan, known, ended):
        view.say(line)
    return int(ended.exit) if ended.exit is not Exit.LIMIT else int(Exit.DONE)


def reported(home: Path, plan: Plan, known: History) -> str:
    """The report of a run as it stands."""
    if not (home / "budget.jsonl").exists():
        return report(plan, known, {})
    budget = Budget(home / "budget.jsonl", {})
    try:
        return report(plan, known, budget.spent())
    finally:
        budget.close()


def _evolved(root: Path, home: Path, plan: Plan, view: View) -> Conclusion:
    try:
        with view, opened(root, home, plan, view) as open_:
            return evolve(open_)
    except Disturbed as error:
        return Conclusion(Exit.DONE, f"the machine was too disturbed to tell: {error}")
    except ConfigurationError as error:
        return Conclusion(Exit.USAGE, str(error))
    except (JudgingError, GitHubError) as error:
        return Conclusion(Exit.FAILED, str(error))
    except KeyboardInterrupt:
        return Conclusion(Exit.INTERRUPTED, f"--resume {plan.run} goes on with it")


def _last(plan: Plan, known: History, ended: Conclusion) -> list[str]:
    place = f"AVO evolve {plan.kernel}/{plan.target}"
    reason = printable(ended.reason, " ")
    match ended.exit:
        case Exit.DONE if reason.startswith("the machine"):
            return [f"{place}: {reason}"]
        case Exit.DONE:
            return [f"{place}: {printable(conclusion(known), ' ')}"]
        case Exit.LIMIT:
            return [
                f"stopped: {reason} (--resume {plan.run} with a larger one goes on)",
                f"{place}: {printable(conclusion(known), ' ')}",
            ]
        case Exit.SUSPENDED:
            return [f"{place}: {reason}; --resume {plan.run} looks again"]
        case Exit.INTERRUPTED:
            return [f"{place}: interrupted; {reason}"]
    return [f"{place}: failed: {reason}"]
