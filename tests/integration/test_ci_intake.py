# SPDX-License-Identifier: MIT
"""Who is let in: events of every kind against real git objects and GitHub's API on loopback."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from avo_pytest.branches import Remote
from avo_pytest.branches import opened as repository_at
from avo_pytest.entries import Entry
from avo_pytest.ledger import append
from avo_pytest.loading import _module

TESTS = Path(__file__).parents[1]
github_api = _module(TESTS / "github_api.py")
ci = _module(TESTS / "ci_repository.py")
MANIFEST = "kernels/toy/simulated/kernel.toml"
GOOD = 'target = "simulated"\ngain = 0.02\n'


@pytest.fixture(scope="module")
def server():
    with github_api.serve("team/kernels") as github:
        yield github


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    return ci.begin(tmp_path_factory.mktemp("begun"))


@pytest.fixture
def gate(begun, server, tmp_path):
    found = ci.copied(begun, tmp_path / "copy", server)
    server.add_runner("bench", "self-hosted", "toy")
    server.permissions["dora"] = "write"
    yield found
    for state in (server.pulls, server.comments, server.permissions, server.runners):
        state.clear()
    for events in (server.checks, server.dispatches, server.faults):
        events.clear()


def refused(gate, outputs: dict[str, str]) -> dict:
    """The refusal of an intake, whose outputs let nothing go on."""
    assert (outputs["proceed"], outputs["refused"], outputs["matrix"]) == ("false", "true", "[]")
    return gate.read("intake/refusal.json")


def told(gate, server, number: int) -> str:
    """The comment after record and publish."""
    before = gate.main()
    gate.conclude()
    assert gate.main() == before
    (comment,) = server.comments[number]
    return comment["body"]


def opened(gate, server, files=None, **changes) -> tuple[str, int]:
    files = {MANIFEST: GOOD} if files is None else files
    sha = gate.propose(changes.pop("title", "an idea"), files)
    return sha, server.open_pull(changes.pop("author", "alice"), head_sha=sha, **changes)


def test_an_order_holds_all_that_a_record_is_compared_with(gate, server):
    sha, number = opened(gate, server, title="Tiles of 64; fixes #7")
    outputs = gate.intake("pull_request_target", server.event(number, "synchronize"))
    assert outputs["proceed"] == "true"
    order = gate.read("intake/intake.json")
    assert order["proposal"] == sha and order["base"] == gate.main()
    assert order["idea"] == "Tiles of 64; fixes no. 7"
    assert (order["kernel"], order["target"]) == ("toy", "simulated")
    assert all(len(order[key]) == 64 for key in ("candidate", "incumbent", "harness"))
    assert order["candidate"] != order["incumbent"] and order["nonce"] == outputs["nonce"]
    assert (gate.run / "intake" / "candidate" / "kernel.toml").read_text() == GOOD
    again = gate.intake("pull_request_target", server.event(number, "synchronize"))
    assert again["nonce"] != outputs["nonce"] and again["landing"] == outputs["landing"]


EVIL = {
    "the judge": ({MANIFEST: GOOD, "pyproject.toml": "[tool.avo]\n"}, "mixed"),
    "a workflow": ({".github/workflows/gate.yml": "on: push\n"}, "mixed"),
    "the problem": ({MANIFEST: GOOD, "bench/toy/problem.py": "PROBLEM = None\n"}, "mixed"),
    "a conftest": ({MANIFEST: GOOD, "conftest.py": "raise SystemExit(0)\n"}, "mixed"),
    "two targets": ({MANIFEST: GOOD, "kernels/toy/cpu/kernel.toml": "x"}, "several"),
    "attributes": ({MANIFEST: GOOD, "kernels/toy/simulated/.gitattributes": "* x\n"}, "attributes"),
    "a first version": ({"kernels/toy/cpu/kernel.toml": "x"}, "seed"),
    "no judge": ({"kernels/other/simulated/kernel.toml": "x"}, "gate"),
    "only a title": ({}, "empty"),
}


def test_what_is_no_proposal_is_refused(gate, server):
    for what, (files, rule) in EVIL.items():
        if files:
            _, number = opened(gate, server, files, association="MEMBER")
        else:
            number = server.open_pull("alice", head_sha=gate.main(), association="MEMBER")
        refusal = refused(gate, gate.intake("pull_request_target", server.event(number)))
        assert (refusal["rule"], refusal["recorded"]) == (rule, True), (what, refusal)
        assert not (gate.run / "intake" / "candidate").exists(), what
    (gate.desk / "kernels/toy/simulated/passwd").symlink_to("/etc/passwd")
    _, number = opened(gate, server, association="OWNER")
    refusal = refused(gate, gate.intake("pull_request_target", server.event(number)))
    assert refusal["rule"] == "link"


def test_a_refusal_is_recorded_and_told(gate, server):
    _, number = opened(gate, server, EVIL["the judge"][0])
    refusal = refused(gate, gate.intake("pull_request_target", server.event(number)))
    text = told(gate, server, number)
    assert "changes more than one kernel's folder" in text and "pyproject.toml" in text
    assert "**What to do:** split it" in text and refusal["rule"] == "mixed"
    (entry,) = gate.entries()
    assert (entry.kind, entry.reasons[0]["rule"]) == ("refusal", "mixed")
    assert (entry.kernel, entry.target) == ("toy", "simulated")
    assert server.checks[0]["conclusion"] == "failure"
    assert server.pulls[number]["labels"] == ["avo:refused"] and server.pulls[number]["open"]


def test_a_fork_waits_for_somebody_who_may(gate, server):
    """Where the commit is on the pull request's ref only."""
    sha, number = opened(gate, server, author="mallory", head_repo="mallory/kernels",
                         association="NONE")  # fmt: skip
    ci.git(gate.bare, "update-ref", f"refs/pull/{number}/head", sha)
    ci.git(gate.bare, "update-ref", "-d", f"refs/heads/p/{sha[:12]}")
    refusal = refused(gate, gate.intake("pull_request_target", server.event(number)))
    assert refusal["rule"] == "fork" and sha in refusal["advice"]
    text = told(gate, server, number)
    assert f"/avo score {sha}" in text and "waits for a maintainer" in text
    assert [e.reasons[0]["rule"] for e in gate.entries()] == ["fork"]
    assert server.checks[0]["conclusion"] == "action_required"

    asked = f"/avo score {sha}"
    stranger = gate.intake("issue_comment", server.comment_event(number, "mallory", asked))
    assert refused(gate, stranger)["rule"] == "permission"
    other = f"/avo score {'0' * 40}"
    newer = gate.intake("issue_comment", server.comment_event(number, "dora", other))
    assert refused(gate, newer)["rule"] == "head"
    assert (
        gate.intake("issue_comment", server.comment_event(number, "dora", "/avo"))["refused"]
        == "false"
    )
    outputs = gate.intake("issue_comment", server.comment_event(number, "dora", asked))
    assert outputs["proceed"] == "true" and outputs["proposal"] == sha
    order = gate.read("intake/intake.json")
    assert order["fork"] is True and (order["author"], order["sender"]) == ("mallory", "dora")


def test_who_may_not_ask_changes_nothing(gate, server):
    sha, number = opened(gate, server)
    event = server.comment_event(number, "mallory", f"/avo score {sha}")
    assert refused(gate, gate.intake("issue_comment", event))["rule"] == "permission"
    gate.conclude()
    assert gate.entries() == [] and server.checks == [] and server.pulls[number]["labels"] == []


def test_github_is_asked_not_the_event(gate, server):
    """What the event says may be old, or somebody's."""
    _, number = opened(gate, server)
    event, before = server.event(number), dict(server.pulls[number])
    for rule, changes in (
        ("pull", {"open": False}),
        ("base", {"base_ref": "release"}),
        ("head", {"head_sha": "c" * 40}),
    ):
        server.pulls[number] = {**before, **changes}
        assert refused(gate, gate.intake("pull_request_target", event))["rule"] == rule


def test_an_author_with_many_open_proposals_waits(gate, server):
    gate.environment["AVO_OPEN_PROPOSALS"] = "2"
    for n in range(2):
        server.open_pull("alice", head_sha=f"{n:040x}")
    _, number = opened(gate, server)
    server.page_size = 1
    refusal = refused(gate, gate.intake("pull_request_target", server.event(number)))
    server.page_size = 100
    assert refusal["rule"] == "rate" and not refusal["recorded"]


def test_without_a_runner_it_is_said_at_once(gate, server):
    server.runners.clear()
    server.add_runner("bench", "self-hosted", "toy", online=False)
    _, number = opened(gate, server)
    refusal = refused(gate, gate.intake("pull_request_target", server.event(number)))
    assert refusal["rule"] == "runner" and "self-hosted, toy" in refusal["text"]
    assert "waits for a machine" in told(gate, server, number) and gate.entries() == []
    server.fail("GET", "actions/runners", status=403, message="Resource not accessible")
    assert gate.intake("pull_request_target", server.event(number))["proceed"] == "true"
    assert "cannot be seen" in gate.read("intake/intake.json")["notes"][0]
    gate.environment["AVO_RUNNERS"] = "on-demand"
    assert gate.intake("pull_request_target", server.event(number))["proceed"] == "true"


def test_the_same_question_is_not_asked_until_luck_answers(gate, server):
    _, number = opened(gate, server)
    assert gate.intake("pull_request_target", server.event(number))["proceed"] == "true"
    order = gate.read("intake/intake.json")
    known = {key: order[key] for key in ("candidate", "incumbent", "harness")}
    entry = Entry(
        id="20260101-000000-abcdef", kind="verdict", created="2026-01-01T00:00:00+00:00",
        kernel="toy", target="simulated", verdict="REJECT", identities=known,
    )  # fmt: skip
    with repository_at(gate.desk) as repository:
        append(Remote(repository, "origin"), [entry])
    subprocess.run(["git", "-C", str(gate.root), "fetch", "-q", "origin"], check=True)
    refusal = refused(gate, gate.intake("pull_request_target", server.event(number)))
    assert refusal["rule"] == "known" and entry.id in refusal["text"]
    by_hand = {"inputs": {"pull": str(number)}, "sender": {"login": "dora"}}
    assert gate.intake("workflow_dispatch", by_hand)["proceed"] == "true"
    bot = {**by_hand, "sender": {"login": "github-actions[bot]"}}
    assert refused(gate, gate.intake("workflow_dispatch", bot))["rule"] == "known"


def test_a_branch_of_the_proposer(gate, server):
    sha = gate.propose("by an agent", {MANIFEST: GOOD})
    ci.git(gate.desk, "push", "-q", "origin", f"{sha}:refs/heads/evolve/run-1/3")
    asked = {"inputs": {"ref": "evolve/run-1/3", "sha": sha}, "sender": {"login": "dora"}}
    outputs = gate.intake("workflow_dispatch", asked)
    assert (outputs["proceed"], outputs["pull"]) == ("true", "")
    moved = gate.propose("once more", {MANIFEST: GOOD + "# again\n"})
    ci.git(gate.desk, "push", "-qf", "origin", f"{moved}:refs/heads/evolve/run-1/3")
    assert refused(gate, gate.intake("workflow_dispatch", asked))["rule"] == "head"


def test_an_api_that_fails_is_a_failure_and_not_a_refusal(gate, server):
    _, number = opened(gate, server)
    server.fail("GET", rf"pulls/{number}", status=401, message="Bad credentials")
    assert gate.intake("pull_request_target", server.event(number), code=1) == {}
    assert not (gate.run / "intake" / "refusal.json").exists()


def test_an_event_that_asks_for_nothing_ends_quietly(gate, server):
    _, number = opened(gate, server)
    outputs = gate.intake("pull_request_target", server.event(number, "closed"))
    assert (outputs["proceed"], outputs["refused"]) == ("false", "false")
    assert gate.conclude()["outcome"] == "ignored"
    assert server.comments[number] == [] and gate.entries() == []
    assert gate.intake("workflow_dispatch", {"inputs": {"pull": "x"}}, code=4) == {}


def test_polling_starts_what_has_no_verdict(gate, server):
    sha, number = opened(gate, server)
    _, forked = opened(gate, server, {MANIFEST: GOOD + "# b\n"}, head_repo="mallory/kernels")
    judged, done = opened(gate, server, {MANIFEST: GOOD + "# c\n"})
    opened(gate, server, {MANIFEST: GOOD + "# d\n"}, draft=True)
    server.answer("POST", "check-runs", {}, {"name": "avo/verdict", "head_sha": judged,
                                            "conclusion": "failure"})  # fmt: skip
    for name in ("run-1/3", "run-1/work", "x"):
        ci.git(gate.bare, "update-ref", f"refs/heads/evolve/{name}", gate.main())
    gate.job("poll")
    assert server.dispatches == [
        {"workflow": "gate.yml", "ref": "main", "inputs": {"pull": str(number), "sha": sha}}
    ]
    server.dispatches.clear()
    gate.environment["AVO_HEADS"] = "on"
    gate.job("poll")
    heads = {"ref": "evolve/run-1/3", "sha": gate.main()}
    assert [d["inputs"] for d in server.dispatches][1:] == [heads]
    server.fail("POST", r"actions/workflows/gate.yml/dispatches", status=403, message="no")
    assert "HTTP 403: no" in gate.job("poll", code=1)
    assert {forked, done}.isdisjoint(int(d["inputs"].get("pull", 0)) for d in server.dispatches)


def test_a_candidate_that_does_not_compile_is_incorrect(gate, server):
    """The compiler's words reach the comment as text."""
    seed = 'target = "cpu"\n[[launch]]\nfunction = "toy"\n'
    ci.git(gate.desk, "checkout", "-q", "main")
    (gate.desk / "kernels/toy/cpu").mkdir(parents=True)
    (gate.desk / "kernels/toy/cpu/kernel.toml").write_text(seed)
    ci.git(gate.desk, "add", "-A")
    ci.git(gate.desk, "commit", "-qm", "a seed, by review")
    ci.git(gate.desk, "push", "-q", "origin", "main")
    server.add_runner("host", "self-hosted", "cpu")
    _, number = opened(gate, server, {"kernels/toy/cpu/kernel.toml": seed + "[odd]\n@x = 1\n"})
    assert gate.intake("pull_request_target", server.event(number))["proceed"] == "true"
    said = gate.job("build", code=1)
    assert "kernel.toml" in said and gate.read("build/build.json")["ok"] is False
    gate.job("verify")
    verdict = gate.read("verdict/verdict.json")
    assert (verdict["verdict"], verdict["refusal"]["rule"]) == ("INCORRECT", "build")
    text = told(gate, server, number)
    assert "### INCORRECT" in text and "@x" not in text
    assert [e.reasons[0]["rule"] for e in gate.entries()] == ["build"]


def test_what_the_artifact_of_intake_says_is_checked(gate, server):
    """The scoring machine restores exactly the files that intake saw."""
    _, number = opened(gate, server)
    gate.intake("pull_request_target", server.event(number))
    path = gate.run / "intake" / "candidate" / "kernel.toml"
    path.write_text(GOOD + "# more\n")
    assert "is not the file that intake saw" in gate.job("score", code=1)
    path.unlink()
    path.symlink_to("/etc/hostname")
    assert "kernel.toml" in gate.job("build", code=1)
    (gate.run / "intake" / "intake.json").write_text(json.dumps({"schema": 1}))
    for job in ("build", "score", "verify", "record"):
        assert "intake.json" in gate.job(job, code=1)


SCORERS = (
    (("--lock", "lock.txt"), "environment", "the lock has 0.0.1"),
    (("--lock", "odd.txt"), "order", "is not name==version"),
    (("--lock", "missing.txt"), "order", "missing.txt"),
    (("--timeout", "0.2"), "calibrate", "not done after"),
    (("--gate", "another"), "order", "gate 'another' is not in intake.json"),
)


def test_a_scorer_that_is_not_as_it_should_be_makes_no_record(gate, server):
    _, number = opened(gate, server)
    gate.intake("pull_request_target", server.event(number))
    (gate.root / "lock.txt").write_text("# all of it\nnumpy==0.0.1\npytest==0.0.1\n")
    (gate.root / "odd.txt").write_text("numpy>=2\n")
    for options, status, words in SCORERS:
        assert words in gate.job("score", *options, code=1)
        report = gate.read(f"score-{ci.GATE}/score.json")
        assert report["status"] == status and words in report["reason"]
    problem = gate.root / "bench/toy/problem.py"
    problem.write_text(problem.read_text() + "# changed\n")
    assert "this tree's harness is" in gate.job("score", code=1)
    assert not list((gate.run / f"score-{ci.GATE}").glob("record*"))
