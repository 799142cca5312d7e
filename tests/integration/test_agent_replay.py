# SPDX-License-Identifier: MIT
"""What the `claude` operator keeps of a step is what replay tells and the export holds."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("anthropic", reason="the agent extra is not installed")

from agent.export import mini_swe_agent  # noqa: E402
from agent.replay import steps, told  # noqa: E402
from avo_pytest.loading import _module  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
api = _module(ROOT / "tests" / "messages_api.py")
model_step = _module(ROOT / "tests" / "model_step.py")


def test_a_real_step_is_told_and_exported(monkeypatch, tmp_path):
    script = [
        api.answer(
            api.think("Two rows share a load."),
            "I try pairs.",
            api.call("write", {"text": "int pairs;"}),
        ),
        api.failure(529),
        api.answer(api.call("score"), api.call("break", {"text": "x"})),
        api.answer(api.call("submit", {"text": "rows in pairs"})),
    ]
    with api.MessagesApi(script) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        step = model_step.make(tmp_path)
        outcome = model_step.vary(step)
    assert steps(tmp_path) == [step.directory]
    lines = list(told(step.directory))
    for words in ("Make it faster.", "Two rows share a load.", "I try pairs.", "gain +1.2 %"):
        assert lines.count(f"    {words}") == 1, words
    heads = "\n".join(line[9:] for line in lines if not line.startswith("    "))
    assert "break FAILED" in heads and "status 529" in heads and "ended: submitted" in heads

    found = mini_swe_agent(step.directory)
    assert found["info"]["submission"] == "rows in pairs"
    assert found["info"]["exit_status"] == "submitted"
    assert found["info"]["model_stats"]["instance_cost"] == pytest.approx(outcome.usage["usd"])
    tools = [a["tool"] for m in found["messages"] for a in m["extra"].get("actions", ())]
    assert tools == ["write", "score", "break", "submit"]
    costs = sum(m["extra"].get("cost", 0.0) for m in found["messages"])
    assert costs == pytest.approx(outcome.usage["usd"])
