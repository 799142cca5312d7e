# SPDX-License-Identifier: MIT
"""`avo demo`: what it says it shows is there afterwards, in real repositories."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from avo_pytest.demo import PROPOSALS, Demo, DemoError
from avo_pytest.entries import AUDIT, VERDICT
from avo_pytest.ledger import load

AVO = (sys.executable, "-m", "avo_pytest", "demo")


def git(folder: Path, *line: str) -> str:
    done = subprocess.run(
        ("git", *line), cwd=folder, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


@pytest.mark.soak
def test_three_proposals_of_which_one_lands(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    elsewhere = {**os.environ, "PYTEST_ADDOPTS": "--nonsense", "GIT_DIR": "/nowhere"}
    done = subprocess.run(
        (*AVO, "--keep", str(kept)), capture_output=True, text=True, timeout=600, env=elsewhere
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Times are scripted" in done.stdout
    for proposal in PROPOSALS:
        assert done.stdout.count(f"### {proposal.verdict}: ") == 1
    log = git(kept / "upstream.git", "log", "--format=%s", "main").splitlines()
    assert len(log) == 2 and PROPOSALS[0].idea in log[0]
    entries = load(kept / "work", str(kept / "upstream.git"))
    assert [e.verdict for e in entries if e.kind == VERDICT] == [p.verdict for p in PROPOSALS]
    (audit,) = [e for e in entries if e.kind == AUDIT]
    assert audit.verdict == "HOLDS"
    assert (kept / "site" / "index.html").stat().st_size > 50_000
    badge = (kept / "badges" / "double-simulated" / "simulated" / "lineage.svg").read_text()
    assert "v1 of 4 attempts" in badge


@pytest.mark.soak
def test_a_stage_that_does_otherwise_ends_it(tmp_path: Path) -> None:
    """A proposal that is no faster must not be shown as a promotion."""
    same = replace(PROPOSALS[0], script="comment = 'nothing'")
    with pytest.raises(DemoError, match="exit status 1[01], not 0"):
        Demo(tmp_path, lambda text: None).play((same,))


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    done = subprocess.run((*AVO, "--keep", str(tmp_path)), capture_output=True, text=True)
    assert done.returncode == 2 and "not an empty folder" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
