# SPDX-License-Identifier: MIT
"""May this be judged now? What GitHub says of a pull request, its author, and whoever asks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avo_pytest.ci.event import LOGIN, SHA, Asked
from avo_pytest.ci.github import GitHub, GitHubError
from avo_pytest.ci.refusal import refuse

MAIN = "main"
MAY_WRITE = ("admin", "maintain", "write")
OPEN_PROPOSALS = 5  # of one author at a time; AVO_OPEN_PROPOSALS says otherwise
TRUSTED = ("OWNER", "MEMBER", "COLLABORATOR")
ON_DEMAND = "on-demand"  # AVO_RUNNERS: runners that are registered when a job waits for them


@dataclass(frozen=True, slots=True)
class Pull:
    """What of a pull request is used; every other text of it is ignored."""

    number: int
    author: str
    head: str
    fork: bool
    draft: bool
    trusted: bool


def pull(github: GitHub, asked: Asked) -> Pull:
    """The pull request that is meant, if it may be judged. Raises Refused, GitHubError."""
    raw = github.find(f"pulls/{asked.pull}")
    if raw is None:
        raise refuse("pull", f"there is no pull request {asked.pull}", recorded=False)
    found = _pull(github, raw)
    if raw["state"] != "open":
        raise refuse("pull", f"pull request {found.number} is not open", recorded=False)
    if raw["base"]["ref"] != MAIN:
        raise refuse("base", f"it asks for another branch than {MAIN}", "change its base")
    if asked.sha and asked.sha != found.head:
        text = f"{asked.sha[:12]} is not the head, which is {found.head[:12]}"
        raise refuse("head", text, f"/avo score {found.head}", recorded=False)
    if asked.by_comment:
        _refuse_stranger(github, asked.sender)
    elif found.fork and not asked.by_hand:
        text = f"{found.head[:12]} comes from a fork: somebody with write permission has to ask"
        raise refuse("fork", text, f"a maintainer comments: /avo score {found.head}")
    _refuse_crowd(github, found)
    return found


def refuse_absent_runner(github: GitHub, gates: Sequence[Mapping[str, Any]]) -> str:
    """Refuse a gate that no online runner has the labels of; a note where that cannot be told."""
    if os.environ.get("AVO_RUNNERS", "") == ON_DEMAND:
        return "runners come on demand: whether one is there was not asked"
    try:
        runners = list(github.pages("actions/runners", key="runners"))
    except GitHubError as error:
        if error.status in (401, 403, 404):
            return "whether a runner is online cannot be seen with this token"
        raise
    for gate in gates:
        wanted = {label.lower() for label in gate["labels"]} - {"self-hosted", "linux", "x64"}
        if not any(r["status"] == "online" and wanted <= _labels(r) for r in runners):
            text = f"no runner with the labels {', '.join(gate['labels'])} is online"
            advice = f"start the runner of gate {gate['name']}; then it is looked at again"
            raise refuse("runner", text, advice, recorded=False)
    return ""


def _labels(runner: Mapping[str, Any]) -> set[str]:
    return {str(label["name"]).lower() for label in runner["labels"]}


def _pull(github: GitHub, raw: Mapping[str, Any]) -> Pull:
    head, author = raw["head"]["sha"], raw["user"]["login"]
    if not SHA.fullmatch(head) or not LOGIN.fullmatch(author):
        raise GitHubError("GET", f"pulls/{raw.get('number')}", 200, "a head or author that is none")
    origin = (raw["head"]["repo"] or {}).get("full_name", "")  # None: the fork is deleted
    return Pull(
        number=int(raw["number"]),
        author=author,
        head=head,
        fork=origin.lower() != github.repository.lower(),
        draft=bool(raw.get("draft")),
        trusted=raw.get("author_association") in TRUSTED,
    )


def _refuse_stranger(github: GitHub, login: str) -> None:
    found = github.find(f"collaborators/{login}/permission") or {}
    if found.get("permission") not in MAY_WRITE:
        text = f"{login} has no write permission here"
        raise refuse("permission", text, "ask a maintainer to comment", recorded=False)


def _refuse_crowd(github: GitHub, found: Pull) -> None:
    """One author, few open proposals: the scorer is a bottleneck, and each try is a try at luck."""
    most = int(os.environ.get("AVO_OPEN_PROPOSALS") or OPEN_PROPOSALS)
    if found.trusted:
        return
    mine = [p for p in github.pages("pulls", state="open") if _author(p) == found.author]
    if len(mine) > most:
        text = f"{found.author} has {len(mine)} open proposals, {most} are looked at"
        raise refuse("rate", text, "close some of them", recorded=False)


def _author(raw: Mapping[str, Any]) -> str:
    return str((raw.get("user") or {}).get("login", ""))
