# SPDX-License-Identifier: MIT
"""The supervisor's directions by the real SDK over HTTP, paid from the run's budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("anthropic", reason="the agent extra is not installed")

from agent.budget import Budget, Exhausted  # noqa: E402
from agent.config import Settings  # noqa: E402
from agent.detector import Attempted  # noqa: E402
from agent.model import Model  # noqa: E402
from agent.prices import load_prices  # noqa: E402
from agent.supervisor import Course, digest, supervise  # noqa: E402
from avo_pytest.loading import _module  # noqa: E402

api = _module(Path(__file__).parents[1] / "messages_api.py")

STUCK = [
    Attempted(step=n, verdict="REJECT", gain=-0.004 * n, diff=f"+edit_{n} = {n};")
    for n in range(1, 9)
]
IDEAS = [
    {
        "title": "Shorten the change of row block",
        "brief": "Start the next product one turn earlier.",
    },
    {
        "title": "Cut the last rounds along keys",
        "brief": "Equal shares of key blocks, then combine.",
    },
]


def test_directions_are_asked_paid_and_given(monkeypatch, tmp_path):
    script = [
        api.answer("Let me think about it."),
        api.answer(f"```json\n{json.dumps(IDEAS)}\n```"),
    ]
    with api.MessagesApi(script) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        model = Model(Settings(), load_prices())
        budget = Budget(tmp_path / "budget.jsonl", {"usd": 5.0})

        def ask(system: str, text: str) -> str:
            return model.complete(system, text, spend=budget)

        text = digest(STUCK, notes="- failed: smaller tiles")
        course, intervention = supervise(Course(), STUCK, digest=text, model=ask)
        sent = json.dumps(server.requests[0], ensure_ascii=False)
        assert (
            "8 (step 8, 1 lines changed, first +edit_8 = 8;) REJECT -3.20 %" in sent
            and "smaller tiles" in sent
        )
        assert "no JSON array" in json.dumps(server.requests[1])
        assert intervention.direction.title == IDEAS[0]["title"]
        assert [waiting.title for waiting in course.queue] == [IDEAS[1]["title"]]
        assert 0 < budget.spent()["usd"] < 5.0

        poor = Budget(tmp_path / "poor.jsonl", {"usd": 1e-6})
        with pytest.raises(Exhausted):
            supervise(Course(), STUCK, model=lambda s, t: model.complete(s, t, spend=poor))
        assert len(server.requests) == 2, "nothing was sent that could not be paid"
