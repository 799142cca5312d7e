# SPDX-License-Identifier: MIT
"""Pull requests over several runs of one proposer: how many are open, which are closed, and what
becomes of a step whose pull request was closed. GitHub is a service on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the agent extra is not installed")
pytest.importorskip("anthropic", reason="the agent extra is not installed")

from avo_pytest.loading import _module  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
evolving = _module(ROOT / "tests" / "evolving.py")
github_api = _module(ROOT / "tests" / "github_api.py")
messages = _module(ROOT / "tests" / "messages_api.py")
git, told = evolving.git, evolving.told

RUN = ("--operator", "claude", "--score-via", "ci", "--pull-requests", "--max-usd", "50")
MARK = "<!-- avo-proposal -->"


def proposal(request):
    """One turn: an edit of this run's own, and its submission."""
    run = "r2" if "of run r2" in str(request["messages"][0]) else "r1"
    text = f'target = "simulated"\ngain = 0.02\ncomment = "{run}"\n'
    path = "kernels/toy/simulated/kernel.toml"
    write = messages.call("write_file", {"path": path, "content": text})
    return messages.answer(write, messages.call("submit", {"idea": f"the idea of {run}"}))


def others(github):
    """Open pull requests that no run may touch: a person's, and another kernel's."""
    title = {"title": "toy/simulated: a person's own", "head_repo": "proposer/name"}
    person = github.open_pull("ada", head_sha="1" * 40, head_ref="evolve/by-hand/1", **title)
    title["title"], title["body"] = "attention/cpu: another kernel", MARK
    other = github.open_pull("proposer", head_sha="1" * 40, head_ref="evolve/r0/1", **title)
    title = {"title": "toy/simulated: somebody else's", "head_repo": "bob/name", "body": MARK}
    return [
        person,
        other,
        github.open_pull("bob", head_sha="1" * 40, head_ref="evolve/r1/1", **title),
    ]


def is_open(github, *numbers):
    return [github.pulls[number]["open"] for number in numbers]


def test_a_newer_run_supersedes_what_an_older_one_left_open(tmp_path):
    root = evolving.repository(tmp_path)
    fork = tmp_path / "fork.git"
    git(tmp_path, "init", "-q", "--bare", str(fork))
    r1, r2 = (root / ".avo" / "evolve" / name for name in ("r1", "r2"))
    with github_api.serve("owner/name", bare=fork) as github, messages.MessagesApi(proposal) as api:
        environment = {
            **github.environment(), **api.environment, "AVO_PROPOSER_REMOTE": str(fork),
            "AVO_PROPOSER_OWNER": "proposer",
        }  # fmt: skip
        strange = others(github)

        def evolve(*options):
            return evolving.evolve(root, *options, environment=environment)

        github.fail("POST", "pulls", cut=True)  # it was opened, and the answer was lost
        code, said = evolve(*RUN, "--steps", "1", "--name", "r1")
        assert code == 1 and "failed: POST" in evolving.last(said), said
        first = max(github.pulls)
        code, said = evolve("--resume", "r1")
        assert code == 3 and max(github.pulls) == first, said  # updated, not opened twice
        (change,) = [e for e in github.exchanges if e.method == "PATCH"]
        assert change.path.endswith(f"pulls/{first}") and "the idea of r1" in change.body["body"]

        code, said = evolve(*RUN, "--steps", "3", "--name", "r2")
        second = max(github.pulls)
        assert code == 3 and second > first, said
        assert told(r2, "begun", "step") == [(1,)]  # no second step while one proposal waits
        assert is_open(github, first, second, *strange) == [False, True, True, True, True]
        (comment,) = github.comments[first]
        assert "Superseded by step 1 of run r2" in comment["body"]

        code, said = evolve("--resume", "r1")
        assert code == 0 and "closed without a verdict" in said, said
        assert told(r1, "judged", "verdict") == [("CLOSED",)]
        assert is_open(github, first, second) == [False, True]
        assert "was closed without a verdict | `" in (r1 / "report.md").read_text()
        assert len(api.requests) == 2
