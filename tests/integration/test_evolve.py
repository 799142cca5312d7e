# SPDX-License-Identifier: MIT
"""Whole runs of the outer loop: real processes, real git, the real judge on a simulated device."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the agent extra is not installed")
pytest.importorskip("anthropic", reason="the agent extra is not installed")

from avo_pytest.loading import _module  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
evolving = _module(ROOT / "tests" / "evolving.py")
messages = _module(ROOT / "tests" / "messages_api.py")
github_api = _module(ROOT / "tests" / "github_api.py")
evolve, git, told = evolving.evolve, evolving.git, evolving.told

TILE = {"constants": {"TILE": {"value": 1, "min": 1, "max": 2}}, "best": {"TILE": 2}, "slope": 0.02}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A repository in which a sweep ran; it calibrated the machine for the other tests."""
    root = evolving.repository(tmp_path_factory.mktemp("swept"), **TILE)
    code, said = evolve(root, "--steps", "2", "--name", "r1")
    assert code == 0, said
    return root, said


def test_a_sweep_finds_the_better_constant_and_then_holds(swept):
    root, said = swept
    home = root / ".avo" / "evolve" / "r1"
    assert "calibrating" in said
    assert evolving.last(said).startswith("AVO evolve toy/simulated: version 1 was promoted: +")
    assert told(home, "judged", "step", "verdict") == [(1, "PROMOTE")]
    assert told(home, "ended", "step")[-1] == (2,)
    assert [(e["kind"], e.get("verdict"), e.get("version")) for e in evolving.ledger(home)] == [
        ("seed", None, 0), ("verdict", "PROMOTE", 1),
    ]  # fmt: skip
    assert evolving.subjects(home) == ["toy/simulated: constants: TILE 1 -> 2"]
    assert evolving.constant(evolving.kernel(home), "TILE") == 2
    assert evolving.constant(evolving.kernel(home, "main~1"), "TILE") == 1
    report = (home / "report.md").read_text()
    assert "| 1 | 1 | +" in report and "the incumbent's constants held" in report


def test_a_run_leaves_the_users_repository_alone(swept):
    root, _ = swept
    assert git(root, "for-each-ref", "--format=%(refname)").splitlines() == ["refs/heads/main"]
    assert git(root, "status", "--porcelain") == ""
    assert git(root, "log", "--format=%s") == "the beginning"


def test_what_cannot_work_is_told_before_anything_is_spent(swept, tmp_path):
    root = evolving.repository(tmp_path, fault="zeros")
    code, said = evolve(root)
    assert code == 2 and "main's version does not score here" in said
    code, said = evolve(root, "--operator", "command")
    assert code == 2 and "{brief}" in said
    code, said = evolve(root, "--pull-requests")
    assert code == 2 and "--score-via ci" in said
    code, said = evolve(root, "--resume", "nothing")
    assert code == 2 and "no run 'nothing'" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_a_sentence(tmp_path):
    root = evolving.repository(tmp_path)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "agent", "evolve", *evolving.PLACE], cwd=root, stdout=full,
            stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("agent: No space left") and "Traceback" not in done.stderr


# --- a scripted model -------------------------------------------------------------------------

TARGET = 'target = "simulated"\n'
EDITS = {  # step → what it writes, whether it scores first, what must come of it
    1: ("gain = 0.02\n", True, "PROMOTE"),
    2: ("gain = -0.02\n", False, "REJECT"),
    3: ('gain = 0.1\nfault = "zeros"\n', False, "INCORRECT"),
    4: ("gain = 0.05\n", False, "PROMOTE"),
    5: ('gain = 0.5\nfault = "stale"\n', False, "INCORRECT"),
    6: ('gain = "fast"\n', False, "INCORRECT"),
}


def scripted(request):
    """The same answer to the same conversation, however often the run is killed."""
    if request["model"] != messages.MODELS[0]:
        return messages.answer("A note.")
    brief = json.dumps(request["messages"][0])
    step = next(n for n in EDITS if f"This is step {n} of run" in brief)
    text, scores, _ = EDITS[step]
    path = "kernels/toy/simulated/kernel.toml"
    write = {"path": path, "content": TARGET + text + f'comment = "step {step}"\n'}
    turns = [messages.answer(messages.think("An idea."), messages.call("write_file", write))]
    if scores:
        turns.append(messages.answer(messages.call("score", {"mode": "quick"})))
        turns.append(messages.answer(messages.call("wait", {})))
    turns.append(messages.answer(messages.call("submit", {"idea": f"idea {step}"})))
    asked = sum(m["role"] == "assistant" for m in request["messages"])
    lost = json.dumps(request["messages"]).count("The run was stopped while this call")
    return turns[asked - lost]  # a call that a kill cut short is made again


def kill_at(root, home, lines, environment, options):
    """Run until the journals have so many lines, then kill -9; whether it was still running."""
    process = evolving.start(root, *options, environment=environment)
    try:
        while process.poll() is None:
            if _lines(home) >= lines:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.01)
        return False
    finally:
        process.kill()
        process.communicate()


def _lines(home):
    paths = (home / "journal.jsonl", home / "budget.jsonl", *home.glob("steps/*/trajectory.jsonl"))
    return sum(path.read_bytes().count(b"\n") for path in paths if path.exists())


def evolution(root, kills, seed, steps=6):
    """A run of so many steps with the scripted model, killed `kills` times on its way."""
    home = root / ".avo" / "evolve" / "r2"
    begin = ("--operator", "claude", "--steps", str(steps), "--name", "r2", "--max-usd", "50")
    chance = random.Random(seed)
    with messages.MessagesApi(scripted) as api:
        done = 0
        while done < kills:
            options = ("--resume", "r2") if home.exists() else begin
            lines = _lines(home) + chance.randint(2, 1 + 40 * steps // (kills + 1))
            if not kill_at(root, home, lines, api.environment, options):
                break
            done += 1
        options = ("--resume", "r2") if home.exists() else begin
        code, said = evolve(root, *options, environment=api.environment)
        asked = [r for r in api.requests if r["model"] == messages.MODELS[0]]
        return home, code, said, asked, done


def holds(home, said, asked, killed, steps=6):
    """The end state, whatever happened on the way."""
    edits = {n: edit for n, edit in EDITS.items() if n <= steps}
    verdicts = [edit[2] for edit in edits.values()]
    promoted = [n for n, edit in edits.items() if edit[2] == "PROMOTE"]
    assert told(home, "judged", "step", "verdict") == list(zip(edits, verdicts, strict=True)), said
    assert told(home, "ended", "step") == [(n,) for n in edits]
    last = f"AVO evolve toy/simulated: version {len(promoted)} was promoted: +"
    assert evolving.last(said).startswith(last)
    entries = [(e["kind"], e.get("verdict", ""), e.get("version")) for e in evolving.ledger(home)]
    versions = iter(range(1, 7))
    recorded = [("verdict", v, next(versions) if v == "PROMOTE" else None) for v in verdicts]
    assert entries == [("seed", "", 0), *recorded]
    assert evolving.subjects(home) == [f"toy/simulated: idea {n}" for n in promoted]
    assert edits[promoted[-1]][0] in evolving.kernel(home) + "\n"
    main = home / "main"
    proposals = git(main, "for-each-ref", "--format=%(refname)", "refs/heads/evolve").splitlines()
    assert proposals == [*(f"refs/heads/evolve/r2/{n}" for n in edits), "refs/heads/evolve/r2/work"]
    failed = git(main, "for-each-ref", "--format=%(refname)", "refs/avo/attempts/r2").splitlines()
    numbers = [name.rpartition("/")[2] for name in failed]
    assert [int(n) for n in numbers if n.isdigit()] == [n for n in edits if n not in promoted]
    assert "(AI)" in git(main, "log", "-1", "--format=%an", "refs/heads/evolve/r2/1")
    for repository in (main, home / "remote.git"):
        git(repository, "fsck", "--full", "--strict")
    _spent_once(home, asked, killed, edits)
    report = (home / "report.md").read_text()
    assert report.count("| submitted |") == steps and report.count("idea 1") >= 2


def _spent_once(home, asked, killed, edits):
    """Each turn was asked for once, and once more only where a kill lost its answer; every request
    was reserved, and what a kill left open counts in full."""
    turns = sum(2 + 2 * scores for _, scores, _ in edits.values())
    assert turns <= len(asked) <= turns + killed
    budget = [json.loads(line) for line in (home / "budget.jsonl").read_text().splitlines()]
    requests = [b["name"] for b in budget if b["event"] == "reserve" and b["usd"] > 0]
    settled = [b["name"] for b in budget if b["event"] == "settle" and b["name"] in requests]
    assert len(settled) == len(set(settled)) and turns <= len(requests) <= turns + killed
    assert len(requests) - len(settled) <= killed
    assert not [p for p in (home / "islands" / "0" / "worktrees").glob("*")]


def test_an_evolution_that_is_killed_three_times_ends_as_it_must(swept, tmp_path):
    root = evolving.repository(tmp_path, swept[0])
    home, code, said, asked, killed = evolution(root, kills=3, seed=7, steps=3)
    assert (code, killed) == (0, 3), said
    holds(home, said, asked, killed, steps=3)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_an_evolution_survives_twenty_kills(swept, tmp_path, seed):
    root = evolving.repository(tmp_path, swept[0])
    home, code, said, asked, killed = evolution(root, kills=20, seed=seed)
    assert code == 0 and killed >= 15, said
    holds(home, said, asked, killed)


# --- the control arm: one session, without what the loop adds ------------------------------------

CONTROL = ("--operator", "claude", "--control", "single-session", "--name", "r1")
NOTE = "what an earlier run found out"
MANIFEST = "kernels/toy/simulated/kernel.toml"


def write(text):
    return messages.call(
        "write_file", {"path": MANIFEST, "content": f'target = "simulated"\n{text}\n'}
    )


def session():
    """Longer than a step of the loop may be."""
    read = messages.call("read_file", {"path": MANIFEST})
    yield from (messages.answer(read) for _ in range(81))
    yield messages.answer(write("gain = 0.02"), messages.call("score", {"mode": "quick"}))
    yield messages.answer(messages.call("wait", {}))
    yield messages.answer(messages.call("submit", {"idea": "half of the work"}))


def remembered(root):
    """A note of an earlier run, where the machine keeps them."""
    path = root / ".avo" / "memory" / "toy-simulated.jsonl"
    path.parent.mkdir(parents=True)
    line = {"at": "2026-11-01T00:00:00+00:00", "kind": "fact", "text": NOTE, "run": "r0", "step": 1}
    path.write_text(json.dumps(line) + "\n")
    return path


def test_a_single_session_proposes_without_lineage_memory_or_supervisor(swept, tmp_path):
    root = evolving.repository(tmp_path, swept[0])
    home, memory = root / ".avo" / "evolve" / "r1", remembered(root)
    before = memory.read_text()
    with messages.MessagesApi(list(session())) as api:
        code, said = evolve(root, *CONTROL, "--max-usd", "50", environment=api.environment)
    assert code == 0, said
    assert evolving.last(said).startswith("AVO evolve toy/simulated: version 1 was promoted: +")
    assert told(home, "attempt", "mode", "verdict") == [("quick", "MEASURED")]
    assert told(home, "judged", "step", "verdict") == [(1, "PROMOTE")]
    assert [e["kind"] for e in evolving.ledger(home)] == ["seed", "verdict"]
    assert not told(home, "directed")
    assert {request["model"] for request in api.requests} == {messages.MODELS[0]}
    offered = {tool["name"] for tool in api.requests[0]["tools"]}
    assert {"score", "inspect", "knowledge", "submit"} <= offered
    assert not offered & {"lineage", "memory"}
    brief = json.dumps(api.requests[0]["messages"][0])
    assert brief.count("Not for this session.") == 3 and "one proposal ends the run" in brief
    assert NOTE not in json.dumps(api.requests) and memory.read_text() == before
    assert "control arm single-session" in (home / "report.md").read_text()
    assert 0 < sum(spent["usd"] for spent in settled(home)) < 50


def settled(home):
    lines = [json.loads(line) for line in (home / "budget.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "settle"]


def test_one_session_cannot_be_more_than_one(tmp_path):
    root = evolving.repository(tmp_path)
    for options, why in (
        (("--control", "single-session"), "needs a model"),
        ((*CONTROL, "--islands", "2"), "without --steps and --islands"),
    ):
        code, said = evolve(root, *options)
        assert code == 2 and why in said, said
    assert not (root / ".avo" / "evolve").exists()
