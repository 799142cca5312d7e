# SPDX-License-Identifier: MIT
"""Screen, confirm and calibrate through the real door, on the simulated device: real processes,
forks, journals and kills; only the clock is scripted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from avo_pytest.attempts import Attempt, Identity, begin, end
from avo_pytest.error_budget import gamma
from avo_pytest.judge import Judge, Request, RequestError
from avo_pytest.loading import _module
from avo_pytest.score import Record, Stage, Status

helper = _module(Path(__file__).parents[1] / "simulated_repository.py")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it puts aside
    signal.signal(signal.SIGINT, signal.default_int_handler)

AVO = (sys.executable, "-m", "avo_pytest")
SCORE = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--avo-score", "-q")
AGAINST = ("--avo-incumbent=before", "--avo-exit-verdict", "--avo-json=record.json")
POLICY = "replicates = 8\nscreen_blocks = 24\nconfirm_blocks = 4"
PLANNED = 8


def run(root: Path, *line: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(line, cwd=root, capture_output=True, text=True, timeout=100)
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done


def confirm(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    device = () if any("--avo-device" in o for o in options) else ("--avo-device=simulated",)
    return run(root, *SCORE, "--avo-mode=confirm", *device, *AGAINST, *options)


def record_of(root: Path) -> Record:
    return Record.from_json((root / "record.json").read_text())


def verdict(root: Path) -> str:
    return str(record_of(root).derived["verdict"]["kind"])


def attempts(root: Path) -> list[dict]:
    path = root / ".avo" / "attempts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def journal(root: Path, name: str) -> list[dict]:
    text = (root / ".avo" / "runs" / name / "journal.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose device was calibrated by the command; its incumbent is in `before`."""
    root = tmp_path_factory.mktemp("calibrated")
    helper.write(root, POLICY)
    helper.script(root, "before")
    done = run(root, *AVO, "calibrate", "--device=simulated", "--incumbent=before", "--processes=8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^8 replicates +confirms 0\.\d\d% with 90% probability", done.stdout, re.M)
    assert len(list(root.glob(".avo/calibrations/*.json"))) == 1
    return root


@pytest.fixture
def repository(calibrated: Path, tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    shutil.copytree(calibrated, root, ignore=shutil.ignore_patterns("runs"))
    return root


@pytest.mark.parametrize("at", [0, 10], ids=["at once", "in the middle"])
def test_a_kernel_that_is_wrong_is_no_calibration(repository, at):
    helper.script(repository, "before", fault="zeros", at=at)
    line = ("calibrate", "--device=simulated", "--incumbent=before", "--processes=8")
    done = run(repository, *AVO, *line)
    assert done.returncode == 1 and "nothing is kept" in done.stderr, done.stderr
    assert len(list(repository.glob(".avo/calibrations/*.json"))) == 1  # the fixture's


def test_a_gain_is_promoted_by_fresh_processes_as_planned(repository):
    helper.script(repository, gain=0.02)
    done = confirm(repository)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(
        r"geomean · (\d\.\d{3})x incumbent · verdict PROMOTE \+(\d\.\d\d) % \(>= \+(\d\.\d\d) %\)"
        r" · correct (\d+)/\4 · run \d{8}-\d{6}-[0-9a-f]{6}$",
        done.stdout.rstrip(),
    )
    assert found, done.stdout
    ratio, gain, at_least = map(float, found.groups()[:3])
    assert (ratio, gain) == (pytest.approx(1.02, abs=0.004), pytest.approx(2, abs=0.4))
    assert 1 < at_least < gain
    record = record_of(repository)
    stages = [r.stage for r in record.replicates]
    assert stages[0] is Stage.SCREEN and stages.count(Stage.CONFIRM) == PLANNED
    assert {r.status for r in record.replicates} == {Status.OK}
    assert {frozenset(r.loaded) for r in record.replicates} == {
        frozenset(("candidate", "incumbent", "null"))
    }
    assert len({r.loaded for r in record.replicates}) > 1  # 9 draws of 6 orders: 1 in 10^7
    lines = journal(repository, record.run)
    kinds = [(m["kind"], m.get("begun", {}).get("stage")) for m in lines]
    assert kinds.index(("plan", None)) < kinds.index(("replicate", "screen"))
    begun, ended = attempts(repository)
    assert begun["begin"]["run"] == record.run and ended["verdict"] == "PROMOTE"
    assert record.attempts["confirms"] == 0


def test_a_loss_is_rejected_by_the_screen_and_is_no_attempt(repository):
    helper.script(repository, gain=-0.02)
    done = confirm(repository)
    assert (done.returncode, verdict(repository)) == (10, "REJECT")
    record = record_of(repository)
    assert {r.stage for r in record.replicates} == {Stage.SCREEN}
    assert len({s.block for s in record.samples}) < 12  # of the first process: it was stopped
    assert attempts(repository) == []


def test_the_same_artifact_is_not_timed(repository):
    done = confirm(repository, "--avo-candidate=before")
    assert (done.returncode, verdict(repository)) == (14, "NO-CHANGE")
    record = record_of(repository)
    assert record.samples == () and record.replicates == ()
    assert any(check.ok for check in record.checks)  # correctness came first


def test_a_subset_never_begins_a_confirm(repository):
    helper.script(repository, gain=0.02)
    done = confirm(repository, "-k", "r16")
    assert (done.returncode, verdict(repository)) == (13, "INVALID")
    assert attempts(repository) == []
    assert "the confirm does not begin" in done.stdout


def test_without_a_calibration_nothing_is_promoted(repository):
    shutil.rmtree(repository / ".avo" / "calibrations")
    helper.script(repository, gain=0.02)
    done = confirm(repository)
    assert (done.returncode, verdict(repository)) == (13, "INVALID")
    assert "avo calibrate toy --target simulated --set two" in done.stdout
    assert attempts(repository) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"incumbent": "none"}, "needs an incumbent"),
        ({"blocks": 3}, "confirm_blocks"),
        ({"devices": ("simulated", "simulated")}, "twice"),
        ({"devices": ("simulated", "cuda:7")}, "cuda:7"),
        ({"devices": ("simulated", "simulated:drift"), "mode": "measure"}, "several"),
        ({"threads": 99999}, "--avo-threads 99999"),
        ({"share": "1/2"}, "--avo-nonce"),
        ({"share": "1/2", "nonce": "n", "mode": "screen"}, "only a confirm"),
        ({"share": "1/2", "nonce": "n", "mode": "calibrate"}, "only a confirm"),
    ],
)
def test_what_cannot_be_decided_is_refused(repository, changes, words):
    asked = {"mode": "confirm", "incumbent": str(repository / "before"), **changes}
    device = () if "devices" in changes else (("device", "simulated"),)
    with pytest.raises(RequestError, match=words):
        Judge(Request(root=repository, kernel="toy", **asked, **dict(device)), print)


def test_without_an_incumbent_it_ends_with_one_sentence(repository):
    done = confirm(repository, "--avo-incumbent=none")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert "kernels/toy/simulated" in line and "--avo-incumbent" in line


def test_a_screen_alone_promotes_nothing(repository):
    helper.script(repository, gain=0.02)
    options = ("--avo-mode=screen", "--avo-device=simulated", *AGAINST)
    done = run(repository, *SCORE, *options)
    assert (done.returncode, verdict(repository)) == (11, "INCONCLUSIVE")
    assert attempts(repository) == []


@pytest.mark.parametrize(
    ("script", "machine", "kind", "code"),
    [
        ({"fault": "zeros", "at": 10, "replicates": (4,)}, "", "INCORRECT", 12),
        ({}, "[incidents]\nlost_at = 60\nlost_in = [5]\n", "INVALID", 13),
    ],
    ids=["wrong in one replicate", "worker lost"],
)
def test_what_fails_ends_the_run(repository, script, machine, kind, code):
    helper.script(repository, gain=0.02, **script)
    device = helper.scenario(repository, machine) if machine else "simulated"
    done = confirm(repository, f"--avo-device={device}")
    assert (done.returncode, verdict(repository)) == (code, kind), done.stdout
    record = record_of(repository)
    assert record.replicates[-1].status is not Status.OK
    assert [line.get("verdict") for line in attempts(repository)] == [None, kind]


def test_a_screen_on_a_machine_that_is_too_busy_is_not_finished(repository):
    """Of 24 blocks with 12 launches of each of two configurations 28 may be disturbed."""
    helper.script(repository, gain=0.005)  # too little to be decided soon
    machine = helper.scenario(repository, "[incidents]\ndisturbed = 0.9\ndisturbed_by = 0.0\n")
    done = confirm(repository, f"--avo-device={machine}")
    assert (done.returncode, verdict(repository)) == (13, "INVALID"), done.stdout
    assert "disturbed launches are too many" in done.stdout
    record = record_of(repository)
    assert len({s.block for s in record.samples}) <= 3 and len(record.replicates) == 1
    (reason,) = record.derived["verdict"]["reasons"]
    assert reason["rule"] == "disturbed"
    assert attempts(repository) == []


def test_replicates_run_on_several_devices_at_once(repository):
    helper.script(repository, gain=0.02)
    done = confirm(repository, "--avo-devices=simulated,simulated:normal")
    assert (done.returncode, verdict(repository)) == (0, "PROMOTE"), done.stdout
    record = record_of(repository)
    used = [r.device for r in record.replicates if r.stage is Stage.CONFIRM]
    assert min(used.count(device) for device in ("simulated", "simulated:normal")) >= 3
    running = 0
    most = 0
    for message in journal(repository, record.run):
        begun = message["kind"] == "replicate"
        running += begun - (message["kind"] == "replicate_end")
        most = max(most, running)
    assert most == 2


def start(root: Path, *more: str) -> subprocess.Popen[str]:
    options = ("--avo-mode=confirm", "--avo-device=simulated", *AGAINST, *more)
    return subprocess.Popen(
        (*SCORE, *options), cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_replicates(root: Path, process: subprocess.Popen[str], count: int) -> None:
    """Until so many of the confirm's have finished."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        texts = [path.read_text() for path in root.glob(".avo/runs/*/journal.jsonl")]
        if any(text.count('"replicate_end"') > count for text in texts):
            return
        time.sleep(0.01)
    pytest.fail(f"no replicates: {process.communicate()[0]}")


def stop_within(root: Path, number: signal.Signals, *options: str) -> str:
    """A confirm that is stopped in its middle; what it printed. On a busy machine the signal may
    come when all is over: then the next one is stopped."""
    for _ in range(10):
        process = start(root, *options)
        try:
            wait_for_replicates(root, process, 2)
            process.send_signal(number)
            said = process.communicate(timeout=30)[0]
        finally:
            process.kill()
        if process.returncode != 0:
            return said
        shutil.rmtree(root / ".avo" / "runs")
        (root / ".avo" / "attempts.jsonl").unlink()
    pytest.fail(f"ten confirms were over before they could be stopped: {said}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda n: n.name)
def test_a_confirm_that_was_stopped_goes_on(repository, number):
    helper.script(repository, gain=0.02)
    said = stop_within(repository, number)
    assert not re.search(r"\d\.\d{3}x", said)  # nobody has seen a value
    deadline = time.monotonic() + 60
    while _processes_in(repository):
        assert time.monotonic() < deadline, "processes were left behind"
        time.sleep(0.05)
    (folder,) = repository.glob(".avo/runs/*")
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"kind": "samp')  # a line that was being written
    finished = [m["ended"] for m in _lines(folder) if m["kind"] == "replicate_end"]
    done = confirm(repository)
    assert (done.returncode, verdict(repository)) == (0, "PROMOTE"), done.stdout
    record = record_of(repository)
    assert record.run == folder.name
    assert f"continued after it was stopped: {len(finished)} replicates kept" in done.stdout
    kept = [json.loads(json.dumps(asdict(r))) for r in record.replicates[: len(finished)]]
    assert kept == finished
    assert sum(r.stage is Stage.CONFIRM for r in record.replicates) == PLANNED
    assert [sorted(line)[0] for line in attempts(repository)] == ["begin", "end"]


@pytest.mark.soak
def test_a_share_that_was_stopped_goes_on_and_is_no_other_share(repository):
    helper.script(repository, gain=0.02)
    mine, other = (("--avo-nonce=n", f"--avo-share={k}/2") for k in (1, 2))
    stop_within(repository, signal.SIGKILL, *mine)
    (folder,) = repository.glob(".avo/runs/*")
    assert confirm(repository, *other).returncode == 13
    shutil.copy(repository / "record.json", repository / "other.json")
    assert record_of(repository).run != folder.name
    done = confirm(repository, *mine)
    assert record_of(repository).run == folder.name and "continued after" in done.stdout
    done = run(repository, *AVO, "merge", "record.json", "other.json", "-o", "whole.json")
    assert "PROMOTE, merged of 2 shares" in done.stdout, done.stdout + done.stderr
    whole = Record.from_json((repository / "whole.json").read_text())
    assert sum(r.stage is Stage.CONFIRM for r in whole.replicates) == PLANNED
    assert whole.attempts["confirms"] == 0  # the other share's attempt is this one


def test_a_confirm_that_cannot_go_on_counts_as_an_attempt(repository):
    helper.script(repository, gain=0.02)
    stop_within(repository, signal.SIGKILL)
    (folder,) = repository.glob(".avo/runs/*")
    text = (folder / "journal.jsonl").read_text()
    (folder / "journal.jsonl").write_text(text[: text.index('"plan"') - 200])
    done = confirm(repository)
    assert verdict(repository) == "PROMOTE", done.stdout
    record = record_of(repository)
    assert record.run != folder.name
    assert (record.attempts["confirms"], record.attempts["invalid"]) == (1, 1)
    assert f"run {folder.name}, a confirm of the same, was stopped" in done.stdout


def test_a_confirm_does_not_go_on_under_another_question(repository):
    helper.script(repository, gain=0.02)
    stop_within(repository, signal.SIGKILL)
    (folder,) = repository.glob(".avo/runs/*")
    done = confirm(repository, "--avo-nonce=another")
    assert verdict(repository) == "PROMOTE", done.stdout
    record = record_of(repository)
    assert (record.run != folder.name, record.nonce) == (True, "another")
    assert (record.attempts["confirms"], record.attempts["invalid"]) == (1, 1)


def _lines(folder: Path) -> list[dict]:
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:-1]]


def test_two_confirms_at_once_are_two_attempts(repository):
    helper.script(repository, gain=0.02)
    first, second = start(repository), start(repository)
    outputs = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert [p.returncode for p in (first, second)] == [0, 0], outputs
    assert len(list(repository.glob(".avo/runs/*"))) == 2
    begun = [line["begin"]["run"] for line in attempts(repository) if "begin" in line]
    assert len(set(begun)) == 2


def _processes_in(root: Path) -> list[int]:
    """Processes that work in a folder, by their current directory."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.resolve() == root.resolve() and int(link.parent.name) != os.getpid():
                found.append(int(link.parent.name))
        except OSError:
            continue
    return found


def test_an_error_budget_sets_the_level_and_the_record_shows_why(repository):
    text = (repository / "pyproject.toml").read_text()
    (repository / "pyproject.toml").write_text(text + 'error_budget = "lord"\n')
    helper.script(repository, gain=0.02)
    earlier = Attempt(
        run="earlier", created="", seed=1, artifacts=("", ""), model="",
        identity=Identity(
            kernel="toy", target="simulated", set="two", candidate="", incumbent="",
            harness="", policy="", configurations=(), devices=(),
        ),
    )  # fmt: skip
    (repository / ".avo").mkdir(exist_ok=True)
    for run_id, kind, p_value in (("a", "PROMOTE", 1e-6), ("b", "REJECT", 0.3)):
        begin(repository / ".avo", replace(earlier, run=run_id))
        end(repository / ".avo", run_id, kind, p_value)
    done = confirm(repository)
    assert (done.returncode, verdict(repository)) == (0, "PROMOTE"), done.stdout
    record = record_of(repository)
    assert record.attempts["past"] == [[1e-6, True], [0.3, False]]
    assert record.plan["alpha"] == pytest.approx(0.025 * (gamma(3) + gamma(2)))
    assert record.plan["replicates"] == 11 > PLANNED  # 2^-8 is above that level
    assert "agrees: PROMOTE" in run(repository, *AVO, "verify", "record.json").stdout
