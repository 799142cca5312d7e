# SPDX-License-Identifier: MIT
"""Islands and the working lineage, on real branches: whose turn it is, who moves where, and when a
tip goes back to main."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("optuna", reason="the agent extra is not installed")

from agent import islands, state, steering  # noqa: E402
from agent.clone import git, prepare  # noqa: E402
from agent.state import Journal, Plan  # noqa: E402
from agent.step import Submission  # noqa: E402
from agent.supervisor import Rung  # noqa: E402
from agent.workspace import Workspace  # noqa: E402
from avo_pytest.loading import _module  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
evolving = _module(ROOT / "tests" / "evolving.py")
messages = _module(ROOT / "tests" / "messages_api.py")
FOLDER = "kernels/toy/simulated"


@pytest.fixture
def make(tmp_path):
    """A run with real branches and a real journal, whose steps are written by the test."""
    from agent.memory import Memory
    from agent.run import Run

    opened = []

    def made(count, **about):
        root = evolving.repository(tmp_path)
        plan = Plan(
            run="r1", kernel="toy", target="simulated", operator="sweep", created=state.now(),
            islands=count, migrate_every=1, **about,
        )  # fmt: skip
        home = state.begin(root, plan)
        clone = prepare(root, home)
        spaces = [Workspace(clone.root, home / "islands" / str(n)) for n in range(count)]
        for number, space in enumerate(spaces):
            space.home.mkdir(parents=True)
            space.begin(f"r1-{number}", "toy", "simulated")
        opened.append(Journal(home))
        nothing = SimpleNamespace(text=lambda: "")
        return Run(
            plan=plan, home=home, journal=opened[0], clone=clone, spaces=spaces, evaluator=None,
            operator=None, spend=None, spent=dict, settings=None, knowledge=nothing,
            memory=Memory.of(root, "toy", "simulated"),
        )  # fmt: skip

    yield made
    for journal in opened:
        journal.close()


def accepted(run, island, number, gain):
    """A step that joined an island's working lineage."""
    space = run.spaces[island]
    space.worktree(number)
    text = f'target = "simulated"\ngain = {gain}\ncomment = "{number}"\n'
    (space.folder(number) / "kernel.toml").write_text(text)
    commit = space.propose(number, Submission(idea=f"step {number}"))
    run.journal.append(state.BEGUN, number, island=island)
    tip = space.accept(commit)
    told = {"island": island, "commit": tip, "gain": gain, "landed": False}
    run.journal.append(state.ACCEPTED, number, **told)
    run.journal.append(state.ENDED, number, result="joined the working lineage")
    space.close(number)


def failed(run, island, number):
    run.journal.append(state.BEGUN, number, island=island)
    run.journal.append(state.ABANDONED, number, island=island, reason="slower")
    run.journal.append(state.ENDED, number, result="slower")


def tree(run, island):
    return git(run.clone.root, "rev-parse", f"{run.spaces[island].tip()}:{FOLDER}")


def test_islands_take_turns_and_wait_for_their_own_verdicts(make):
    run = make(3)
    assert islands.free(run) == 0
    failed(run, 0, 1)
    assert islands.free(run) == 1
    run.journal.append(state.BEGUN, 2, island=1)
    run.journal.append(state.QUEUED, 2, branch="evolve/r1-1/2")
    assert islands.free(run) == 2
    failed(run, 2, 3)
    assert islands.free(run) == 0
    run.journal.append(state.BEGUN, 4, island=0)
    run.journal.append(state.BEGUN, 5, island=2)
    assert islands.free(run) is None


def test_an_island_goes_on_from_one_that_is_ahead(make):
    run = make(2)
    accepted(run, 0, 1, gain=0.01)
    failed(run, 1, 2)
    islands.migrate(run, 1)
    (moved,) = run.history.of(state.MIGRATED)
    assert (moved.facts["island"], moved.facts["source"]) == (1, 0)
    assert tree(run, 1) == tree(run, 0)
    assert [round(a.gain, 6) for a in run.accepted(1)] == [0.01]  # and knows what that came to
    islands.migrate(run, 1)  # not again before its next step
    assert len(run.history.of(state.MIGRATED)) == 1
    failed(run, 0, 3)
    islands.migrate(run, 0)  # who is ahead stays
    assert run.history.of(state.MIGRATED)[-1].facts["source"] == 0


def test_an_island_without_steps_of_its_own_follows_main(make):
    run = make(1)
    before = run.spaces[0].tip()
    desk = run.home / "desk"
    git(run.home, "clone", "-q", run.clone.remote, str(desk))
    evolving.simulated.script(desk, gain=0.01)
    evolving.git(desk, "commit", "-qam", "somebody else was faster")
    evolving.git(desk, "push", "-q", "origin", "main")
    islands.migrate(run, 0)
    assert run.spaces[0].tip() == evolving.git(desk, "rev-parse", "HEAD") != before
    assert (run.clone.root / FOLDER / "kernel.toml").read_text().count("gain") == 1


def test_a_tip_that_was_never_confirmed_goes_back_to_main(make):
    run = make(1)
    for number in range(1, 6):
        accepted(run, 0, number, gain=-0.0001 * number)
    assert len(run.accepted(0)) == 5 and run.spaces[0].tip() != run.clone.tip()
    islands.migrate(run, 0)
    assert run.accepted(0) == [] and run.spaces[0].tip() == run.clone.tip()
    assert run.history.of(state.RESET)[0].facts["reason"].startswith("5 steps since main")


def test_a_search_that_goes_nowhere_is_led_up_the_ladder_and_ends(make):
    run = make(1)
    rungs, number = [], 0
    while not steering.stopped(run):
        number += 1
        assert number < 100
        steering.steer(run, 0)
        rungs = [event.facts["rung"] for event in run.history.of(state.DIRECTED)]
        run.journal.append(state.BEGUN, number, island=0)
        for attempt in range(8):
            facts = {"verdict": "REJECT", "gain": -0.01, "correct": True, "mode": "screen"}
            run.journal.append(state.ATTEMPT, number, ticket=f"t{number}-{attempt}", **facts)
        run.journal.append(state.ABANDONED, number, island=0, reason="slower")
        run.journal.append(state.ENDED, number, result="slower")
    assert rungs == sorted(rungs) and set(rungs) == {int(rung) for rung in Rung if rung}
    assert "8 attempts without a gain" in steering.stopped(run)
    assert run.history.of(state.RESET)  # the rung before the last went back to main


# --- a whole run ------------------------------------------------------------------------------


def edit(gain):
    text = f'target = "simulated"\ngain = {gain}\n'
    return messages.call("write_file", {"path": f"{FOLDER}/kernel.toml", "content": text})


DONE, SUBMIT = messages.answer("No more."), messages.call("submit", {"idea": "a little faster"})
SCORE = messages.call("score", {"mode": "quick"})
LOOK = messages.call("read_file", {"path": f"{FOLDER}/kernel.toml"})
STEPS = (
    (messages.answer(edit(0.004), SUBMIT),),  # island 0: not enough for main, enough to stand on
    (messages.answer(SCORE), DONE, DONE),  # island 1 gives up, and waits for no figure
    (DONE, DONE),
    (messages.answer(LOOK), DONE, DONE),  # island 1 again
)


def test_an_island_of_a_run_goes_on_from_the_other_and_they_never_measure_at_once(tmp_path):
    pytest.importorskip("anthropic", reason="the agent extra is not installed")
    root = evolving.repository(tmp_path)
    home = root / ".avo" / "evolve" / "r1"
    islands_ = ("--islands", "2", "--migrate-every", "1", "--steps", "4")
    script = [turn for step in STEPS for turn in step]
    notes = {messages.MODELS[1]: lambda _: messages.answer("A note.")}
    with messages.MessagesApi(script, others=notes) as api:
        run = ("--operator", "claude", "--name", "r1", "--max-usd", "50", *islands_)
        code, said = evolving.evolve(root, *run, environment=api.environment)
        asked = [r for r in api.requests if r["model"] == messages.MODELS[0]]
    assert code == 0, said
    assert evolving.last(said).endswith("the incumbent held: 0 attempts, 1 confirmed or refused")
    assert evolving.told(home, "begun", "step", "island") == [(1, 0), (2, 1), (3, 0), (4, 1)]
    assert evolving.told(home, "migrated", "island", "source") == [(0, 0), (1, 0)]
    (tip,) = evolving.told(home, "accepted", "commit")[0]
    assert evolving.told(home, "begun", "tip")[3] == (tip,)
    assert "gain = 0.004" in messages.last_text(asked[-2])  # what island 1 reads is island 0's
    assert "island 1 went on from island 0" in (home / "report.md").read_text()
    assert "island 1 goes on from island 0" in said
    steps = [event["step"] for event in evolving.journal(home) if event["step"]]
    assert steps == sorted(steps)  # one is over before the next begins, with all it started
    assert ended_early(home) < 600


def ended_early(home):
    """GPU seconds of the score that nobody waited for, which was reserved at its most."""
    lines = [json.loads(line) for line in (home / "budget.jsonl").read_text().splitlines()]
    (name,) = [b["name"] for b in lines if b.get("what") == "score quick"]
    (seconds,) = [
        b["gpu_seconds"] for b in lines if (b["event"], b.get("name")) == ("settle", name)
    ]
    return seconds
