# SPDX-License-Identifier: MIT
"""No secret is sent, kept or shown; what only looks a little like one is left alone."""

from __future__ import annotations

import json

import pytest

from agent.redaction import Redactor
from agent.trajectory import Trajectory, events

SECRETS = [
    "sk-ant-api03-" + "aB3" * 12,
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2_" * 6,
    "hf_" + "aBcD" * 6,
    "AKIA" + "ABCD1234" * 2,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3.SflKxwRJSMeKKF2QT4",
    "xoxb-123456789012-abcdef",
]
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize("secret", SECRETS)
def test_a_key_is_known_by_its_form(secret):
    said = Redactor().text(f'export KEY="{secret}" # then')
    assert said == 'export KEY="[redacted]" # then'


def test_what_surrounds_a_key_tells_too():
    redact = Redactor().text
    assert redact("Authorization: Bearer abc.DEF-123xyz") == "Authorization: Bearer [redacted]"
    assert redact("x-api-key: 0123456789") == "x-api-key:[redacted]"
    assert redact("https://me:hunter2@host/x.git") == "https://[redacted]@host/x.git"
    assert redact(f"a\n{KEY}\nb") == "a\n[redacted]\nb"
    assert redact(f"a\n{KEY[:40]}") == "a\n[redacted]"  # cut short by a limit


def test_values_of_the_environment_are_taken_out_by_their_name():
    environment = {"MY_API_KEY": "plainword99", "HF_TOKEN": "plainword99-and-more", "KEY": "short"}
    redact = Redactor.of_environment({**environment, "HOME": "/home/somebody"}).text
    assert redact("plainword99-and-more plainword99 short /home/somebody") == (
        "[redacted] [redacted] short /home/somebody"
    )


@pytest.mark.parametrize(
    "text",
    [
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 at 0x7f3b12345678",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "risk-based task-parallel-decomposition-of-rows sk-learn; the bearer of bad news",
        "https://host:8080/path@v2",
    ],
)
def test_ordinary_text_stays(text):
    assert Redactor().text(text) == text


def test_the_trajectory_never_holds_a_secret_and_keeps_signatures(tmp_path):
    log = Trajectory(tmp_path, Redactor(["my-own-secret"]))
    signature = "sk-" + "A" * 30  # a signature may look like anything and must come back whole
    content = [{"type": "thinking", "thinking": "my-own-secret", "signature": signature}]
    log.add("message", talk=1, role="assistant", content=[*content, {"deep": [SECRETS[0]]}])
    log.close()
    (line,) = events(tmp_path)
    assert line["content"][0] == {**content[0], "thinking": "[redacted]"}
    assert line["content"][1] == {"deep": ["[redacted]"]}
    assert "my-own-secret" not in (tmp_path / "trajectory.jsonl").read_text()


def test_a_line_that_a_kill_cut_short_was_never_there(tmp_path):
    log = Trajectory(tmp_path, Redactor())
    log.add("manifest", run="a")
    with log.path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"event": "message", "text": "half"})[:-6])
    assert [line["event"] for line in events(tmp_path)] == ["manifest"]
    log.add("ending", reason="ü\n")
    assert [line["event"] for line in events(tmp_path)] == ["manifest", "ending"]
    assert list(events(tmp_path / "nowhere")) == []
