# SPDX-License-Identifier: MIT
"""Who may move which branch: the rulesets that a gate wants, and whether a repository has them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ADMINISTRATOR = 5  # GitHub's number of that role


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruleset:
    """`app`: the shell variable with the number of the GitHub App that may do all the same.

    `reviewed`: administrators may, too, by merging a pull request.
    """

    name: str
    branch: str
    rules: tuple[str, ...]
    app: str
    reviewed: bool = False


WANTED = (
    Ruleset(
        name="avo: main is moved by the recorder, or by a reviewed change",
        branch="refs/heads/main",
        rules=("update", "deletion", "non_fast_forward", "required_linear_history"),
        app="RECORDER_APP_ID",
        reviewed=True,
    ),
    Ruleset(
        name="avo: the ledger only grows, by the recorder",
        branch="refs/heads/avo-results",
        rules=("creation", "update", "deletion", "non_fast_forward"),
        app="RECORDER_APP_ID",
    ),
    Ruleset(
        name="avo: proposals here are the proposer's",
        branch="refs/heads/evolve/**/*",
        rules=("creation", "update", "deletion"),
        app="PROPOSER_APP_ID",
    ),
)


def missing(wanted: Ruleset, active: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Rules that no active ruleset of a repository enforces there on everybody but an App."""
    best = max((_held(wanted, found) for found in active), key=len, default=frozenset())
    return tuple(rule for rule in wanted.rules if rule not in best)


def body(wanted: Ruleset) -> str:
    """What makes it, as JSON for an unquoted here-document: the App's number is put in there."""
    actors: list[dict[str, Any]] = [
        {"actor_id": "APP", "actor_type": "Integration", "bypass_mode": "always"}
    ]
    if wanted.reviewed:
        role = {"actor_id": ADMINISTRATOR, "actor_type": "RepositoryRole"}
        actors.append({**role, "bypass_mode": "pull_request"})
    text = json.dumps(
        {
            "name": wanted.name,
            "target": "branch",
            "enforcement": "active",
            "conditions": {"ref_name": {"include": [wanted.branch], "exclude": []}},
            "bypass_actors": actors,
            "rules": [{"type": rule} for rule in wanted.rules],
        }
    )
    return text.replace('"APP"', f"${{{wanted.app}:?set it to the number of that GitHub App}}")


def _held(wanted: Ruleset, found: Mapping[str, Any]) -> frozenset[str]:
    names = (found.get("conditions") or {}).get("ref_name") or {}
    covering = {wanted.branch, "~ALL"}
    if wanted.branch == "refs/heads/main":
        covering.add("~DEFAULT_BRANCH")
    if not covering & set(names.get("include") or ()) or names.get("exclude"):
        return frozenset()
    if any(not _allowed(wanted, actor) for actor in found.get("bypass_actors") or ()):
        return frozenset()
    return frozenset(rule["type"] for rule in found.get("rules") or ()) & frozenset(wanted.rules)


def _allowed(wanted: Ruleset, actor: Mapping[str, Any]) -> bool:
    if actor.get("actor_type") == "Integration":
        return True
    return wanted.reviewed and actor.get("bypass_mode") == "pull_request"
