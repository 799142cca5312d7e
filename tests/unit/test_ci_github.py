# SPDX-License-Identifier: MIT
"""The client of GitHub's REST interface, over real HTTP on loopback, with scripted faults."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from avo_pytest.ci.github import TRIES, GitHub, GitHubError
from avo_pytest.loading import _module

TESTS = Path(__file__).parents[1]
github_api = _module(TESTS / "github_api.py")
github_openapi = _module(TESTS / "github_openapi.py")


@pytest.fixture(scope="module")
def server():
    with github_api.serve("team/kernels") as fake:
        yield fake


@pytest.fixture
def fake(server):
    yield server
    server.faults.clear()
    server.page_size = 100


@pytest.fixture
def client(fake):
    """Waits in no time, and tells how long it would have."""
    waited = []
    client = GitHub("team/kernels", "secret", fake.url, timeout_s=5.0, wait=waited.append)
    return client, waited


def test_answers_and_the_token(client, fake):
    github, waited = client
    number = fake.open_pull("alice", head_sha="a" * 40)
    assert github.get(f"pulls/{number}")["user"]["login"] == "alice"
    assert fake.tokens[-1] == "Bearer secret" and waited == []
    assert github.get("/repos/team/kernels")["full_name"] == "team/kernels"
    assert "secret" not in repr(github)


def test_lists_are_read_to_the_end(client, fake):
    github, _ = client
    for n in range(7):
        fake.open_pull("carol", head_sha=f"{n:040x}")
    fake.page_size = 3
    found = [p["head"]["sha"] for p in github.pages("pulls", state="open")]
    assert set(found) >= {f"{n:040x}" for n in range(7)} and len(found) == len(set(found))
    fake.add_runner("one", "gpu")
    assert [r["name"] for r in github.pages("actions/runners", key="runners")] == ["one"]


@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        ({"status": 429, "headers": {"retry-after": "7"}}, 7),
        ({"status": 403, "headers": {"retry-after": "9"}}, 9),
        ({"status": 403, "message": "You have exceeded a secondary rate limit"}, 1),
        ({"status": 500}, 0.5),
        ({"status": 503}, 0.5),
        ({"status": 0}, 0.5),
        ({"cut": True}, 0.5),
    ],
    ids=["429", "403 retry-after", "403 in words", "500", "503", "connection lost", "cut answer"],
)
def test_what_passes_is_asked_again(client, fake, fault, waits):
    github, waited = client
    number = fake.open_pull("alice", head_sha="b" * 40)
    fake.fail("GET", rf"pulls/{number}", **fault)
    assert github.get(f"pulls/{number}")["number"] == number
    assert waited == [waits]


def test_a_timeout_is_asked_again(fake):
    github = GitHub("team/kernels", "", fake.url, timeout_s=0.5, wait=lambda _: None)
    number = fake.open_pull("alice", head_sha="c" * 40)
    fake.fail("GET", rf"pulls/{number}", status=200, delay_s=3.0)
    assert github.get(f"pulls/{number}")["number"] == number


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422])
def test_a_refusal_is_an_error_with_githubs_words(client, fake, status):
    github, waited = client
    fake.fail("PATCH", "pulls/1", status=status, message="no, because")
    with pytest.raises(GitHubError) as caught:
        github.patch("pulls/1", {"state": "closed"})
    error = caught.value
    assert (error.method, error.status, error.message) == ("PATCH", status, "no, because")
    assert str(error) == f"PATCH /repos/team/kernels/pulls/1: HTTP {status}: no, because"
    assert waited == []


def test_what_github_objects_to_is_named(client):
    github, _ = client
    with pytest.raises(GitHubError, match='HTTP 422: Validation Failed.*"field": "base"'):
        github.post("pulls", {"title": "t", "head": "x"})
    assert github.find("pulls/999999") is None


def test_it_gives_up(client, fake):
    github, waited = client
    fake.fail("GET", "pulls/1", status=502, times=99)
    with pytest.raises(GitHubError, match="HTTP 502"):
        github.get("pulls/1")
    assert len(waited) == TRIES - 1 and waited == sorted(waited)


def test_a_limit_that_lasts_for_hours_is_not_waited_for(client, fake):
    github, waited = client
    fake.fail("GET", "pulls/1", status=429, headers={"retry-after": "3600"})
    with pytest.raises(GitHubError, match="HTTP 429"):
        github.get("pulls/1")
    assert waited == []


@pytest.mark.parametrize("fault", [{"status": 502}, {"status": 0}, {"cut": True}])
def test_nothing_is_made_twice(client, fake, fault):
    """After a lost answer nobody knows whether the comment is there."""
    github, waited = client
    number = fake.open_pull("alice", head_sha="d" * 40)
    fake.fail("POST", rf"issues/{number}/comments", **fault)
    with pytest.raises(GitHubError):
        github.post(f"issues/{number}/comments", {"body": "once"})
    assert waited == [] and len(fake.comments[number]) <= 1
    fake.fail("POST", rf"issues/{number}/comments", status=429, headers={"retry-after": "1"})
    github.post(f"issues/{number}/comments", {"body": "twice"})
    assert [c["body"] for c in fake.comments[number]].count("twice") == 1


def test_removing_what_is_gone_is_no_error(client, fake):
    github, _ = client
    number = fake.open_pull("alice", head_sha="e" * 40, labels=["avo:reject"])
    github.delete(f"issues/{number}/labels/avo:reject")
    github.delete(f"issues/{number}/labels/avo:reject")
    assert fake.pulls[number]["labels"] == []


@pytest.mark.parametrize(
    ("repository", "token"),
    [("", ""), ("team", ""), ("team/kernels/../x", ""), ("team/kernels", "a\r\nX-Evil: 1")],
)
def test_odd_names_and_tokens_are_refused(repository, token):
    with pytest.raises(GitHubError):
        GitHub(repository, token)


def test_no_server_is_an_error_with_a_sentence():
    github = GitHub("team/kernels", "", "http://127.0.0.1:9", wait=lambda _: None)
    with pytest.raises(GitHubError, match="no answer: ConnectError"):
        github.get("pulls/1")


def test_the_description_notices_what_github_has_not():
    """The checker itself, on a description of one operation."""
    path = "/repos/{owner}/{repo}/things"
    schema = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
    operation = {
        "parameters": [{"in": "query", "name": "state", "schema": {"enum": ["open"]}}],
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/x"}}}},
        "responses": {"201": {"content": {"application/json": {"schema": schema}}}},
    }
    body = {"type": "object", "properties": {"name": {"type": "string", "nullable": True}}}
    spec = json.loads(
        json.dumps({"paths": {path: {"post": operation}}, "components": {"x": body}}),
        object_hook=github_openapi._plain,
    )
    found = []
    for query, given, status, answer in (
        ({}, {"name": None}, 201, {"id": 1}),
        ({"state": "shut"}, {"name": "a"}, 201, {"id": 1}),
        ({"colour": "red"}, {"name": "a"}, 201, {"id": 1}),
        ({}, {"name": 3}, 201, {"id": 1}),
        ({}, {"nam": "a"}, 201, {"id": 1}),
        ({}, {"name": "a"}, 200, {"id": 1}),
        ({}, {"name": "a"}, 201, {"id": "1"}),
    ):
        exchange = github_api.Exchange("POST", "", path, query, given, status, answer)
        found.append(len(list(github_openapi.checked(spec, [exchange]))))
    assert found == [0, 1, 1, 1, 1, 1, 1]


def test_requests_and_answers_are_as_github_describes_them(client, fake):
    """One of everything that we ask. GitHub's description is fetched by .ci/run."""
    path = os.environ.get(github_openapi.VARIABLE, "")
    if not path:
        pytest.skip("GitHub's OpenAPI description is not here ($AVO_GITHUB_OPENAPI, see .ci/run)")
    github, _ = client
    before = len(fake.exchanges)
    fake.permissions["dora"] = "write"
    fake.add_run("gate " + "f" * 40)
    number = fake.open_pull("alice", head_sha="f" * 40)
    github.get("")
    github.get(f"pulls/{number}")
    github.post("pulls", {"title": "t", "head": "bob:x", "base": "main", "draft": True})
    comment = github.post(f"issues/{number}/comments", {"body": "one"})
    github.patch(f"issues/comments/{comment['id']}", {"body": "two"})
    github.post(f"issues/{number}/labels", {"labels": ["avo:reject"]})
    github.delete(f"issues/{number}/labels/avo:reject")
    output = {"title": "t", "summary": "s"}
    done = {"status": "completed", "conclusion": "neutral", "output": output}
    check = {**done, "name": "avo/verdict", "external_id": "1:2", "details_url": "https://x.test"}
    made = github.post("check-runs", {**check, "head_sha": "f" * 40})
    github.patch(f"check-runs/{made['id']}", check)
    issue = github.post("issues", {"title": "t", "body": "b", "labels": ["audit"]})
    github.patch(f"issues/{issue['number']}", {"state": "closed"})
    github.get("collaborators/dora/permission")
    github.post("actions/workflows/gate.yml/dispatches", {"ref": "main", "inputs": {"pull": "1"}})
    for list_of, options in (
        ("pulls", {"state": "open", "base": "main"}),
        ("issues", {"labels": "audit", "state": "all"}),
        (f"issues/{number}/comments", {}),
        (f"commits/{'f' * 40}/check-runs", {"key": "check_runs", "check_name": "avo/verdict"}),
        ("actions/runners", {"key": "runners"}),
        ("actions/workflows/gate.yml/runs", {"key": "workflow_runs", "status": "in_progress"}),
    ):
        list(github.pages(list_of, **options))
    github.get("git/matching-refs/heads/evolve/")
    github.patch(f"pulls/{number}", {"state": "closed"})
    exchanges = fake.exchanges[before:]
    assert len({(e.method, e.template) for e in exchanges}) == len(github_api._ROUTES)
    assert list(github_openapi.objections(path, exchanges)) == []
