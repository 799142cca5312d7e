# SPDX-License-Identifier: MIT
"""A kept step told again, and exported so that mini-swe-agent's own reader shows it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from agent.export import FORMAT, mini_swe_agent
from agent.redaction import Redactor
from agent.replay import SHORT, steps, told
from agent.trajectory import FILE, Trajectory

USAGE = {"input_tokens": 900, "output_tokens": 40, "cache_read_input_tokens": 800}
READER = """
import asyncio, sys
from pathlib import Path
from minisweagent.run.utilities.inspector import TrajectoryInspector

app = TrajectoryInspector([Path(sys.argv[1])])

async def main():
    async with app.run_test(size=(200, 100)) as pilot:
        for page in range(app.n_steps):
            print(f"--- {page + 1} of {app.n_steps}")
            for part in app.query("Static"):
                print(part.render())
            await pilot.press("right")

asyncio.run(main())
"""


def text(words):
    return {"type": "text", "text": words}


def use(name, **given):
    return {"type": "tool_use", "id": f"id-{name}", "name": name, "input": given}


def result(name, words):
    return {"type": "tool_result", "tool_use_id": f"id-{name}", "content": words}


@pytest.fixture
def directory(tmp_path):
    """A step with two conversations: an attempt, a handoff, a submission."""
    folder = tmp_path / "run" / "steps" / "0001"
    kept = Trajectory(folder, Redactor())
    kept.add("manifest", model="claude-opus-5-5", effort="high", seed=3)
    kept.add("begin", talk=1, system="Rules.", tools=[], brief=["Make it faster."])
    kept.add("request", talk=1, number=1, attempt=1, model="claude-opus-5-5")
    answer(
        kept, 1, 1, [{"type": "thinking", "thinking": "Loads?", "signature": "s"}, text("Score.")]
    )
    reply(kept, 1, [use("score", mode="quick")], ["score"], "slow\x1b[2J\n" + "row\n" * 40)
    kept.add("failure", talk=1, number=2, attempt=1, kind="overloaded", action="retry", text="529")
    kept.add("handoff", talk=1, text="The tip is bound by loads.")
    kept.add("begin", talk=2, system="Rules.", tools=[], brief=["Make it faster.", "Go on."])
    answer(kept, 2, 2, [use("submit", idea="fetch earlier")])
    reply(kept, 2, [], ["submit"], "submitted", idea="fetch earlier")
    idea = {"idea": "fetch earlier", "rationale": "", "expected_gain": 0.01}
    kept.add("ending", ending="submitted", reason="", submission=idea, turns=2, usage={"usd": 0.5})
    kept.close()
    return folder


def answer(kept, talk, number, content):
    about = {"request_id": "r", "model": "claude-opus-5-5", "stop_reason": "tool_use"}
    kept.add("response", talk=talk, number=number, usage=USAGE, usd=0.25, seconds=2.0, **about)
    kept.add("message", talk=talk, role="assistant", content=content)


def reply(kept, talk, uses, names, words, **given):
    if uses:
        kept.add("message", talk=talk, role="assistant", content=uses)
    for name in names:
        about = {"id": f"id-{name}", "name": name, "input": given or {"mode": "quick"}}
        kept.add("tool", talk=talk, text=words, is_error=False, seconds=1.5, **about)
    kept.add("message", talk=talk, role="user", content=[result(name, words) for name in names])


def test_a_step_is_told_in_its_order_and_a_tool_once(directory, tmp_path):
    assert steps(tmp_path / "run") == [directory]
    lines = list(told(directory))
    heads = [line[9:] for line in lines if not line.startswith("    ")]
    assert [head.split(":")[0].split(",")[0] for head in heads] == [
        *("how it was asked", "conversation 1", "brief", "reply 1", "thinking", "assistant"),
        *("score", "  answered", "failure", "handoff", "conversation 2", "brief"),
        *("reply 2", "submit", "  answered", "ended"),
    ]
    assert "    Make it faster." in lines and "    Loads?" in lines and "    529" in lines
    assert "reply 1: tool_use, 0.2500 USD" in "\n".join(lines)


def test_long_texts_are_cut_unless_all_is_asked_for_and_move_no_cursor(directory):
    short, full = list(told(directory)), list(told(directory, full=True))
    assert short.count("    row") == SHORT - 1 and full.count("    row") == 40
    assert f"    ... {41 - SHORT} lines more (--full)" in short
    assert "\x1b" not in "".join(full)


def test_a_step_that_is_still_running_is_told_and_exported_so_far(directory):
    path = directory / FILE
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:6]) + lines[6][:20])
    assert any("Score." in line for line in told(directory))
    found = mini_swe_agent(directory)
    assert found["info"]["exit_status"] == "" and found["messages"][-1]["role"] == "exit"


def test_the_export_has_the_format_s_fields_and_figures(directory):
    found = json.loads(json.dumps(mini_swe_agent(directory)))
    assert found["trajectory_format"] == FORMAT == "mini-swe-agent-1.1"
    info = found["info"]
    assert info["model_stats"] == {"instance_cost": 0.5, "api_calls": 2}
    assert (info["exit_status"], info["submission"]) == ("submitted", "fetch earlier")
    assert info["config"]["model"] == {"model_name": "claude-opus-5-5"}
    roles = [message["role"] for message in found["messages"]]
    assert roles == [
        *("system", "user", "assistant", "assistant", "user"),
        *("system", "user", "assistant", "user", "exit"),
    ]
    costs = [message["extra"].get("cost", 0.0) for message in found["messages"]]
    assert sum(costs) == info["model_stats"]["instance_cost"]
    [action] = found["messages"][3]["extra"]["actions"]
    assert action == {"tool_call_id": "id-score", "tool": "score", "input": {"mode": "quick"}}
    assert found["messages"][4]["content"][0]["content"].startswith("slow")
    assert found["messages"][2]["reasoning_content"] == "Loads?"


@pytest.mark.skipif(
    importlib.util.find_spec("minisweagent") is None, reason="mini-swe-agent is not installed"
)
def test_mini_swe_agent_reads_it(directory, tmp_path):
    path = tmp_path / "step.traj.json"
    path.write_text(json.dumps(mini_swe_agent(directory)))
    home = {"MSWEA_SILENT_STARTUP": "1", "MSWEA_GLOBAL_CONFIG_DIR": str(tmp_path / "home")}
    line = (sys.executable, "-c", READER, str(path))
    done = subprocess.run(
        line, env={**os.environ, **home}, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    pages = done.stdout.split("--- ")[1:]
    assert len(pages) == 4
    for page, words in zip(
        pages, ("Make it faster.", "Loads?", '"mode": "quick"', "submitted"), strict=True
    ):
        assert words in page
