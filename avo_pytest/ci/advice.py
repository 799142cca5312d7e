# SPDX-License-Identifier: MIT
"""What a repository on GitHub lacks to run the gate, and the command that mends each.

Reads only. A fix is a line for the shell with `gh`, so that a person sees what is changed before
it is: `avo doctor --github OWNER/NAME --script | sh` is the way to do all of it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avo_pytest.ci import rulesets
from avo_pytest.ci.github import GitHub, GitHubError
from avo_pytest.gates import Gate
from avo_pytest.printable import printable

LABEL = "avo"
RECORDER, PROPOSER = "promote", "evolve"
SWITCHES = ("AVO_GATE", "AVO_EVOLVE", "AVO_PAGES", "AVO_ATTEST")


@dataclass(frozen=True, slots=True)
class Advice:
    """One line of the report; `fix` is shell, or a sentence in a comment."""

    what: str
    detail: str
    ok: bool = True
    fix: str = ""


def examine(github: GitHub, gates: Sequence[Gate]) -> Iterator[Advice]:
    """All of it, in the order in which somebody sets it up."""
    checks: tuple[Callable[[], Iterator[Advice]], ...] = (
        lambda: _repository(github),
        lambda: _actions(github),
        lambda: _environments(github),
        lambda: _rulesets(github),
        lambda: _label(github),
        lambda: _ledger(github),
        lambda: _runners(github, gates),
        lambda: _pages(github),
        lambda: _variables(github),  # the switch comes last
    )
    for check in checks:
        try:
            yield from check()
        except GitHubError as error:
            if error.status not in (401, 403, 404):
                raise
            hint = "# ask with a token that may read administration, actions and environments"
            yield Advice(error.path.rpartition("/")[2], f"cannot be seen: {error}", False, hint)


def script(found: Sequence[Advice], repository: str) -> str:
    """Every fix as one shell script."""
    lines = [
        "#!/bin/sh",
        f"# What {repository} lacks for the gate. Read it, then run it.",
        "set -eu",
    ]
    for advice in found:
        if advice.fix:
            told = printable(f"{advice.what}: {advice.detail}", " ")  # one line, whatever it says
            lines += ["", f"# {told}", advice.fix]
    return "\n".join(lines) + "\n"


def _repository(github: GitHub) -> Iterator[Advice]:
    found = github.get("")
    owner = found.get("owner", {})
    kind = {"User": "a personal account", "Organization": "an organisation"}.get(
        owner.get("type", ""), "an account"
    )
    private = bool(found.get("private"))
    yield Advice("repository", f"{'private' if private else 'public'}, of {kind}")
    if owner.get("type") == "Organization":
        plan = ((github.find(f"/orgs/{owner['login']}") or {}).get("plan") or {}).get("name")
        yield Advice("plan", plan or "not told to this token")
    elif private:
        yield Advice(
            "plan",
            "rulesets and environments of private repositories need a paid plan",
            False,
            "# GitHub Pro, Team or Enterprise; a public repository needs none",
        )
    branch = found.get("default_branch")
    path = _path(github, f"branches/{branch}/rename")
    rename = f"gh api --method POST {path} -f new_name=main"
    yield Advice(
        "default branch", str(branch), branch == "main", "" if branch == "main" else rename
    )


def _actions(github: GitHub) -> Iterator[Advice]:
    found = github.get("actions/permissions")
    path = _path(github, "actions/permissions")
    on = bool(found.get("enabled"))
    fix = _call("PUT", path, {"enabled": True, "allowed_actions": "all"})
    yield Advice(
        "actions", "enabled" if on else "disabled, as in every new fork", on, "" if on else fix
    )
    given = github.get("actions/permissions/workflow")
    tight = given.get("default_workflow_permissions") == "read" and not given.get(
        "can_approve_pull_request_reviews"
    )
    fix = _call(
        "PUT",
        f"{path}/workflow",
        {"default_workflow_permissions": "read", "can_approve_pull_request_reviews": False},
    )
    text = "read only" if tight else "may write, or approve pull requests, unless a job says less"
    yield Advice("token of jobs", text, tight, "" if tight else fix)


def _variables(github: GitHub) -> Iterator[Advice]:
    named = {v["name"]: v["value"] for v in github.pages("actions/variables", key="variables")}
    for name in SWITCHES:
        on = named.get(name) == "on"
        needed = name == "AVO_GATE"
        fix = f"gh variable set {name} --body on --repo {shlex.quote(github.repository)}"
        text = "on" if on else f"off{'' if needed else ' (optional)'}: {_SWITCH[name]}"
        yield Advice(name, text, on or not needed, "" if on or not needed else fix)
    app = named.get("AVO_APP_CLIENT_ID")
    yield Advice(
        "AVO_APP_CLIENT_ID",
        app or "not set: the job's own token moves main, which no ruleset can single out",
        bool(app),
        ""
        if app
        else f"# make a GitHub App (contents: write, nothing else), install it here, then:\n"
        f"# gh variable set AVO_APP_CLIENT_ID --body CLIENT_ID --repo {github.repository}\n"
        f"# gh secret set AVO_APP_KEY --env {RECORDER} --repo {github.repository} < app.pem",
    )


_SWITCH = {
    "AVO_GATE": "no proposal is looked at",
    "AVO_EVOLVE": "the agent does not run",
    "AVO_PAGES": "no page is deployed",
    "AVO_ATTEST": "no verdict is attested (private repositories: Enterprise only)",
}


def _environments(github: GitHub) -> Iterator[Advice]:
    for name in (RECORDER, PROPOSER):
        found = github.find(f"environments/{name}")
        path = _path(github, f"environments/{name}")
        policy = {"protected_branches": False, "custom_branch_policies": True}
        fix = "\n".join(
            [
                _call("PUT", path, {"deployment_branch_policy": policy}),
                _call("POST", f"{path}/deployment-branch-policies", {"name": "main"}),
            ]
        )
        if found is None:
            yield Advice(f"environment {name}", "is not there", False, fix)
            continue
        branches = _branches(github, name, found)
        ok = branches == ["main"]
        text = f"branches {', '.join(branches) or 'of any name'}"
        yield Advice(f"environment {name}", text, ok, "" if ok else fix)
        yield from _secrets(github, name)


def _branches(github: GitHub, name: str, found: Mapping[str, Any]) -> list[str]:
    if not (found.get("deployment_branch_policy") or {}).get("custom_branch_policies"):
        return []
    listed = github.pages(f"environments/{name}/deployment-branch-policies", key="branch_policies")
    return sorted(str(policy["name"]) for policy in listed)


def _secrets(github: GitHub, name: str) -> Iterator[Advice]:
    wanted = {RECORDER: ("AVO_APP_KEY",), PROPOSER: ("ANTHROPIC_API_KEY", "AVO_PROPOSER_TOKEN")}
    there = {s["name"] for s in github.pages(f"environments/{name}/secrets", key="secrets")}
    for secret in wanted[name]:
        ok = secret in there
        fix = f"# gh secret set {secret} --env {name} --repo {github.repository}"
        yield Advice(secret, "set" if ok else f"not set in {name}", ok, "" if ok else fix)


def _rulesets(github: GitHub) -> Iterator[Advice]:
    active = [
        github.get(f"rulesets/{found['id']}")
        for found in github.pages("rulesets")
        if found.get("enforcement") == "active" and found.get("target") == "branch"
    ]
    for wanted in rulesets.WANTED:
        lacking = rulesets.missing(wanted, active)
        path = _path(github, "rulesets")
        fix = f"gh api --method POST {path} --input - <<END\n{rulesets.body(wanted)}\nEND"
        text = f"not forbidden to others: {', '.join(lacking)}" if lacking else "guarded"
        yield Advice(f"ruleset {wanted.branch}", text, not lacking, fix if lacking else "")


def _label(github: GitHub) -> Iterator[Advice]:
    ok = github.find(f"labels/{LABEL}") is not None
    fix = f"gh label create {LABEL} --description 'judge this proposal' --repo {github.repository}"
    yield Advice("label", LABEL if ok else f"{LABEL!r} is not there", ok, "" if ok else fix)


def _ledger(github: GitHub) -> Iterator[Advice]:
    ok = bool(github.find("git/matching-refs/heads/avo-results"))
    text = "branch avo-results" if ok else "there is no branch avo-results"
    yield Advice("ledger", text, ok, "" if ok else "avo init --remote origin")


def _runners(github: GitHub, gates: Sequence[Gate]) -> Iterator[Advice]:
    runners = list(github.pages("actions/runners", key="runners"))
    for labels, names in _by_labels(gates).items():
        fitting = [r for r in runners if set(labels) <= {x["name"] for x in r["labels"]}]
        online = [r["name"] for r in fitting if r["status"] == "online"]
        text = f"{', '.join(labels)}: {', '.join(online) or 'none online'} (for {', '.join(names)})"
        fix = "" if online else f"# docs/runners.md; a runner with the labels {', '.join(labels)}"
        yield Advice("runner", text, bool(online), fix)


def _by_labels(gates: Sequence[Gate]) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for gate in gates:
        found.setdefault(gate.labels, []).append(f"{gate.kernel}/{gate.target}")
    return found


def _pages(github: GitHub) -> Iterator[Advice]:
    found = github.find("pages")
    ok = found is None or found.get("build_type") == "workflow"
    fix = _call("PUT", _path(github, "pages"), {"build_type": "workflow"})
    text = "off (optional)" if found is None else f"built by {found.get('build_type')}"
    yield Advice("pages", text, ok, "" if ok else fix)


def _path(github: GitHub, below: str) -> str:
    return shlex.quote(f"repos/{github.repository}/{below}")


def _call(method: str, path: str, body: Mapping[str, Any]) -> str:
    return f"gh api --method {method} {path} --input - <<'END'\n{json.dumps(body)}\nEND"
