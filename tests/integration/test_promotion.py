# SPDX-License-Identifier: MIT
"""From a candidate to `main` through the commands, on the simulated device: real processes, real
git, real confirms; only the clock is scripted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from avo_pytest import ledger
from avo_pytest.lineage import lineages
from avo_pytest.loading import _module
from avo_pytest.report.ladder import as_markdown

helper = _module(Path(__file__).parents[1] / "promotion_repository.py")
git, avo, here = helper.git, helper.avo, helper.here
REFUSED = 20
# idea → script, exit status and verdict of what must not land beside a gain of 0.02
IDEAS = {
    "worse": ({"gain": -0.02}, {10}, {"REJECT"}),
    "equal": ({"gain": 0.02, "heat": 0.0}, {14}, {"NO-CHANGE"}),
    "wrong": ({"gain": 0.1, "fault": "zeros"}, {12}, {"INCORRECT"}),
    "cheats": ({"gain": 0.1, "fault": "input", "at": 30}, {12}, {"INCORRECT"}),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calibrated, its seed in the ledger, and a better version of it, judged."""
    folder = tmp_path_factory.mktemp("begun")
    desk = helper.team(folder)
    commit = helper.proposed(desk, "a better toy", gain=0.02)
    helper.confirmed(desk, "better.json")
    (folder / "better.txt").write_text(commit)
    return folder


@pytest.fixture
def team(begun: Path, tmp_path: Path) -> Iterator[SimpleNamespace]:
    bare, desk = tmp_path / "bare.git", tmp_path / "desk"
    shutil.copytree(begun / "bare.git", bare)
    shutil.copytree(begun / "desk", desk, ignore=shutil.ignore_patterns("runs"))
    git(desk, "remote", "set-url", "origin", str(bare))
    git(desk, "checkout", "-q", "-f", "main")
    better = (desk / "better.json", (begun / "better.txt").read_text())
    yield SimpleNamespace(bare=bare, desk=desk, better=better)


def test_main_gets_exactly_the_better_one_and_the_ledger_all(team: SimpleNamespace) -> None:
    bare, desk = team.bare, team.desk
    record, commit = team.better
    code, outcome = helper.promoted(desk, record, "--commit", commit)
    assert (code, outcome["kind"], outcome["entry"]["version"]) == (0, "promoted", 1)
    best = git(bare, "rev-parse", "main")
    assert git(bare, "show", f"{best}:kernels/toy/simulated/kernel.toml").endswith("gain = 0.02")
    for idea, (script, codes, verdicts) in IDEAS.items():
        commit = helper.proposed(desk, idea, **script)
        record = helper.confirmed(desk, f"{idea}.json")
        code, outcome = helper.promoted(desk, record, "--commit", commit)
        assert (code in codes, outcome["kind"]) == (True, "recorded"), (idea, outcome["text"])
        assert outcome["entry"]["verdict"] in verdicts and outcome["entry"]["idea"] == idea
    assert git(bare, "rev-parse", "main") == best
    assert git(bare, "log", "--format=%s", "main").splitlines() == [
        "toy/simulated: a better toy",
        "the beginning",
    ]
    _everything_agrees(team)


def _everything_agrees(team: SimpleNamespace) -> None:
    """Commands, ladder and page say what the ledger says."""
    entries = ledger.load(team.bare)
    assert [e.verdict for e in entries if e.version] == ["PROMOTE"]
    assert sorted(e.idea for e in entries) == sorted(("", "a better toy", *IDEAS))
    (found,) = lineages(entries)
    shown = json.loads(here(team.desk, "lineage", "--json", "--remote", "origin").stdout)
    assert (
        [r["version"] for r in shown[0]["versions"]] == [0, 1] == [r.version for r in found.rungs]
    )
    ladder = git(team.bare, "show", "avo-results:ladders/toy-simulated.md")
    assert ladder == as_markdown([found], "toy-simulated").strip()
    assert (
        here(team.desk, "page", "--remote", "origin", "--out", team.desk / "site").returncode == 0
    )
    page = (team.desk / "site" / "index.html").read_text()
    assert "a better toy" in page
    assert git(team.bare, "ls-tree", "-r", "--name-only", "avo-results", "badges/") == ""


def test_a_simulated_record_is_nothing_to_a_team_that_measures(team: SimpleNamespace) -> None:
    """Where main's policy does not ask for simulated devices, and never as a judge."""
    desk = team.desk
    record, commit = team.better
    asked = ("--commit", commit, "--role", "judge", "--nonce", "x")
    assert helper.promoted(desk, record, *asked)[1]["rule"] == "simulated"
    path = desk / "pyproject.toml"
    path.write_text(path.read_text().replace('isolation = "simulated"', ""))
    git(desk, "commit", "-qam", "we measure")
    git(desk, "push", "-q", "origin", "HEAD:main")
    code, outcome = helper.promoted(desk, record, "--commit", commit)
    assert (code, outcome["rule"]) == (REFUSED, "policy")


def test_the_commands_say_what_is_wrong_on_one_line(team: SimpleNamespace) -> None:
    desk = team.desk
    record, commit = team.better
    (desk / "cut.json").write_text(record.read_text()[:-9])
    for line, said in (
        (("promote", desk / "cut.json", "--remote", "origin"), "nothing was recorded"),
        (("promote", record, "--remote", "origin", "--commit=--help"), "no such commit here"),
        (("promote", record, "--remote", "/nowhere", "--commit", commit), "/nowhere"),
        (("promote", record, "--remote", ".", "--commit", commit), "there is no ledger on ."),
        (("revert", "9", "--kernel=toy", "--target=simulated", "--remote=origin"), "version 9"),
    ):
        done = here(desk, *line)
        assert done.returncode == 1 and said in done.stderr, done.stdout + done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    git(desk, "fetch", "-q", "origin", "avo-results:avo-results")
    done = here(desk, "promote", record, "--remote", ".", "--commit", commit)
    assert done.returncode == 1 and "main is checked out there: git switch" in done.stderr
    code, outcome = helper.promoted(desk, record)  # HEAD is main, which proposes nothing
    assert (code, outcome["rule"]) == (REFUSED, "empty")


def test_a_version_is_reverted_by_the_command(team: SimpleNamespace) -> None:
    desk = team.desk
    record, commit = team.better
    assert helper.promoted(desk, record, "--commit", commit)[0] == 0
    line = ("revert", 1, "--kernel=toy", "--target=simulated", "--remote=origin", "--reason=no")
    done = here(desk, *line)
    assert done.returncode == 0, done.stderr
    assert "gain" not in git(team.bare, "show", "main:kernels/toy/simulated/kernel.toml")
    assert "taken back already" in here(desk, *line).stdout
