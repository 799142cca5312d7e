# SPDX-License-Identifier: MIT
"""The journal of a run, the order of a step's parts, and the search space of a sweep."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the agent extra is not installed")

from agent import constants, state  # noqa: E402
from agent.pull_request import quoted  # noqa: E402
from agent.search import QUICK, SCREEN, Search  # noqa: E402
from agent.state import History, Journal, Plan, StateError  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PLAN = Plan(run="r1", kernel="toy", target="cpu", operator="sweep", created="2026-11-22")
MANIFEST = """\
# A comment that stays.
target = "cpu"
[constants]
FIXED = 3
TILE = { value = 4, min = 2, max = 8, step = 2 }   # and this one
DEPTH = { value = 1, min = 1, max = 3 }
[[variant]]
name = "wide"
when = "rows > 8"
constants = { TILE = 8 }
[[variant]]
name = "default"
"""


def parts(*events):
    return [(e.kind, e.step) for e in events]


def test_a_plan_is_read_back_as_it_was_written(tmp_path):
    state.begin(tmp_path, PLAN)
    assert state.load(tmp_path, "last")[1] == PLAN == state.load(tmp_path, "r1")[1]
    with pytest.raises(StateError, match="--resume r1"):
        state.begin(tmp_path, PLAN)
    with pytest.raises(StateError, match="there are: r1"):
        state.load(tmp_path, "r2")


def test_the_last_run_is_the_one_begun_last_whatever_its_name(tmp_path):
    for age, name in enumerate(("b", "c", "a")):
        home = state.begin(tmp_path, replace(PLAN, run=name))
        os.utime(home / state.PLAN, (age, age))
    assert state.load(tmp_path, "last")[1].run == "a"


@pytest.mark.parametrize(
    "name", ["../r1", "a/b", "", ".", "last", "-r1", "a.lock", "a b", "a" * 101]
)
def test_a_run_has_a_plain_name(tmp_path, name):
    with pytest.raises(StateError, match="--name"):
        state.begin(tmp_path / "repository", replace(PLAN, run=name))
    assert not list(tmp_path.iterdir())


def test_a_line_that_a_kill_cut_short_was_never_written(tmp_path):
    journal = Journal(tmp_path)
    journal.append(state.BEGUN, 1, island=0)
    journal.close()
    with (tmp_path / state.JOURNAL).open("a") as file:
        file.write('{"event": "var')
    journal = Journal(tmp_path)
    journal.append(state.VARIED, 1, submission=None)
    journal.close()
    assert parts(*state.history(tmp_path).events) == [("begun", 1), ("varied", 1)]


def test_a_run_is_open_in_one_process_at_a_time(tmp_path):
    journal = Journal(tmp_path)
    code = f"from agent.state import *; from pathlib import Path; Journal(Path({str(tmp_path)!r}))"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "is running in another process" in done.stderr
    journal.close()
    subprocess.run(line, cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize(
    ("events", "following"),
    [
        ([], state.VARIED),
        ([("varied", {"submission": None})], state.ENDED),
        ([("varied", {"submission": {}})], state.PROPOSED),
        ([("varied", {"submission": {}}), ("proposed", {"refusal": "a link"})], state.ENDED),
        ([("varied", {"submission": {}}), ("proposed", {"commit": "c"})], state.JUDGED),
        ([("varied", {"submission": {}}), ("proposed", {}), ("judged", {})], state.RECORDED),
        (
            [("varied", {"submission": {}}), ("proposed", {}), ("judged", {}), ("recorded", {})],
            state.ENDED,
        ),
        ([("varied", {"submission": None}), ("ended", {})], ""),
    ],
)
def test_what_follows_in_a_step(events, following):
    told = [state.Event(kind, 1, "", facts) for kind, facts in [("begun", {"island": 2}), *events]]
    (step,) = History(tuple(told)).steps
    assert (step.following, step.island) == (following, 2)


# --- constants and search ---------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "kernel.toml").write_text(MANIFEST)
    return tmp_path


def test_constants_are_changed_in_place(folder):
    found = {d.key: (d.low, d.high, d.step, d.value) for d in constants.read(folder)}
    assert found == {"TILE": (2, 8, 2, 4), "DEPTH": (1, 3, 1, 1), "wide.TILE": (2, 8, 2, 8)}
    constants.write(folder, {"TILE": 6, "wide.TILE": 4})
    text = (folder / "kernel.toml").read_text()
    assert text == MANIFEST.replace("value = 4", "value = 6").replace(
        "{ TILE = 8 }", "{ TILE = 4 }"
    )
    (folder / "kernel.toml").write_text("[constants]\nA = 1\n")
    with pytest.raises(constants.ConstantsError, match="no constant with a range"):
        constants.read(folder)


def asked(search, count, gain):
    """Ask so many settings, and tell each one's gain; the settings."""
    found = []
    for _ in range(count):
        if (trial := search.ask()) is None:
            break
        found.append(dict(trial.values))
        if trial.climbs(QUICK, gain(trial.values)):
            trial.climbs(SCREEN, gain(trial.values))
        trial.end()
    return found


def test_a_search_tries_neighbours_first_and_nothing_twice(folder):
    dimensions = constants.read(folder)
    search = Search(folder, dimensions, seed=1)
    found = asked(search, 60, lambda v: -abs(v["TILE"] - 6) / 100)
    start = {d.key: d.value for d in dimensions}
    neighbours = sum(len(d.neighbours()) for d in dimensions)
    changed = [sum(values[k] != start[k] for k in start) for values in found]
    assert changed[:neighbours] == [1] * neighbours
    assert len({tuple(sorted(v.items())) for v in found}) == len(found) == 4 * 3 * 4 - 1
    assert start not in found
    search.close()


def test_a_search_goes_on_where_another_process_was_killed(folder):
    search = Search(folder, constants.read(folder), seed=1, step=1)
    found = asked(search, 10, lambda v: 0.0)
    search.close()
    again = Search(folder, constants.read(folder), seed=2, step=2)
    more = asked(again, 5, lambda v: 0.0)
    assert again.mine == again.known[-5:] and not any(values in found for values in more)
    again.close()


def test_only_the_best_third_gets_a_second_look(folder):
    search = Search(folder, constants.read(folder), seed=3)
    second = []
    for _ in range(12):
        trial = search.ask()
        gain = -0.01 * len(second) - 0.001 * len(search.known) - 0.01
        if trial.climbs(QUICK, gain):
            second.append(trial.values)
        trial.end()
    assert not second  # all are worse than where it started
    best = search.ask()
    assert best.climbs(QUICK, 0.05)
    best.end(promising=True)
    assert search.best() == (best.values, 0.05)
    search.close()


@pytest.mark.parametrize("region", ["pairs", "whole", "untouched"])
def test_regions_lead_elsewhere(folder, region):
    dimensions = constants.read(folder)
    start = {d.key: d.value for d in dimensions}
    search = Search(folder, dimensions, seed=5, region=region)
    (values,) = asked(search, 1, lambda v: 0.0)
    changed = sum(values[k] != start[k] for k in start)
    assert changed == 2 if region == "pairs" else changed >= 1
    search.close()


def test_what_a_model_wrote_is_text_in_a_pull_request():
    text = quoted("@team see #12 and http://x.test, ![i](u) <b>`x`</b> | a\n::error::")
    assert "@team" not in text and "#12" not in text and "http://" not in text
    assert "<b>" not in text and "![i]" not in text and "\n" not in text and "\\|" in text
