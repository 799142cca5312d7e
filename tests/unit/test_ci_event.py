# SPDX-License-Identifier: MIT
"""What an event asks for, and what it cannot ask for."""

from __future__ import annotations

import pytest

from avo_pytest.ci.event import Asked, EventError, Ignored, read

SHA = "0123456789abcdef0123456789abcdef01234567"


def pull(action="opened", **more):
    head = {"number": 7, "head": {"sha": SHA}}
    return {"action": action, "pull_request": head, "sender": {"login": "ada"}, **more}


def comment(body, **more):
    said = {"body": body, "user": {"login": "ada"}}
    issue = {"number": 7, "pull_request": {"url": "x"}}
    return {"action": "created", "issue": issue, "comment": said, **more}


def dispatch(sender="ada", **inputs):
    return {"inputs": inputs, "sender": {"login": sender}}


@pytest.mark.parametrize("action", ["opened", "synchronize", "reopened"])
def test_a_pull_request_asks(action):
    asked = read("pull_request_target", pull(action))
    assert asked == Asked(sender="ada", pull=7, sha=SHA)


def test_one_label_asks():
    assert isinstance(read("pull_request_target", pull("labeled", label={"name": "avo"})), Asked)
    found = read("pull_request_target", pull("labeled", label={"name": "avo-not"}))
    assert isinstance(found, Ignored)


@pytest.mark.parametrize("form", ["/avo score {}", "  /avo  score {}\r\n", "\n/avo score {}"])
def test_a_command_names_the_whole_commit(form):
    asked = read("issue_comment", comment(form.format(SHA)))
    assert asked == Asked(sender="ada", pull=7, sha=SHA, by_comment=True)


@pytest.mark.parametrize(
    "body",
    [
        "/avo score", f"/avo score {SHA[:12]}", f"/avo score {SHA}0", f"/avo score {SHA.upper()}",
        f"/avo score {SHA}; rm -rf /", f"/avo promote {SHA}", f"thanks! /avo score {SHA}",
        f"/avo score {SHA}\n/avo score {SHA}", "> /avo score " + SHA, "", None,
    ],
)  # fmt: skip
def test_anything_else_is_no_command(body):
    assert isinstance(read("issue_comment", comment(body)), Ignored)


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("push", {"ref": "refs/heads/main"}),
        ("schedule", {}),
        ("pull_request", pull()),
        ("pull_request_target", pull("closed")),
        ("pull_request_target", pull("edited")),
        ("issue_comment", comment(f"/avo score {SHA}", action="edited")),
        ("issue_comment", comment(f"/avo score {SHA}", issue={"number": 7})),
    ],
)
def test_what_asks_for_nothing(name, payload):
    assert isinstance(read(name, payload), Ignored)


def test_a_dispatch_names_a_pull_request_or_a_branch_and_its_commit():
    assert read("workflow_dispatch", dispatch(pull="7")) == Asked(
        sender="ada", pull=7, by_hand=True
    )
    asked = read("workflow_dispatch", dispatch(ref="evolve/run-1/12", sha=SHA))
    assert asked == Asked(sender="ada", ref="refs/heads/evolve/run-1/12", sha=SHA, by_hand=True)
    bot = read("workflow_dispatch", dispatch("github-actions[bot]", pull="7", sha=SHA))
    assert isinstance(bot, Asked) and not bot.by_hand


@pytest.mark.parametrize(
    "inputs",
    [
        {}, {"ref": "main", "sha": SHA}, {"ref": "evolve/x/1"},
        {"ref": "evolve/x/work", "sha": SHA},
        {"ref": "evolve/../main/1", "sha": SHA}, {"ref": "evolve/--upload-pack=x/1", "sha": SHA},
        {"pull": "0"}, {"pull": "7; ls"}, {"pull": "7", "sha": "HEAD"}, {"pull": "-1"},
        {"ref": "refs/heads/main", "sha": SHA},
    ],
)  # fmt: skip
def test_an_odd_dispatch_is_an_error(inputs):
    with pytest.raises(EventError):
        read("workflow_dispatch", dispatch(**inputs))


@pytest.mark.parametrize(
    "payload",
    [
        {}, [], None, "text", {"action": "opened"}, pull(pull_request={"number": 7}),
        pull(pull_request={"number": 7, "head": {"sha": "short"}}),
        pull(pull_request={"number": "x", "head": {"sha": SHA}}),
        pull(sender={"login": "a/../b"}),
    ],
)  # fmt: skip
def test_a_payload_that_is_none_is_an_error_with_a_sentence(payload):
    with pytest.raises(EventError, match="."):
        read("pull_request_target", payload)
