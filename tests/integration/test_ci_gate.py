# SPDX-License-Identifier: MIT
"""The gate by hand, job after job, through `avo ci`: a bare repository, GitHub's API on loopback,
the simulated device. What the workflows do with it: test_workflows.py."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from avo_pytest.loading import _module

TESTS = Path(__file__).parents[1]
github_api = _module(TESTS / "github_api.py")
ci = _module(TESTS / "ci_repository.py")
IDEA = "a better <b>order</b> @everybody"


@pytest.fixture(scope="module")
def server():
    with github_api.serve("team/kernels") as github:
        github.add_runner("bench", "self-hosted", "toy")
        github.add_runner("host", "self-hosted", "cpu")
        yield github


@pytest.fixture(scope="module")
def scored(server, tmp_path_factory):
    """A proposal that was read, built and scored: real processes, the first of them calibrates."""
    gate = ci.begin(tmp_path_factory.mktemp("scored"))
    gate.github, server.bare = server, gate.bare
    sha = gate.propose(IDEA, gain=0.03)
    number = server.open_pull("alice", head_sha=sha)
    outputs = gate.intake("pull_request_target", server.event(number))
    assert outputs["proceed"] == "true" and outputs["refused"] == "false"
    assert (outputs["proposal"], outputs["pull"]) == (sha, str(number))
    assert [row["name"] for row in json.loads(outputs["matrix"])] == [ci.GATE]
    assert outputs["nonce"] == gate.read("intake/intake.json")["nonce"] != ""
    gate.job("build")
    (gate.root / "bench" / "toy" / ci.SEEN).unlink(missing_ok=True)
    gate.process("score")
    seen = (gate.root / "bench" / "toy" / ci.SEEN).read_text().split()
    assert "PATH" in seen and not [v for v in seen if v.startswith(("GITHUB", "ACTIONS"))]
    assert [s["step"] for s in gate.read(f"score-{ci.GATE}/score.json")["steps"]] == [
        "calibrate",
        "confirm",
    ]
    assert list((gate.folder / "calibrations").glob("*.json"))
    return gate, number


@pytest.fixture
def gate(scored, server, tmp_path):
    """A copy of that, for a test to spoil, with the pull request as it was."""
    original, number = scored
    found = ci.copied(original, tmp_path / "copy", server)
    before = set(server.pulls)
    yield found
    for other in set(server.pulls) - before:
        del server.pulls[other]
    server.pulls[number].update(open=True, labels=[])
    server.comments[number].clear()
    server.checks.clear()
    server.dispatches.clear()
    server.faults.clear()
    server.runs.clear()
    server.bare = original.bare


@pytest.fixture
def number(scored):
    return scored[1]


def test_a_good_proposal_lands_and_is_told_once(gate, number, server):
    before = gate.main()
    gate.process("verify")
    verdict = gate.read("verdict/verdict.json")
    assert (verdict["verdict"], verdict["refusal"]) == ("PROMOTE", None), verdict
    gate.process("record")
    outcome = gate.read("outcome/outcome.json")
    assert (outcome["outcome"], outcome["main"]) == ("promoted", gate.main()), outcome
    assert ci.git(gate.bare, "rev-parse", "main^") == before
    (entry,) = gate.entries()
    assert (entry.kind, entry.verdict, entry.version) == ("verdict", "PROMOTE", 0)
    assert entry.identities["nonce"] == gate.read("intake/intake.json")["nonce"]
    for _ in range(2):  # a job that is run again
        assert gate.conclude()["main"] == outcome["main"] == gate.main()
    assert len(gate.entries()) == 1
    (comment,) = server.comments[number]
    assert f"Landed as {gate.main()}" in comment["body"] and entry.id in comment["body"]
    assert "<b>" not in comment["body"] and "@everybody" not in comment["body"]
    (check,) = server.checks
    assert (check["name"], check["conclusion"]) == ("avo/verdict", "success")
    assert check["head_sha"] == server.pulls[number]["head_sha"]
    assert server.pulls[number]["labels"] == ["avo:promoted"]
    assert not server.pulls[number]["open"]


def test_the_machine_is_calibrated_once_for_each_version_on_main(gate, server):
    def steps() -> list[str]:
        gate.process("score")
        return [s["step"] for s in gate.read(f"score-{ci.GATE}/score.json")["steps"]]

    assert steps() == ["confirm"]
    gate.process("verify")
    assert gate.conclude()["outcome"] == "promoted"
    shutil.rmtree(gate.root)
    shutil.rmtree(gate.run)
    number = server.open_pull("alice", head_sha=gate.propose("more", gain=0.06))
    assert gate.intake("pull_request_target", server.event(number))["refused"] == "false"
    gate.job("build")
    assert steps() == ["calibrate", "confirm"]
    assert len(list((gate.folder / "calibrations").glob("*.json"))) == 2


def unpacked(path: Path) -> dict:
    return json.loads(gzip.decompress(path.read_bytes()))


def repack(path: Path, change) -> None:
    """As somebody would who controls the scorer."""
    raw = unpacked(path)
    change(raw)
    path.write_bytes(gzip.compress(json.dumps(raw).encode()))
    said = path.with_name("score.json")
    score = {
        **json.loads(said.read_text()),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    said.write_text(json.dumps(score))


def faster(raw: dict) -> None:
    for sample in raw["samples"]:
        if sample["arm"] == "candidate":
            sample["ms"] *= 0.9
            sample["host_ms"] *= 0.9


def one_sample(path: Path) -> None:
    """No figure depends on it; whoever alters it on the way is noticed all the same."""
    raw = unpacked(path)
    raw["samples"][40]["ms"] *= 1.001
    path.write_bytes(gzip.compress(json.dumps(raw).encode()))


def renamed(raw: dict, role: str) -> None:
    for arm in raw["arms"]:
        if arm["role"] == role:
            arm["identity"] = "0" * 64


CHANGES = {
    "nonce": ("nonce", lambda raw: raw.update(nonce="0" * 32)),
    "no nonce": ("nonce", lambda raw: raw.update(nonce="")),
    "candidate": ("identity", lambda raw: renamed(raw, "candidate")),
    "incumbent": ("identity", lambda raw: renamed(raw, "incumbent")),
    "harness": ("identity", lambda raw: raw.update(harness="1" * 64)),
    "kernel": ("identity", lambda raw: raw.update(kernel="other")),
    "device": ("device", lambda raw: raw["environment"].update(device="NVIDIA H100")),
    "yesterday": ("window", lambda raw: raw.update(created="2026-01-01T00:00:00+00:00")),
    "tomorrow": ("window", lambda raw: raw.update(created="2099-01-01T00:00:00+00:00")),
    "no date": ("window", lambda raw: raw.update(created="now")),
    "run": ("window", lambda raw: raw.update(run="20200101-000000-abcdef")),
    "mode": ("mode", lambda raw: raw.update(mode="measure")),
    "subset": ("mode", lambda raw: raw.update(subset=True)),
    "faster samples": ("record", faster),
    "verdict": ("record", lambda raw: raw["derived"]["verdict"].update(gain=0.5)),
    "no derivation": ("record", lambda raw: raw.update(derived={})),
    "policy": ("record", lambda raw: raw["policy"].update(min_gain=0.0)),
    "policy of no kind": ("record", lambda raw: raw.update(policy={"min_gain": "small"})),
    "unknown key": ("artifact", lambda raw: raw.update(extra=1)),
    "text for a number": ("artifact", lambda raw: raw["samples"][0].update(ms="0.1")),
    "no samples": ("record", lambda raw: raw.update(samples=[])),
}


def test_an_altered_record_is_invalid(gate):
    folder = gate.run / f"score-{ci.GATE}"
    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, (rule, change) in CHANGES.items():
        repack(folder / "record.json.gz", change)
        gate.job("verify")
        verdict = gate.read("verdict/verdict.json")
        found = verdict["verdict"], verdict["refusal"]["rule"]
        assert found == ("INVALID", rule), (name, verdict)
        assert verdict["refusal"]["text"] and verdict["records"] == {}
        for kept, content in good.items():
            (folder / kept).write_bytes(content)
    assert not (gate.run / "verdict" / "record.json").exists()


ODD = (None, True, -1, 0, 1e308, -1e-9, "", "x" * 500, "\x1b[2J@all", [], {}, [[]], {"a": None})


def places(raw, path=()):
    """Every place of a JSON value; of long lists the first and the last."""
    yield path
    if isinstance(raw, dict):
        for key in raw:
            yield from places(raw[key], (*path, key))
    elif isinstance(raw, list):
        for at in {0, len(raw) - 1} if raw else ():
            yield from places(raw[at], (*path, at))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_no_bent_record_breaks_verify(gate, seed):
    """Whatever stands anywhere in a record: a verdict is written, and it is INVALID unless what was
    altered decides nothing."""
    generator = random.Random(seed)
    path = gate.run / f"score-{ci.GATE}" / "record.json.gz"
    original = unpacked(path)
    targets = [p for p in places(original) if p]
    gate.job("verify")
    honest = gate.read("verdict/verdict.json")["told"]
    for _ in range(60):
        raw, where = json.loads(json.dumps(original)), generator.choice(targets)
        inside = raw
        for key in where[:-1]:
            inside = inside[key]
        inside[where[-1]] = generator.choice(ODD)
        repack(path, lambda old, raw=raw: (old.clear(), old.update(raw)))
        gate.job("verify")
        verdict = gate.read("verdict/verdict.json")
        assert verdict["verdict"] == "INVALID" or verdict["told"] == honest, (where, verdict)


def bomb(path: Path) -> None:
    """A few hundred kB that unpack to more than any record has."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(160):
            file.write(b" " * (1 << 20))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def many(path: Path) -> None:
    for n in range(300):
        (path.parent / f"0{n}").touch()
    path.unlink()


DAMAGE = {
    "one sample": one_sample,
    "no report": lambda path: path.with_name("score.json").unlink(),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "bomb": bomb,
    "followed by more": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "no gzip": lambda path: path.write_bytes(b"{}"),
    "empty": lambda path: path.write_bytes(b""),
    "not a number": lambda path: path.write_bytes(gzip.compress(b'{"schema": NaN}')),
    "nested": lambda path: path.write_bytes(gzip.compress(b"[" * 100_000)),
    "a list": lambda path: path.write_bytes(gzip.compress(b"[]")),
    "a link": link,
    "a pipe": fifo,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "two records": lambda path: path.with_name("record.json").write_text("{}"),
    "absent": lambda path: path.unlink(),
    "lost in a crowd": many,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_artifact_is_invalid(gate, name):
    DAMAGE[name](gate.run / f"score-{ci.GATE}" / "record.json.gz")
    gate.job("verify")
    verdict = gate.read("verdict/verdict.json")
    assert (verdict["verdict"], verdict["refusal"]["rule"]) == ("INVALID", "artifact"), verdict


def test_what_is_invalid_is_recorded_and_told_and_moves_nothing(gate, number, server):
    before = gate.main()
    repack(gate.run / f"score-{ci.GATE}" / "record.json.gz", faster)
    gate.job("verify")
    outcome = gate.conclude()
    assert (outcome["outcome"], outcome["rule"]) == ("refused", "record")
    (entry,) = gate.entries()
    assert (entry.kind, entry.reasons[0]["rule"]) == ("refusal", "record")
    assert gate.main() == before
    (comment,) = server.comments[number]
    assert "### INVALID" in comment["body"] and "/avo score" not in comment["body"][:60]
    assert server.checks[0]["conclusion"] == "neutral" and server.pulls[number]["open"]


def test_the_verdict_of_another_run_is_not_recorded(gate):
    gate.job("verify")
    path = gate.run / "verdict" / "verdict.json"
    path.write_text(path.read_text().replace(gate.read("intake/intake.json")["nonce"], "1" * 32))
    before = gate.main()
    assert "another run" in gate.job("record", code=1)
    assert gate.main() == before and gate.entries() == []


def test_a_verdict_that_main_outran_is_started_again(gate, number, server):
    """Two racers: the loser was compared with what is not there any more."""
    gate.job("verify")
    winner = gate.propose("somebody was faster", gain=0.01)
    ci.git(gate.desk, "push", "-q", "origin", f"{winner}:refs/heads/main")
    outcome = gate.conclude()
    assert (outcome["outcome"], outcome["rule"]) == ("refused", "stale")
    assert gate.main() == winner and len(gate.entries()) == 1
    assert server.checks[0]["conclusion"] == "cancelled"
    sha = server.pulls[number]["head_sha"]
    gate.job("poll")
    assert [d["inputs"] for d in server.dispatches] == [{"pull": str(number), "sha": sha}]
    server.add_run(f"gate {sha}")
    gate.job("poll")
    assert len(server.dispatches) == 1


def test_unrelated_movement_of_main_is_no_obstacle(gate):
    gate.job("verify")
    other = gate.propose("documentation", {"README.md": "more\n"})
    ci.git(gate.desk, "push", "-q", "origin", f"{other}:refs/heads/main")
    outcome = gate.conclude()
    assert outcome["outcome"] == "promoted", outcome
    assert ci.git(gate.bare, "rev-parse", "main^") == other


def test_a_failing_api_costs_a_notice_and_no_promotion(gate, number, server):
    gate.job("verify")
    gate.job("record")
    server.fail("POST", rf"issues/{number}/comments", status=422, message="no more comments")
    assert "no more comments" in gate.job("publish", code=1)
    assert gate.main() == gate.read("outcome/outcome.json")["main"]
    gate.job("publish")
    gate.job("publish")
    assert len(server.comments[number]) == len(server.checks) == 1
    assert not server.pulls[number]["open"]


def test_our_comment_is_ours_and_about_the_newest_head(gate, number, server):
    marker = f"<!-- avo/verdict {'a' * 40} -->"
    server.add_comment(number, "mallory", marker)
    gate.job("verify")
    gate.conclude()
    assert [c["user"]["login"] for c in server.comments[number]] == ["mallory", github_api.BOT]
    theirs, ours = server.comments[number]
    assert theirs["body"] == marker
    ours["body"] = f"<!-- avo/verdict {'b' * 40} -->"  # of a head that was pushed since
    old, server.pulls[number]["head_sha"] = server.pulls[number]["head_sha"], "b" * 40
    gate.job("publish")
    assert ours["body"] == f"<!-- avo/verdict {'b' * 40} -->"
    server.pulls[number]["head_sha"] = old


@pytest.mark.soak
def test_a_cancelled_job_leaves_nothing_running(gate):
    process = begun_scoring(gate)
    (judge,) = children(process.pid)
    process.terminate()
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(judge, 0)
    assert gate.read(f"score-{ci.GATE}/score.json")["status"] == "interrupted"


def begun_scoring(gate):
    """The job in the middle of its confirm."""
    out, runs = gate.run / f"score-{ci.GATE}", gate.root / ".avo" / "runs"
    shutil.rmtree(out)
    shutil.rmtree(runs)
    process = gate.start("score")
    deadline = time.monotonic() + 100
    while not any('"sample"' in path.read_text() for path in runs.glob("*/journal.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return process


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "ppid=,pid="], capture_output=True, text=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    return [child for parent, child in pairs if parent == pid]


def test_a_runner_that_dies_leaves_no_verdict(gate):
    """Killed in the middle of a confirm, as when a machine is taken away."""
    process, out = begun_scoring(gate), gate.run / f"score-{ci.GATE}"
    below = children(process.pid)
    assert below
    for pid in (process.pid, *below):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    gate.job("verify")
    refusal = gate.read("verdict/verdict.json")["refusal"]
    assert refusal["rule"] == "artifact" and "no record arrived" in refusal["text"]
    assert not out.exists() or not list(out.iterdir())
