# SPDX-License-Identifier: MIT
"""What an event asks for. Pure: whether its sender may ask is `rights`' business."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHA = re.compile(r"[0-9a-f]{40}")
LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}(\[bot\])?")
COMMAND = re.compile(r"\A\s*/avo\s+score\s+([0-9a-f]{40})\s*\Z")
PROPOSAL = re.compile(r"(?:refs/heads/)?(evolve/[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[0-9]{1,9})")
LABEL = "avo"
ACTIONS = ("opened", "synchronize", "reopened", "labeled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A proposal to be judged: a pull request or a branch `evolve/<run>/<n>`, at one commit.

    `sha` is what a comment or a dispatch names, or the head that the event saw.
    """

    sender: str
    pull: int | None = None
    ref: str = ""
    sha: str = ""  # "": the pull request's head
    by_comment: bool = False
    by_hand: bool = False  # a person's dispatch, which GitHub lets only writers start


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that asks for nothing."""

    why: str


class EventError(ValueError):
    """A payload that is not what its name says."""


def read(name: str, payload: Any) -> Asked | Ignored:
    """What the event asks for. Raises EventError."""
    if name not in _READERS:
        return Ignored(f"event {name!r} asks for no judgement")
    try:
        return _READERS[name](payload)
    except (KeyError, TypeError, AttributeError) as error:
        raise EventError(f"event {name}: {type(error).__name__}: {error}") from error


def _of_pull(payload: Mapping[str, Any]) -> Asked | Ignored:
    action, pull = payload["action"], payload["pull_request"]
    if action not in ACTIONS:
        return Ignored(f"action {action!r} asks for no judgement")
    if action == "labeled" and payload["label"]["name"] != LABEL:
        return Ignored(f"only label {LABEL!r} asks for a judgement")
    return Asked(
        sender=_login(payload["sender"]["login"]),
        pull=_number(pull["number"]),
        sha=_sha(pull["head"]["sha"]),
    )


def _of_comment(payload: Mapping[str, Any]) -> Asked | Ignored:
    body = payload["comment"]["body"]
    if payload["action"] != "created" or "pull_request" not in payload["issue"]:
        return Ignored("only new comments on pull requests are read")
    if not isinstance(body, str) or not body.lstrip().startswith("/avo"):
        return Ignored("the comment is no command")
    found = COMMAND.match(body)
    if found is None:
        return Ignored("the command is /avo score and the 40 digits of the head's SHA")
    return Asked(
        sender=_login(payload["comment"]["user"]["login"]),
        pull=_number(payload["issue"]["number"]),
        sha=found[1],
        by_comment=True,
    )


def _of_dispatch(payload: Mapping[str, Any]) -> Asked | Ignored:
    inputs = payload.get("inputs") or {}
    pull, ref, sha = (str(inputs.get(key) or "").strip() for key in ("pull", "ref", "sha"))
    sender = _login(payload["sender"]["login"])
    by_hand = not sender.endswith("[bot]")
    if sha:
        sha = _sha(sha)
    if pull:
        return Asked(sender=sender, pull=_number(pull), sha=sha, by_hand=by_hand)
    if not ref:
        raise EventError(
            "a dispatch names a pull request (pull) or a branch and its SHA (ref, sha)"
        )
    found = PROPOSAL.fullmatch(ref)
    if found is None:
        raise EventError(f"ref {ref[:80]!r} is no branch evolve/<run>/<number>")
    if not sha:
        raise EventError("a dispatch that names a branch names its commit, too (sha)")
    return Asked(sender=sender, ref=f"refs/heads/{found[1]}", sha=sha, by_hand=by_hand)


_READERS = {
    "pull_request_target": _of_pull,
    "issue_comment": _of_comment,
    "workflow_dispatch": _of_dispatch,
}


def _sha(text: Any) -> str:
    if not isinstance(text, str) or not SHA.fullmatch(text):
        raise EventError(f"{str(text)[:80]!r} is no full SHA")
    return text


def _number(value: Any) -> int:
    text = str(value)
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise EventError(f"{text[:80]!r} is no number of a pull request")
    return int(text)


def _login(text: Any) -> str:
    if not isinstance(text, str) or not LOGIN.fullmatch(text):
        raise EventError(f"{str(text)[:80]!r} is no login")
    return text
