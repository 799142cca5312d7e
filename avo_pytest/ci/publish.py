# SPDX-License-Identifier: MIT
"""Job `publish`: tell what was recorded: check run, one comment, label, page. Safe to run again.

It comes after `record` and changes nothing that counts: a failure here is a missing notice.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avo_pytest import ledger
from avo_pytest.branches import GitError, Remote, opened
from avo_pytest.ci import comment, order, outputs
from avo_pytest.ci.github import GitHub, GitHubError
from avo_pytest.ci.order import IGNORED, Order, OrderError
from avo_pytest.entries import Damaged, Entry

FILE = "outcome.json"
CHECK = "avo/verdict"
BOT = "github-actions[bot]"
LABELS = "avo:"
CLOSED = (comment.PROMOTED,)


def run(arguments: argparse.Namespace) -> int:
    """0 told, 1 something could not be told."""
    try:
        outcome = order.read_json(arguments.outcome / FILE)
        if outcome is None or not (arguments.intake / order.FILE).is_file():
            outputs.say("nothing was recorded, nothing is told")
            return 0 if outcome is not None or (arguments.intake / IGNORED).exists() else 1
        found = order.load(arguments.intake)
        entry = _entry(arguments.root, str(outcome.get("entry", "")))
        text = comment.body(found, outcome, entry, _links(found))
        outputs.summarise(text)
        if os.environ.get("GITHUB_REPOSITORY"):
            _tell(found, outcome, text)
        else:  # by hand
            print(text)
        if arguments.page is not None:
            return _page(arguments)
    except (OrderError, GitHubError, GitError, Damaged, OSError) as error:
        outputs.say(f"avo ci publish: {error}")
        return 1
    return 0


def _tell(found: Order, outcome: Mapping[str, Any], text: str) -> None:
    """The check first: it is what a ruleset may ask for."""
    if not found.proposal:
        return
    github = GitHub.from_environment()
    told = outcome.get("recorded", True)
    if told:
        _check(github, found, outcome, text)
    if found.pull:
        _comment(github, found, text, told=bool(told))
        if told:
            _label(github, found.pull, outcome)
        if outcome["outcome"] in CLOSED and outcome["main"] != found.proposal:
            _close(github, found)


def _check(github: GitHub, found: Order, outcome: Mapping[str, Any], text: str) -> None:
    """One a run: a second attempt changes the first one's."""
    said = {
        "name": CHECK,
        "status": "completed",
        "conclusion": comment.conclusion(outcome),
        "external_id": f"{found.run}:{found.nonce[:8]}",
        "output": {"title": comment.title(outcome), "summary": text},
    }
    if url := _links(found).get("run"):
        said["details_url"] = url
    for there in github.pages(
        f"commits/{found.proposal}/check-runs", key="check_runs", check_name=CHECK
    ):
        if there.get("external_id") == said["external_id"]:
            github.patch(f"check-runs/{there['id']}", said)
            return
    github.post("check-runs", {**said, "head_sha": found.proposal})


def _comment(github: GitHub, found: Order, text: str, *, told: bool) -> None:
    """Edit ours, or write it. One about a newer head stays, and so does a verdict where all there
    is to say is that somebody asked who may not."""
    mine = [c for c in github.pages(f"issues/{found.pull}/comments") if _ours(c)]
    if not mine:
        github.post(f"issues/{found.pull}/comments", {"body": text})
        return
    there, about = mine[0], comment.marked(mine[0]["body"])
    if not told and about == found.proposal:
        return
    if about != found.proposal and _head(github, found.pull) != found.proposal:
        return
    if there["body"].strip() != text.strip():
        github.patch(f"issues/comments/{there['id']}", {"body": text})


def _ours(raw: Mapping[str, Any]) -> bool:
    """Anybody can write our marker; only we write as ourselves."""
    login = (raw.get("user") or {}).get("login")
    return bool(comment.marked(raw.get("body"))) and login == (os.environ.get("AVO_BOT") or BOT)


def _head(github: GitHub, pull: int) -> str:
    return str(github.get(f"pulls/{pull}")["head"]["sha"])


def _label(github: GitHub, pull: int, outcome: Mapping[str, Any]) -> None:
    """One of ours: the verdict, `refused`, or none where something is waited for."""
    verdict = str(outcome.get("verdict") or "").lower()
    word = "promoted" if outcome["outcome"] == comment.PROMOTED else verdict or "refused"
    wanted = f"{LABELS}{word}"
    there = [str(x["name"]) for x in github.get(f"pulls/{pull}")["labels"]]
    for name in there:
        if name.startswith(LABELS) and name != wanted:
            github.delete(f"issues/{pull}/labels/{name}")
    if wanted not in there:
        github.post(f"issues/{pull}/labels", {"labels": [wanted]})


def _close(github: GitHub, found: Order) -> None:
    """What landed under another name is done. GitHub itself closes what landed as it is."""
    if github.get(f"pulls/{found.pull}")["state"] == "open":
        github.patch(f"pulls/{found.pull}", {"state": "closed"})


def _links(found: Order) -> dict[str, str]:
    server = os.environ.get("GITHUB_SERVER_URL", "")
    if not server.startswith("https://") or not found.repository:
        return {}
    base = f"{server}/{found.repository}"
    shown = {"ledger": f"{base}/tree/avo-results"}
    return {**shown, "run": f"{base}/actions/runs/{found.run}"} if found.run else shown


def _entry(root: Path, identity: str) -> Entry | None:
    """The line of the ledger, which `record` wrote after this job's clone was made."""
    if not identity:
        return None
    with opened(root) as repository:
        name = "origin" if "origin" in [r.name for r in repository.remotes] else "."
        tip = Remote(repository, name).tips((ledger.BRANCH,))[ledger.BRANCH]
        entries = ledger.read(repository, tip) if tip else []
    return next((e for e in entries if e.id == identity), None)


def _page(arguments: argparse.Namespace) -> int:
    from avo_pytest.commands import page

    if importlib.util.find_spec("matplotlib") is None:
        outputs.say("no page: it needs matplotlib (pip install 'avo-pytest[report]')")
        return 0
    asked = argparse.Namespace(
        out=arguments.page, kernel=None, target=None, title=None, public=True, remote="origin",
        root=arguments.root,
    )  # fmt: skip
    return page.run(asked)
