# SPDX-License-Identifier: MIT
"""Job `poll`: start the gate for heads that have no verdict: open pull requests of this repository
and, where AVO_HEADS is `on`, branches evolve/<run>/<n> that a proposer pushes.

It reads names and hashes, and starts main's own workflow; the gate decides everything else.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass

from avo_pytest.ci import outputs
from avo_pytest.ci.event import PROPOSAL, SHA
from avo_pytest.ci.github import GitHub, GitHubError
from avo_pytest.ci.publish import CHECK

AGAIN = "cancelled"
MOST = 20  # of one poll: the rest come with the next
RUNNING = ("queued", "in_progress")


@dataclass(frozen=True, slots=True)
class Head:
    """What may be judged; `inputs` are the workflow's."""

    sha: str
    inputs: dict[str, str]


def run(arguments: argparse.Namespace) -> int:
    """Dispatch; print what was started."""
    try:
        github = GitHub.from_environment()
        busy = _under_way(github, arguments.workflow)
        started = 0
        for head in _heads(github):
            if started == MOST:
                break
            if any(head.sha in title for title in busy) or _judged(github, head.sha):
                continue
            path = f"actions/workflows/{arguments.workflow}/dispatches"
            github.post(path, {"ref": arguments.branch, "inputs": head.inputs})
            outputs.say(f"started: {head.inputs}")
            started += 1
    except GitHubError as error:
        outputs.say(f"avo ci poll: {error}")
        return 1
    outputs.tell({"started": str(started)})
    return 0


def _heads(github: GitHub) -> Iterator[Head]:
    for raw in github.pages("pulls", state="open", base="main"):
        head, origin = raw["head"]["sha"], (raw["head"]["repo"] or {}).get("full_name", "")
        if SHA.fullmatch(head) and not raw.get("draft") and _same(origin, github):
            yield Head(head, {"pull": str(int(raw["number"])), "sha": head})
    if os.environ.get("AVO_HEADS") != "on":
        return
    for raw in github.get("git/matching-refs/heads/evolve/"):  # all of them on one page
        ref, head = str(raw["ref"]), str(raw["object"]["sha"])
        if PROPOSAL.fullmatch(ref) and SHA.fullmatch(head):
            yield Head(head, {"ref": ref.removeprefix("refs/heads/"), "sha": head})


def _same(origin: str, github: GitHub) -> bool:
    """Fork proposals wait for somebody with rights to ask."""
    return origin.lower() == github.repository.lower()


def _judged(github: GitHub, sha: str) -> bool:
    """Whether the last check stands: `cancelled` asks for another, against what main has now."""
    found = list(github.pages(f"commits/{sha}/check-runs", key="check_runs", check_name=CHECK))
    return bool(found) and max(found, key=lambda c: c["id"]).get("conclusion") != AGAIN


def _under_way(github: GitHub, workflow: str) -> list[str]:
    """Titles of runs that have not ended; the workflow's `run-name` holds the SHA."""
    path = f"actions/workflows/{workflow}/runs"
    titles = []
    for status in RUNNING:
        for raw in github.pages(path, key="workflow_runs", status=status):
            titles.append(str(raw.get("display_title", "")))
    return titles
