# SPDX-License-Identifier: MIT
"""A step's proposal as a branch and a pull request, from the proposer's own fork.

The proposer can push to its fork and open pull requests, nothing else: the gate of the upstream
repository scores and lands. Whatever a model wrote is quoted as text, never as markup.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.clone import git
from agent.config import ConfigurationError
from agent.run import Run
from agent.state import PROPOSED, QUEUED, VARIED, StepState
from avo_pytest.printable import printable

if TYPE_CHECKING:
    from avo_pytest.ci.github import GitHub
    from avo_pytest.entries import Entry

REMOTE = "AVO_PROPOSER_REMOTE"  # the fork to push to: a remote's name, a URL or a path
HEAD = "AVO_PROPOSER_OWNER"  # of the fork, where it is not the repository's own owner
MARK = "<!-- avo-proposal -->"
MOST_TEXT = 4000
SUPERSEDED = "Superseded by {}: a newer run for the same kernel and target."


def offer(run: Run, step: StepState) -> dict[str, Any]:
    """Push the branch and, where asked for, open or update its pull request. Safe to repeat."""
    remote = os.environ.get(REMOTE) or run.clone.remote
    branch = push(run, step, remote)
    if not run.plan.pull_requests:
        return {"branch": branch, "pull": None}
    github = _github()
    owner = os.environ.get(HEAD) or github.repository.split("/")[0]
    _supersede(run, step, github, owner)
    head = f"{owner}:{branch}"
    known = next(iter(github.get("pulls", head=head, state="open")), None)
    text = {"title": _title(run, step), "body": body(run, step)}
    if known is None:
        made = github.post("pulls", {**text, "head": head, "base": "main"})
        return {"branch": branch, "pull": made["number"]}
    github.patch(f"pulls/{known['number']}", text)
    return {"branch": branch, "pull": known["number"]}


def conclude(run: Run, step: StepState, entry: Entry) -> None:
    """Close what was not landed; the gate closes what was, with the commit it landed as."""
    pull = step.fact(QUEUED, "pull")
    if pull and entry.version is None:
        github = _github()
        if github.get(f"pulls/{pull}")["state"] == "open":
            github.patch(f"pulls/{pull}", {"state": "closed"})


def closed(step: StepState) -> str:
    """That a step's pull request was closed, in a sentence; empty: it is open, or there is none."""
    pull = step.fact(QUEUED, "pull")
    if not pull or _github().get(f"pulls/{pull}")["state"] == "open":
        return ""
    return f"its pull request #{pull} was closed without a verdict"


def body(run: Run, step: StepState) -> str:
    """Idea, evidence, attempts and how to measure it again."""
    given: Mapping[str, Any] = step.fact(VARIED, "submission", {})
    place, commit = f"{run.plan.kernel}/{run.plan.target}", step.fact(PROPOSED, "commit")
    parts = [
        MARK,
        f"A proposal for `{place}` by {quoted(str(step.fact(PROPOSED, 'author')))}, made with the "
        f"operator `{run.operator.name}` in step {step.number} of run `{run.plan.run}`.",
        f"### Idea\n\n{quoted(str(given.get('idea', '')))}",
        f"### Rationale\n\n{quoted(str(given.get('rationale', '')) or 'none given')}",
        f"### Evidence\n\n{_figures(given)}\n\n{table(step)}",
        "### Measure it again\n\n```\n"
        f"git fetch origin {branch_of(run, step)}\n"
        f"pytest --avo-score --avo-mode confirm --avo-kernel {run.plan.kernel} "
        f"--avo-target {run.plan.target} --avo-candidate {commit}\n```",
        "These figures are the proposer's own and decide nothing: the gate measures again.",
    ]
    return "\n\n".join(parts)


def branch_of(run: Run, step: StepState) -> str:
    """The name of a step's branch, without `refs/heads/`."""
    return f"evolve/{run.spaces[step.island].place.run}/{step.number}"


def push(run: Run, step: StepState, remote: str) -> str:
    """Put a step's proposal onto a remote, under its own name; the name."""
    branch, commit = branch_of(run, step), str(step.fact(PROPOSED, "commit"))
    # Its own branch, which nobody else writes: a new attempt at a step may replace it.
    git(run.clone.root, "push", "--quiet", "--force", "--", remote, f"{commit}:refs/heads/{branch}")
    return branch


def table(step: StepState) -> str:
    """The scored attempts of a step as a table."""
    if not step.attempts:
        return "No attempt was scored."
    rows = ["| attempt | mode | verdict | gain | correct | why |", "|---|---|---|---|---|---|"]
    for number, event in enumerate(step.attempts, 1):
        facts = event.facts
        gain = "" if facts.get("gain") is None else f"{facts['gain']:+.2%}"
        cells = (
            number, facts.get("mode", ""), facts.get("verdict", ""), gain,
            "yes" if facts.get("correct") else "no", quoted(str(facts.get("reason", ""))[:160]),
        )  # fmt: skip
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows)


def quoted(text: str) -> str:
    """Somebody's text so that it mentions nobody, links nothing and formats nothing."""
    plain = printable(text[:MOST_TEXT], " ")
    escaped = re.sub(r"([\\`*_\[\]#|~>&<])", r"\\\1", plain)
    return re.sub(r"(?<=[@#])(?=\w)|(?<=:)(?=//)|(?<=www)(?=\.)", "\u200b", escaped)


def _figures(given: Mapping[str, Any]) -> str:
    said = {"expected": given.get("expected_gain"), "measured": given.get("measured_gain")}
    known = [f"{name} gain {value:+.2%}" for name, value in said.items() if value is not None]
    return "; ".join(known) or "no gain was stated"


def _title(run: Run, step: StepState) -> str:
    idea = printable(str(step.fact(PROPOSED, "idea")), " ")
    return f"{run.plan.kernel}/{run.plan.target}: {idea}"[:200]


def _supersede(run: Run, step: StepState, github: GitHub, owner: str) -> None:
    """Close what earlier runs of this proposer left open for the same kernel and target. Within a
    run no more are opened than may be; what a run beside this one opens later is its own."""
    own = tuple(f"evolve/{space.place.run}/" for space in run.spaces)
    place = f"{run.plan.kernel}/{run.plan.target}: "
    begun = datetime.fromisoformat(run.plan.created)
    for pull in list(github.pages("pulls", state="open")):
        name, ref = str(pull["head"]["label"]), str(pull["head"]["ref"])
        ours = name == f"{owner}:{ref}" and ref.startswith("evolve/") and not ref.startswith(own)
        ours = ours and MARK in (pull["body"] or "") and pull["title"].startswith(place)
        if ours and datetime.fromisoformat(pull["created_at"]) <= begun:
            said = SUPERSEDED.format(f"step {step.number} of run {run.plan.run}")
            github.post(f"issues/{pull['number']}/comments", {"body": said})
            github.patch(f"pulls/{pull['number']}", {"state": "closed"})


def _github() -> GitHub:
    from avo_pytest.ci.github import GitHub, GitHubError

    try:
        return GitHub.from_environment()
    except GitHubError as error:
        raise ConfigurationError(
            f"--pull-requests needs GITHUB_REPOSITORY=owner/name and GITHUB_TOKEN: {error.message}"
        ) from error
