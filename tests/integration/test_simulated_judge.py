# SPDX-License-Identifier: MIT
"""Measurements on the simulated device, through real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from avo_pytest.identity import tree_hash
from avo_pytest.loading import _module
from avo_pytest.score import Record, Status

helper = _module(Path(__file__).parents[1] / "simulated_repository.py")
SCORE = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--avo-score", "-q")


@pytest.fixture
def repository(tmp_path):
    root = helper.write(tmp_path)
    helper.script(root, "before")
    return root


def score(root, device="simulated"):
    options = (f"--avo-device={device}", "--avo-incumbent=before", "--avo-json=record.json")
    done = subprocess.run(
        [*SCORE, *options, "--avo-exit-verdict", "--avo-blocks=4"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def record_of(root):
    return Record.from_json((root / "record.json").read_text())


def test_times_are_those_of_the_scripts(repository):
    helper.script(repository, gain=0.01, gains={"r24": 0.01})
    device = helper.scenario(repository, "ms = 2.0\n[noise]\nlaunch = 0.0\nlayout = 0.0\n")
    done = score(repository, device)
    assert done.returncode == 11, done.stdout
    assert "1.015x incumbent" in done.stdout  # a geomean of 1 % and 2 %
    record = record_of(repository)
    assert record.environment["device"] == "simulated"
    assert record.isolation == "none" and record.target == "simulated"
    assert {s.ms for s in record.samples if s.arm == "incumbent"} == {2.0}


def test_a_repeated_turn_says_in_whose_launch_it_was_disturbed(repository):
    score(repository, helper.scenario(repository, "[incidents]\ndisturbed = 0.3\n"))
    turns = {}
    for s in record_of(repository).samples:
        turns.setdefault((s.configuration, s.block, s.turn), []).append(s)
    again = [turn for turn in turns.values() if turn[0].repeats]
    assert again and len(again) < len(turns)
    for turn in again:
        tries = [s.facts["disturbed_tries"] for s in turn]
        assert max(tries) <= turn[0].repeats <= sum(tries)
    for turn in turns.values():
        assert ("disturbed_tries" in turn[0].facts) == bool(turn[0].repeats)


def test_who_takes_the_worker_along_is_found_out(repository):
    """At its fourth check; nothing but the death of the process tells."""
    helper.script(repository, fault="lost", at=3)
    done = score(repository)
    assert done.returncode == 12, done.stdout
    failed = [c for c in record_of(repository).checks if not c.ok]
    assert {(c.arm, c.status) for c in failed} == {("candidate", Status.CRASHED)}


def test_a_verdict_on_what_does_not_build_is_about_its_folder(repository):
    """Whoever asked knows it again in the ledger: by nothing but this."""
    folder = helper.script(repository, gain="fast")
    done = score(repository)
    assert done.returncode == 12, done.stdout
    (arm,) = [a for a in record_of(repository).arms if a.role == "candidate"]
    assert (arm.identity, arm.artifact) == (tree_hash(folder), "")


def test_an_unknown_machine_is_a_usage_error(repository):
    done = score(repository, "simulated:moon")
    assert done.returncode == 4
    assert "neither a kind of noise" in done.stderr
