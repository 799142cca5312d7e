# SPDX-License-Identifier: MIT
"""`avo doctor --github` against GitHub's interface on loopback: what is missing, and its fix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avo_pytest import gates
from avo_pytest.ci import advice, rulesets
from avo_pytest.ci.github import GitHub
from avo_pytest.loading import _module

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
github_api = _module(TESTS / "github_api.py")
APP = {"actor_id": 7, "actor_type": "Integration", "bypass_mode": "always"}
ADMIN = {"actor_id": 5, "actor_type": "RepositoryRole", "bypass_mode": "pull_request"}


def ruleset(wanted: Any, number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": number, "name": wanted.name, "target": "branch", "enforcement": "active",
        "conditions": {"ref_name": {"include": [wanted.branch], "exclude": []}},
        "bypass_actors": [APP, *([ADMIN] if wanted.reviewed else [])],
        "rules": [{"type": rule} for rule in wanted.rules],
        **changes,
    }  # fmt: skip


def complete(github: Any) -> None:
    """A repository that lacks nothing."""
    said: dict[str, Any] = {
        "actions/permissions": {"enabled": True, "allowed_actions": "all"},
        "actions/permissions/workflow": {
            "default_workflow_permissions": "read", "can_approve_pull_request_reviews": False,
        },
        "actions/variables": {"total_count": 2, "variables": [
            {"name": "AVO_GATE", "value": "on"}, {"name": "AVO_APP_CLIENT_ID", "value": "Iv1"},
        ]},
        "labels/avo": {"name": "avo"},
        "git/matching-refs/heads/avo-results": [{"ref": "refs/heads/avo-results"}],
        "rulesets": [{"id": n, "target": "branch", "enforcement": "active"} for n in range(3)],
        "pages": {"build_type": "workflow"},
    }  # fmt: skip
    for number, wanted in enumerate(rulesets.WANTED):
        said[f"rulesets/{number}"] = ruleset(wanted, number)
    for name, kept in (("promote", ["AVO_APP_KEY"]),
                       ("evolve", ["ANTHROPIC_API_KEY", "AVO_PROPOSER_TOKEN"])):  # fmt: skip
        said[f"environments/{name}"] = {
            "name": name,
            "deployment_branch_policy": {"custom_branch_policies": True},
        }
        said[f"environments/{name}/deployment-branch-policies"] = {
            "branch_policies": [{"name": "main"}]
        }
        said[f"environments/{name}/secrets"] = {"secrets": [{"name": n} for n in kept]}
    for path, answer in said.items():
        github.extra["GET", path] = (200, answer)
    github.add_runner("cpu1", "self-hosted", "cpu")
    github.add_runner("h100", "self-hosted", "gpu", "h100")
    github.add_runner("b200", "self-hosted", "gpu", "b200")


@pytest.fixture
def github() -> Iterator[Any]:
    with github_api.serve("owner/name") as found:
        complete(found)
        yield found


def doctor(github: Any, *line: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "avo_pytest", "doctor", "--github", *line], cwd=ROOT,
        capture_output=True, text=True, timeout=100, env={**os.environ, **github.environment()},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def lines(done: Any) -> dict[str, str]:
    """What → the state, of lines that begin with one."""
    return {
        line[8:40].strip(): line[:7].strip()
        for line in done.stdout.splitlines()
        if line.startswith(("ok ", "missing "))
    }


def test_a_repository_that_lacks_nothing(github: Any) -> None:
    done = doctor(github)
    assert done.returncode == 0, done.stdout
    assert set(lines(done).values()) == {"ok"}
    assert {e.method for e in github.exchanges} == {"GET"}  # it changes nothing
    script = doctor(github, "--script").stdout
    assert "gh " not in script


@pytest.mark.parametrize(
    ("path", "answer", "what", "fix"),
    [
        ("actions/permissions", {"enabled": False}, "actions", "actions/permissions"),
        (
            "actions/permissions/workflow", {"default_workflow_permissions": "write"},
            "token of jobs", '"default_workflow_permissions": "read"',
        ),
        ("actions/variables", {"variables": []}, "AVO_GATE", "gh variable set AVO_GATE"),
        ("environments/promote", None, "environment promote", "environments/promote"),
        (
            "environments/promote", {"deployment_branch_policy": None},
            "environment promote", "deployment-branch-policies",
        ),
        ("environments/evolve/secrets", {"secrets": []}, "ANTHROPIC_API_KEY", "gh secret set"),
        ("rulesets", [], "ruleset refs/heads/main", "RECORDER_APP_ID"),
        ("labels/avo", None, "label", "gh label create avo"),
        ("git/matching-refs/heads/avo-results", [], "ledger", "avo init --remote"),
        ("pages", {"build_type": "legacy"}, "pages", '"build_type": "workflow"'),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_its_fix(github, path, answer, what, fix):
    github.extra["GET", path] = (
        (200, answer) if answer is not None else (404, {"message": "Not Found"})
    )
    client = GitHub.from_environment(github.environment())
    missing = {a.what: a.fix for a in advice.examine(client, gates.load(ROOT)) if not a.ok}
    assert fix in missing[what]


@pytest.mark.parametrize(
    "change",
    [
        {"enforcement": "evaluate"},
        {"rules": [{"type": "deletion"}]},
        {"conditions": {"ref_name": {"include": ["refs/heads/other"], "exclude": []}}},
        {"conditions": {"ref_name": {"include": ["~ALL"], "exclude": ["refs/heads/main"]}}},
        {"bypass_actors": [{**ADMIN, "bypass_mode": "always"}]},
    ],
)
def test_a_ruleset_with_a_hole_is_none(change):
    wanted = rulesets.WANTED[0]
    whole = ruleset(wanted, 0)
    active = [r for r in ({**whole, **change},) if r["enforcement"] == "active"]
    assert rulesets.missing(wanted, [whole]) == ()
    assert rulesets.missing(wanted, active)


def test_what_a_fix_makes_is_what_the_check_asks_for():
    for wanted in rulesets.WANTED:
        made = json.loads(
            rulesets.body(wanted).replace(
                f"${{{wanted.app}:?set it to the number of that GitHub App}}", "7"
            )
        )
        assert rulesets.missing(wanted, [made]) == ()


def test_the_script_is_shell_whatever_names_say(github: Any, tmp_path: Path) -> None:
    github.extra["GET", "rulesets"] = (200, [])
    github.extra["GET", "environments/promote"] = (404, {"message": "no\n; touch hacked"})
    github.runners.clear()
    github.add_runner("evil\n$(touch hacked)", "self-hosted", "x\ntouch hacked", online=False)
    script = doctor(github, "--script").stdout
    gh = tmp_path / "gh"
    gh.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\ncat > /dev/null\n')
    gh.chmod(0o755)
    avo = tmp_path / "avo"
    avo.write_text("#!/bin/sh\n")
    avo.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RECORDER_APP_ID": "1"}
    done = subprocess.run(["sh"], input=script, cwd=tmp_path, capture_output=True, text=True,
                          env=environment)  # fmt: skip
    assert done.returncode != 0 and "PROPOSER_APP_ID" in done.stderr  # asks for what it needs
    environment["PROPOSER_APP_ID"] = "2"
    done = subprocess.run(["sh"], input=script, cwd=tmp_path, capture_output=True, text=True,
                          env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text()
    assert "environments/promote" in asked and "rulesets" in asked
    assert not (tmp_path / "hacked").exists()


def test_a_token_that_may_not_look_is_told_so(github: Any) -> None:
    for path in ("actions/permissions", "rulesets", "actions/runners"):
        github.fail("GET", path, status=403, message="Resource not accessible", times=9)
    done = doctor(github)
    assert done.returncode == 1 and "cannot be seen" in done.stdout


def test_a_github_that_cannot_be_asked_is_an_error(github: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "avo_pytest", "doctor", "--github", "not a name"], cwd=ROOT,
        capture_output=True, text=True, timeout=100, env={**os.environ, **github.environment()},
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("avo doctor: ")
