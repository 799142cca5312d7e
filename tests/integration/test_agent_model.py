# SPDX-License-Identifier: MIT
"""The `claude` operator against a scripted Messages API: real SDK, real HTTP, real events."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("anthropic", reason="the agent extra is not installed")

from agent.config import MODEL, SUMMARY_MODEL, ConfigurationError, Settings  # noqa: E402
from agent.operators import operator  # noqa: E402
from agent.step import Ending, Result  # noqa: E402
from agent.trajectory import events  # noqa: E402
from avo_pytest.loading import _module  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
api = _module(ROOT / "tests" / "messages_api.py")
steps = _module(ROOT / "tests" / "model_step.py")
answer, call, think = api.answer, api.call, api.think

DONE = answer(call("submit", {"text": "rows in pairs"}))
LOOK = answer(think("I look."), call("read"))


@pytest.fixture
def server(monkeypatch):
    """Starts scripted servers and points the SDK at the last one."""
    running = []

    def start(script, **about):
        running.append(api.MessagesApi(script, **about).__enter__())
        for name, value in running[-1].environment.items():
            monkeypatch.setenv(name, value)
        return running[-1]

    yield start
    for one in running:
        one.__exit__()


def kinds(step, event="failure", key="kind"):
    return [line[key] for line in events(step.directory) if line["event"] == event]


def asked(request):
    return json.dumps(request["messages"])


def test_a_step_edits_scores_and_submits(server, tmp_path):
    script = [
        answer(think("Two rows share a load."), "I try pairs.", call("write", {"text": "int x;"})),
        answer(think("Now the figure."), call("score"), call("read")),
        answer(call("score")),  # the same ticket again: no new attempt
        DONE,
    ]
    served, step = server(script), steps.make(tmp_path)
    outcome = steps.vary(step)
    assert (outcome.ending, outcome.attempts) == (Ending.SUBMITTED, 1)
    assert (outcome.submission.idea, outcome.submission.author) == ("rows in pairs", MODEL)
    assert (step.folder / "kernel.h").read_text() == "int x;"
    assert outcome.usage["requests"] == 4
    spent = step.spend.spent()["usd"]
    assert outcome.usage["usd"] == pytest.approx(spent)
    first, *_, last = served.requests
    assert [t["name"] for t in first["tools"]] == [
        "break",
        "memory",
        "read",
        "score",
        "submit",
        "write",
    ]
    assert (first["thinking"]["type"], first["output_config"]) == ("adaptive", {"effort": "high"})
    # What was sent is what is kept: the conversation is exactly its lines.
    lines = list(events(step.directory))
    kept = [line["content"] for line in lines if line["event"] == "message"]
    sent = [m["content"] for m in last["messages"][1:]]
    bare = [[{k: v for k, v in b.items() if k != "cache_control"} for b in c] for c in sent]
    assert bare == kept[: len(bare)]
    manifest, begin = lines[0], lines[1]
    assert manifest["models"][MODEL]["id"] == MODEL
    assert manifest["sdk"].startswith("anthropic ")
    assert {len(manifest[key]) for key in ("prompts", "tools", "knowledge")} == {64}
    assert begin["system"] == first["system"][0]["text"]
    assert kinds(step, "response", "request_id") == [f"req_00000{n}" for n in (1, 2, 3, 4)]
    # A step that has ended has the same end again, and asks nobody.
    assert steps.vary(steps.make(tmp_path)) == outcome
    assert len(served.requests) == 4


def test_a_long_step_reads_its_input_from_the_cache(server, tmp_path):
    """60 turns, three of them after ten minutes of measuring, when the short entries are gone."""
    turns = 0

    def turn(request):
        nonlocal turns
        turns += 1
        if turns % 20 == 0:
            served.advance(600)
        if turns == 60:
            return DONE
        text = f"// {turns}\n" + "float row = load(k);\n" * 60
        return answer(
            think("Registers are short. " * 20), call("write", {"text": text}), call("read")
        )

    served = server(turn)
    step = steps.make(tmp_path, brief="The lineage so far. " * 300, turns=80)
    settings = {"device": "SMs, caches, clocks. " * 100, "knowledge_index": "- a page\n" * 300}
    outcome = steps.vary(step, **settings)
    share = outcome.usage["cached_tokens"] / outcome.usage["input_tokens"]
    print(f"read from the cache: {share:.1%} of {outcome.usage['input_tokens']:,.0f} tokens")
    assert outcome.ending is Ending.SUBMITTED
    assert turns == 60
    assert share == pytest.approx(served.read_share())
    assert share >= 0.85
    assert kinds(step) == []
    reminders = [r for r in served.requests if "[Budget: turn" in asked(r)]
    assert len(reminders) == 50  # appended once, at turn 10, and never edited out
    assert asked(served.requests[-1]).count("[Budget: turn") == 5


def test_the_next_step_finds_rules_and_tools_in_the_cache_half_an_hour_later(server, tmp_path):
    served = server([DONE, DONE])
    steps.vary(steps.make(tmp_path / "one", brief="Pairs of rows. " * 50))
    served.advance(1800)
    steps.vary(steps.make(tmp_path / "two", brief="Another order. " * 50))
    first, second = served.usages
    assert first["cache_creation"]["ephemeral_5m_input_tokens"] == 0
    stable = first["cache_creation"]["ephemeral_1h_input_tokens"]
    assert stable > second["cache_read_input_tokens"] > 0.7 * stable
    assert second["cache_creation_input_tokens"] == stable - second["cache_read_input_tokens"]


RECOVERED = {
    "rate limited": api.failure(429, "rate_limit_error: slow down", retry_after_ms="5"),
    "overloaded": api.failure(529, "overloaded_error: Overloaded"),
    "server error": api.failure(500, "api_error: Internal server error"),
    "overloaded in the stream": api.overloaded(),
    "dropped stream": api.dropped(),
    "silent stream": api.stalled(),
    "slow stream": api.trickling(),
    "malformed tool input": answer(call("write", raw='{"text": int}')),
    "empty reply": answer(think("Hm.")),
    "refused": api.refusal(),
    "context exceeded": answer("So", stop="model_context_window_exceeded"),
    "prompt too long": api.failure(400, "invalid_request_error: prompt is too long: 9 tokens"),
    "thinking out of place": api.failure(
        400, "invalid_request_error: The block is bound to a different conversation."
    ),
    "too large": api.failure(413, "request_too_large: Request exceeds the maximum size"),
}


@pytest.mark.parametrize("kind", RECOVERED)
def test_a_fault_in_the_middle_is_survived(server, tmp_path, kind):
    script = [LOOK, RECOVERED[kind], answer(call("score")), DONE]
    served = server(script, others={SUMMARY_MODEL: [answer("Known: 512 GB/s. Next: pairs.")]})
    step = steps.make(tmp_path)
    quick = {"idle_s": 0.4} if kind == "silent stream" else {}
    quick = {"request_minutes": 0.4 / 60} if kind == "slow stream" else quick
    outcome = steps.vary(step, **quick)
    assert (outcome.ending, outcome.attempts) == (Ending.SUBMITTED, 1)
    assert outcome.usage["usd"] == pytest.approx(step.spend.spent()["usd"])
    told = [*kinds(step), *(r for r in kinds(step, "response", "refusal") if r)]
    unusable = ("empty reply", "context exceeded")
    assert told or kind in unusable
    thoughts = [asked(request).count('"thinking"') for request in served.requests[1:3]]
    assert kind != "thinking out of place" or (thoughts[0] > 0 and thoughts[1] == 0)
    if kind in ("refused", "context exceeded", "prompt too long", "too large"):
        assert "Known: 512 GB/s" in asked(served.requests[-1])  # on in a fresh conversation
        assert len(kinds(step, "handoff", "text")) == 1
        assert served.requests[-1]["system"] == served.requests[0]["system"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (api.failure(401, "authentication_error: invalid x-api-key"), "not authenticated"),
        (api.failure(402, "billing_error: no credit"), "out of credit"),
        (api.failure(403, "permission_error: not yours"), "not permitted"),
        (api.failure(400, "invalid_request_error: odd field"), "request refused (400): odd field"),
        (
            api.failure(400, "invalid_request_error: Your credit balance is too low"),
            "out of credit",
        ),
    ],
)
def test_what_cannot_be_mended_stops_cleanly_and_is_gone_on_with(server, tmp_path, fault, reason):
    server([answer(call("write", {"text": "int kept;"})), fault])
    outcome = steps.vary(steps.make(tmp_path))
    assert outcome.ending is Ending.FAILED
    assert outcome.reason.startswith(reason)
    again = server([DONE])
    step = steps.make(tmp_path)
    assert steps.vary(step).ending is Ending.SUBMITTED
    assert "characters written" in asked(again.requests[0])  # the same conversation
    assert (step.folder / "kernel.h").read_text() == "int kept;"


def test_faults_without_end_stop_after_so_many_tries(server, tmp_path):
    served = server(lambda _: api.failure(529, "overloaded_error: Overloaded"))
    step = steps.make(tmp_path)
    outcome = steps.vary(step)
    assert (outcome.ending, len(served.requests)) == (Ending.FAILED, 4)
    assert outcome.reason == "overloaded (529): Overloaded"
    assert step.spend.spent()["usd"] == 0.0  # nothing was served, nothing is counted
    refusing = server(lambda _: api.refusal("bio"), others={SUMMARY_MODEL: lambda _: answer("-")})
    outcome = steps.vary(steps.make(tmp_path))
    assert (outcome.ending, outcome.reason) == (Ending.FAILED, "refused: bio")
    assert [r["model"] for r in refusing.requests] == [MODEL, SUMMARY_MODEL, MODEL]


def test_without_a_connection_it_stops_after_as_many(server, tmp_path, monkeypatch):
    served = server([])
    served.__exit__()
    step = steps.make(tmp_path)
    claude = operator("claude", Settings(**{**steps.QUICK, "check_models": False}))
    outcome = claude.vary(step)
    assert (outcome.ending, outcome.reason) == (Ending.FAILED, "no connection: Connection error.")
    assert kinds(step) == ["no connection"] * 4
    with pytest.raises(ConfigurationError, match="cannot reach http://127.0.0.1"):
        operator("claude", Settings(**steps.QUICK)).preflight()
    assert step.spend.spent()["usd"] == 0.0


def test_a_broken_stream_costs_at_most_what_it_can_have_cost(server, tmp_path):
    served = server([api.overloaded(), DONE])
    step = steps.make(tmp_path)
    steps.vary(step)
    (failed,) = [line for line in events(step.directory) if line["event"] == "failure"]
    prompt_tokens = served.usages[0]["cache_creation_input_tokens"]
    assert prompt_tokens * 8e-6 < failed["usd"] < prompt_tokens * 8e-6 + 32_000 * 20e-6


def test_odd_calls_are_answered_and_nothing_of_the_host_is_told(server, tmp_path):
    odd = answer(call("compile"), call("write", {"txt": 1}), call("break", {"text": "x"}))
    served = server([odd, answer("", call("write", raw='{"text": "in'), stop="max_tokens"), DONE])
    step = steps.make(tmp_path)
    before = (step.folder / "kernel.h").read_text()
    assert steps.vary(step).ending is Ending.SUBMITTED
    unknown, misfit, broken = api.results(served.requests[1])
    assert "no tool 'compile'. Yours: break, memory" in unknown["content"]
    assert misfit["content"] == "The input does not fit write: 'text' is a required property"
    assert broken["content"].startswith("break itself failed (OSError).")
    (cut,) = api.results(served.requests[2])
    assert "length limit" in cut["content"]
    assert all(r["is_error"] for r in (unknown, misfit, broken, cut))
    assert "/home/someone" not in json.dumps(served.requests)
    assert kinds(step, "fault", "error") == ["OSError: cannot open /home/someone/x"]
    assert (step.folder / "kernel.h").read_text() == before


def test_a_pause_and_a_reply_cut_short_go_on(server, tmp_path):
    script = [answer("I look", stop="pause_turn"), answer("So much", stop="max_tokens"), DONE]
    served = server(script)
    assert steps.vary(steps.make(tmp_path)).ending is Ending.SUBMITTED
    assert served.requests[1]["messages"][-1]["role"] == "assistant"
    assert "length limit" in api.last_text(served.requests[2])


def test_thinking_that_hit_the_limit_gets_more_room(server, tmp_path):
    served = server([answer(think(), stop="max_tokens"), DONE])
    steps.vary(steps.make(tmp_path), max_output_tokens=9000)
    assert [r["max_tokens"] for r in served.requests] == [9000, 18_000]


def test_a_long_conversation_sheds_then_hands_over(server, tmp_path):
    """Every request stays inside the window, though the step says several windows' worth."""
    turns = 0

    def turn(request):
        nonlocal turns
        if "another one goes on from here" in api.last_text(request):
            return answer(think(), f"Facts: reached turn {turns}. Next: unroll.")
        turns += 1
        seen = f"Turn {turns}: " + "the rows stall. " * 40
        return DONE if turns == 45 else answer(think("w" * 400), seen, call("read"))

    served = server(turn, window_tokens=20_000)
    step = steps.make(tmp_path, brief="Begin. " * 100)
    (step.folder / "kernel.h").write_text("float row = load(k);\n" * 100)
    outcome = steps.vary(step, window_tokens=20_000)
    assert (outcome.ending, turns, kinds(step)) == (Ending.SUBMITTED, 45, [])
    parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert max(sum(u[p] for p in parts) for u in served.usages) < 0.65 * 20_000
    assert len(kinds(step, "shed", "before")) >= 1
    handoff = kinds(step, "handoff", "text")[0]
    assert "Facts: reached turn" in handoff
    assert "+float row" in handoff  # the diff as it stands
    assert "Facts: reached turn" in served.requests[-1]["messages"][0]["content"][1]["text"]


def test_to_end_without_a_proposal_is_a_slip_once(server, tmp_path):
    served = server([answer("I am done."), answer("Nothing helped: L2-bound at 93 %.")])
    outcome = steps.vary(steps.make(tmp_path))
    assert outcome.ending is Ending.ABANDONED
    assert "nothing is submitted" in api.last_text(served.requests[1])
    assert outcome.note == "Nothing helped: L2-bound at 93 %."
    assert (tmp_path / "memory.txt").read_text() == outcome.note
    assert len(served.requests) == 2  # its last words are the note


@pytest.mark.parametrize(
    ("limits", "ending", "reason"),
    [
        ({"turns": 4}, Ending.LIMIT, "4 turns without a proposal"),
        ({"usd_without_score": 0.01}, Ending.ABANDONED, "USD without a scored attempt"),
        ({"minutes_without_score": 1e-9}, Ending.ABANDONED, "minutes without a scored attempt"),
    ],
)
def test_a_step_has_limits_of_its_own(server, tmp_path, limits, ending, reason):
    def turn(request):
        last = "ends here without a proposal" in api.last_text(request)
        return answer("It is bound by shared memory.") if last else LOOK

    server(turn)
    outcome = steps.vary(steps.make(tmp_path, **limits))
    assert outcome.ending is ending
    assert reason in outcome.reason
    assert outcome.note == "It is bound by shared memory."
    assert (tmp_path / "memory.txt").read_text() == outcome.note


def test_the_budget_ends_a_step_before_it_is_exceeded_and_more_of_it_goes_on(server, tmp_path):
    served = server(lambda _: answer("word " * 2000, call("read")))
    step = steps.make(tmp_path, usd=0.5)
    outcome = steps.vary(step, max_output_tokens=16_000)
    assert outcome.ending is Ending.LIMIT
    assert "budget of 0.5 usd does not allow a request" in outcome.reason
    assert step.spend.spent()["usd"] <= 0.5
    assert {r["max_tokens"] for r in served.requests} == {16_000, 4000}  # shorter near the end
    again = server([DONE])
    assert steps.vary(steps.make(tmp_path, usd=5.0)).ending is Ending.SUBMITTED
    assert len(again.requests[0]["messages"]) == 2 * len(served.requests) + 1


def test_an_interrupted_step_goes_on_where_it_was(server, tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    step = steps.make(tmp_path)
    stop = steps.Plain("stop", interrupt, {"type": "object"})
    both = answer(think(), call("write", {"text": "int y;"}), call("stop"))
    server([both])
    step = steps.make(tmp_path, tools=(*step.tools, stop))
    assert steps.vary(step).ending is Ending.INTERRUPTED
    served = server([DONE])
    assert steps.vary(step).ending is Ending.SUBMITTED
    written, stopped = api.results(served.requests[0])
    assert written["content"] == "6 characters written"  # noted before, not done twice
    assert "whether it took effect is not known" in stopped["content"]


CHILD = """
import os, sys
from pathlib import Path
from avo_pytest.loading import _module
from agent.step import Result
steps = _module(Path(sys.argv[1]) / "tests" / "model_step.py")
root = Path(sys.argv[2])
step = steps.make(root)
die = steps.Plain("die", lambda _: os.kill(os.getpid(), 9), {"type": "object"})
steps.vary(steps.make(root, tools=(*step.tools, die)))
"""


def test_a_step_killed_at_work_goes_on_without_double_spending(server, tmp_path):
    """A process dies by -9 inside a tool; another goes on with its conversation and budget."""
    spent_by_script = [
        answer(think("a"), call("write", {"text": "int z;"})),
        answer(think("b"), call("die")),
    ]
    served = server(spent_by_script)
    environment = {**os.environ, **served.environment, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD, str(ROOT), str(tmp_path)]
    done = subprocess.run(command, env=environment, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    more = server([answer(think("c"), call("score")), DONE])
    step = steps.make(tmp_path)
    die = steps.Plain("die", lambda _: Result(text="never"), {"type": "object"})
    outcome = steps.vary(steps.make(tmp_path, tools=(*step.tools, die)))
    assert (outcome.ending, outcome.attempts) == (Ending.SUBMITTED, 1)
    assert outcome.usage["requests"] == 4
    assert outcome.usage["usd"] == pytest.approx(step.spend.spent()["usd"])  # each request once
    assert "whether it took effect is not known" in api.last_text(more.requests[0])
    assert "int z;" in asked(more.requests[0])


def test_a_step_killed_after_its_proposal_has_made_it(server, tmp_path):
    served = server([DONE])
    step = steps.make(tmp_path)
    outcome = steps.vary(step)
    path = step.directory / "trajectory.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    for cut in (1, 2):  # before its end was told, and before the results were
        path.write_text("".join(lines[:-cut]))
        again = steps.vary(steps.make(tmp_path))
        assert again.submission == outcome.submission
    assert len(served.requests) == 1


def test_a_step_killed_before_its_nudge_is_nudged(server, tmp_path):
    server([LOOK, answer("I am done."), DONE])
    step = steps.make(tmp_path)
    steps.vary(step)
    path = step.directory / "trajectory.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    cut = next(n for n, line in enumerate(lines) if '"I am done."' in line)
    path.write_text("".join(lines[: cut + 1]))
    again = server([DONE])
    assert steps.vary(steps.make(tmp_path)).ending is Ending.SUBMITTED
    assert "nothing is submitted" in api.last_text(again.requests[0])


def test_no_secret_goes_to_the_model(server, tmp_path, monkeypatch):
    monkeypatch.setenv("DEPLOY_TOKEN", "correct-horse-battery")
    step = steps.make(tmp_path)
    (step.folder / "kernel.h").write_text("// correct-horse-battery sk-ant-api03-" + "x1" * 20)
    served = server([LOOK, DONE])
    steps.vary(steps.make(tmp_path))
    (result,) = api.results(served.requests[1])
    assert result["content"].startswith("// [redacted] [redacted]")
    assert "correct-horse" not in json.dumps([*served.requests, *events(step.directory)])
    assert api.KEY not in (step.directory / "trajectory.jsonl").read_text()


def test_the_supervisor_asks_for_one_text(server, tmp_path):
    served = server(
        [answer(think(), '[{"title": "t"}]')], others={SUMMARY_MODEL: [answer("short")]}
    )
    model = operator("claude", Settings(**steps.QUICK)).model
    spend = steps.make(tmp_path).spend
    assert model.complete("You direct.", "digest", spend=spend) == '[{"title": "t"}]'
    assert model.complete("You sum up.", "digest", spend=spend, model=SUMMARY_MODEL) == "short"
    assert [r["output_config"]["effort"] for r in served.requests] == ["high", "low"]
    assert 0 < spend.spent()["usd"] < 0.02


@pytest.mark.parametrize(
    ("about", "settings", "wrong"),
    [
        ({"models": (MODEL,)}, {}, f"the API has no model '{SUMMARY_MODEL}'; it has {MODEL}."),
        ({}, {"model": "claude-nobody-9"}, "no price for model 'claude-nobody-9'"),
        ({}, {"effort": "max", "model": "claude-fable-5-1"}, "no model 'claude-fable-5-1'"),
    ],
)
def test_what_is_set_wrong_is_told_before_the_first_token(server, about, settings, wrong):
    served = server([], **about)
    with pytest.raises(ConfigurationError) as caught:
        operator("claude", Settings(**{**steps.QUICK, **settings})).preflight()
    assert wrong in str(caught.value)
    assert served.requests == []


def test_a_missing_or_wrong_key_is_told_with_the_fix(server, monkeypatch):
    server([])
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-wrong")
    with pytest.raises(ConfigurationError, match="Fix: export ANTHROPIC_API_KEY"):
        operator("claude", Settings(**steps.QUICK)).preflight()
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(ConfigurationError, match="no API key. Fix: export .* --operator sweep"):
        operator("claude", Settings(**steps.QUICK)).preflight()
