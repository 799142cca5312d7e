# SPDX-License-Identifier: MIT
"""The runner and the table, and the quick part of the suite on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from avo_pytest import sandbox
from avo_pytest.devices.cpu import isolation
from avo_pytest.redteam import scorecard, suite
from avo_pytest.redteam.candidate import compose
from avo_pytest.redteam.runner import Result, Runner
from avo_pytest.redteam.suite import Case, SuiteError, cannot_occur, chosen, load
from avo_pytest.redteam.trial import Outcome

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
CASES = load(ROOT)
confined = pytest.mark.skipif(
    isolation()[0] != "child", reason=f"needs the sandbox: {isolation()[1]}"
)
# The catalogue of known exploits: its families, and how many rows each has.
CATALOGUE = {"T": 24, "R": 15, "C": 28, "B": 10, "P": 18, "G": 21, "S": 16}
ROWS = [f"{family}{n:02}" for family, last in CATALOGUE.items() for n in range(1, last + 1)]
MECHANISMS = {"D14", "D15"}  # rows of another table: what controls are for
# One of each kind that a minute has room for; `avo redteam --canary` and the soak run more.
QUICK = (
    *("memo-by-pointer", "honest-until-the-clock-counts", "detached-thread", "no-blocks"),
    *("fork", "resumes-itself"),
    *("writes-an-input", "include-a-host-file", "link-on-disk", "only-the-best-processes"),
    *("pushed-after-scoring", "artifact-changed-on-its-way"),
)


def named(*names: str) -> list[Case]:
    return [case for case in CASES if case.name in names]


def test_there_are_enough_of_every_kind() -> None:
    attacks = [case for case in CASES if not case.honest]
    on_a_gpu = [case for case in attacks if case.target in ("sm80", "sm90") and not case.static]
    assert len(attacks) >= 60 and len(on_a_gpu) >= 20
    assert len({case.family for case in attacks}) >= 12
    assert {case.target for case in CASES} == set(suite.TARGETS)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_catalogue_is_attacked_or_cannot_occur(row: str) -> None:
    attacked = any(row in case.catalogue for case in CASES if not case.honest)
    reason = cannot_occur(ROOT).get(row, "")
    assert attacked != bool(reason), "one of the two"
    assert attacked or len(reason.split()) >= 8, "a sentence that says why"


def test_no_other_rows_are_named() -> None:
    named = {row for case in CASES for row in case.catalogue} | cannot_occur(ROOT).keys()
    assert named <= {*ROWS, *MECHANISMS}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_says_what_it_is(case: Case) -> None:
    folder = ROOT / suite.FOLDER / case.folder
    source = next(p for p in folder.iterdir() if p.name.startswith("attack."))
    first = source.read_text().splitlines()[0]
    assert first.startswith(("// ", "# ")) and len(first) > 30
    rows = [row for row in case.catalogue if not row.startswith("D")]
    assert case.by and (rows or case.family == "control")


@pytest.mark.parametrize("case", [c for c in CASES if c.target != "scenario"], ids=lambda c: c.name)
def test_a_case_and_its_twin_can_be_laid_out(case: Case, tmp_path: Path) -> None:
    for honest in (False, True):
        folder = compose(ROOT, case, tmp_path / str(honest), tmp_path / "secret", honest=honest)
        assert "HONEST = 1" in (folder / "kernel.toml").read_text() or not honest


@confined
def test_a_few_attacks_are_caught_and_their_twins_accepted() -> None:
    with Runner(ROOT, blocks=2) as runner:  # some cheat from the fourth launch on
        results = list(runner.run(named("correct", *QUICK)))
    assert len(results) == len(QUICK) + 1
    assert scorecard.good(results), "\n".join(scorecard.as_text(results))


@pytest.mark.soak
@confined
def test_all_attacks_are_caught_and_all_twins_accepted() -> None:
    with Runner(ROOT) as runner:
        results = list(runner.run(CASES))
    assert scorecard.good(results), "\n".join(scorecard.as_text(results))


@confined
def test_an_attack_that_fails_for_another_reason_is_missed() -> None:
    (case,) = named("fork")
    other = replace(case, reason="refused ptrace", twin=False)
    with Runner(ROOT, blocks=2) as runner:  # some cheat from the fourth launch on
        (result,) = runner.run([other])
    assert result.judgement == "missed" and not result.good
    text = "\n".join(scorecard.as_text([result]))
    assert "MISSED fork" in text and "refused fork: Operation not permitted" in text


def result(judgement: str = "caught", twin: str = "accepted", **changes: object) -> Result:
    outcome = Outcome(status="incorrect", reason="row 1", phase="check")
    made = {"case": CASES[3], "judgement": judgement, "outcome": outcome, "twin": twin}
    return Result(**{**made, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("judgement", "twin", "good"),
    [
        ("caught", "accepted", True),
        ("compiled", "compiled", True),
        ("missed", "accepted", False),
        ("caught", "refused", False),
    ],
)
def test_the_scorecard_counts(judgement: str, twin: str, good: bool) -> None:
    results = [result(judgement, twin)]
    assert scorecard.good(results) is good
    *_, last = scorecard.as_text(results)
    assert last.startswith("AVO redteam: attacks 1,")
    assert json.loads(json.dumps(scorecard.as_json(results, {})))["good"] is good


def test_outside_the_repository_one_sentence_says_where_the_suite_is(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "avo_pytest", "redteam", "--root", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "clone the avo-pytest repository" in done.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[group]", "suite.toml"),
        ("[[group]]\ncases = [{ name = 'a' }]", "a: missing or unknown keys"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    folder = tmp_path / suite.FOLDER
    folder.mkdir(parents=True)
    (folder / suite.TABLE).write_text(text)
    with pytest.raises(SuiteError, match=sentence):
        load(tmp_path)


def test_a_choice_of_nothing_says_what_there_is() -> None:
    assert {case.target for case in chosen(CASES, target="sm90")} == {"sm90"}
    assert all(case.canary for case in chosen(CASES, canary=True))
    with pytest.raises(SuiteError, match="late work"):
        chosen(CASES, family="nothing")


def test_the_level_in_force_is_named() -> None:
    assert sandbox.level()[0] in ("child", "none") and isolation()[1]
