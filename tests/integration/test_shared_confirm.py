# SPDX-License-Identifier: MIT
"""A confirm that two runners share, through the gate by hand: real processes, a bare repository,
the simulated device. Whatever is lost or does not belong together leaves main where it was."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avo_pytest.attempts import read as read_attempts
from avo_pytest.cli import main as avo
from avo_pytest.loading import _module
from avo_pytest.score import Record

TESTS = Path(__file__).parents[1]
github_api = _module(TESTS / "github_api.py")
ci = _module(TESTS / "ci_repository.py")
shared = _module(TESTS / "shared_confirms.py")
PLACES = [f"score-{ci.GATE}.{k}of2" for k in (1, 2)]


@pytest.fixture(scope="module")
def server():
    with github_api.serve("team/kernels") as github:
        github.add_runner("bench", "self-hosted", "toy")
        yield github


@pytest.fixture(scope="module")
def scored(server, tmp_path_factory):
    """A proposal that both jobs of the matrix have scored, each its share."""
    gate = ci.begin(tmp_path_factory.mktemp("scored"), shares=2)
    gate.github, server.bare = server, gate.bare
    sha = gate.propose("an idea", gain=0.03)
    number = server.open_pull("alice", head_sha=sha)
    outputs = gate.intake("pull_request_target", server.event(number))
    jobs = json.loads(outputs["matrix"])
    assert [(j["name"], j["share"], j["artifact"]) for j in jobs] == [
        (ci.GATE, "1/2", PLACES[0]),
        (ci.GATE, "2/2", PLACES[1]),
    ]
    gate.job("build")
    for job in jobs:
        out = str(gate.run / job["artifact"])
        gate.process("score", f"--share={job['share']}", "--out", out)
    return gate, number


@pytest.fixture
def gate(scored, server, tmp_path):
    """A copy of that, for a test to spoil."""
    original, number = scored
    yield ci.copied(original, tmp_path / "copy", server)
    server.pulls[number].update(open=True, labels=[])
    server.comments[number].clear()
    server.checks.clear()
    server.bare = original.bare


def test_two_shares_are_one_verdict_that_lands_and_one_attempt(gate):
    before = gate.main()
    gate.process("verify")
    verdict = gate.read("verdict/verdict.json")
    assert (verdict["verdict"], verdict["refusal"]) == ("PROMOTE", None), verdict
    assert gate.conclude()["outcome"] == "promoted"
    assert ci.git(gate.bare, "rev-parse", "main^") == before
    (entry,) = gate.entries()
    assert (entry.verdict, entry.version, entry.replicates) == ("PROMOTE", 0, 8)
    record = Record.from_json((gate.run / "verdict" / "record.json").read_text())
    parts = [unpacked(gate.run / place) for place in PLACES]
    assert entry.id == record.run not in {part["run"] for part in parts}
    assert [s.run for s in record.shares] == [part["run"] for part in parts]
    assert record.attempts["confirms"] == record.attempts["invalid"] == 0


def test_merged_is_what_one_machine_measures_and_decides(gate):
    """On the simulated device a process's times follow from seed and number: bit for bit."""
    order = gate.read("intake/intake.json")
    line = [
        *(sys.executable, "-m", "avo_pytest", "score", "--mode=confirm", "--device=simulated"),
        f"--candidate={gate.run / 'intake' / 'candidate'}", f"--incumbent={order['base']}",
        f"--nonce={order['nonce']}", "--json=one.json", "--exit-verdict",
        "--", "-q", "-p", "no:cacheprovider",
    ]  # fmt: skip
    done = subprocess.run(line, cwd=gate.root, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    one = Record.from_json((gate.root / "one.json").read_text())
    shares = [str(packed(gate.run / place)) for place in reversed(PLACES)]
    assert command("merge", *shares, "-o", str(gate.run / "whole.json")) == (0, "")
    whole = Record.from_json((gate.run / "whole.json").read_text())
    assert times(whole) == times(one) and len(times(one)) > 300
    assert whole.derived == one.derived
    assert command("verify", str(gate.run / "whole.json"), "--root", str(gate.root)) == (0, "")
    assert command("merge", shares[0], "-o", str(gate.run / "half.json"))[0] == 1
    assert not (gate.run / "half.json").exists()
    # one confirm on one machine, and the whole one after it
    assert len(read_attempts(gate.root / ".avo")) == 3
    assert one.attempts["confirms"] == 1


def times(record: Record) -> set[tuple[Any, ...]]:
    return {(s.replicate, s.block, s.configuration, s.turn, s.arm, s.ms) for s in record.samples}


def test_a_share_alone_is_refused_by_the_recorder(gate):
    before, sha = gate.main(), gate.read("intake/intake.json")["proposal"]
    for place in PLACES:
        found = packed(gate.run / place)
        code, _ = command(
            *("promote", str(found), "--commit", sha, "--remote", str(gate.bare)),
            *("--root", str(gate.root)),
        )
        assert (code, gate.main()) == (20, before)
    assert [e.reasons[0]["rule"] for e in gate.entries()] == ["share", "share"]


def command(*line: str) -> tuple[int, str]:
    """Exit status, and what it complained of."""
    complaint = io.StringIO()
    with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(io.StringIO()):
        code = avo(list(line))
    return code, complaint.getvalue() if code == 0 else ""


def packed(folder: Path) -> Path:
    return folder / "record.json.gz"


def unpacked(folder: Path) -> dict[str, Any]:
    return dict(json.loads(gzip.decompress(packed(folder).read_bytes())))


def repack(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """As somebody would who controls a scorer."""
    raw = unpacked(folder)
    change(raw)
    packed(folder).write_bytes(gzip.compress(json.dumps(raw).encode()))
    digest = hashlib.sha256(packed(folder).read_bytes()).hexdigest()
    said = json.loads((folder / "score.json").read_text())
    (folder / "score.json").write_text(json.dumps({**said, "sha256": digest}))


def identity(raw: dict[str, Any], role: str, key: str) -> None:
    for arm in raw["arms"]:
        if arm["role"] == role:
            arm[key] = "0" * 64


def less_one(raw: dict[str, Any]) -> None:
    """Without its last process, as if it never was planned."""
    last = max(r["number"] for r in raw["replicates"])
    for name, key in (("replicates", "number"), ("samples", "replicate"), ("blocks", "replicate"),
                      ("checks", "replicate")):  # fmt: skip
        raw[name] = [one for one in raw[name] if one[key] != last]


def swap(first: Path, second: Path) -> None:
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def again(first: Path, second: Path) -> None:
    shutil.rmtree(second)
    shutil.copytree(first, second)


def whole(first: Path, second: Path) -> None:
    """The merged one, as if a scoring machine had made it."""
    out = first / "record.json"
    assert command("merge", str(packed(first)), str(packed(second)), "-o", str(out))[0] == 0
    text = out.read_text()
    out.unlink()
    repack(second, lambda raw: (raw.clear(), raw.update(json.loads(text))))


def altered(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], None]:
    """The second share by somebody who knows how verdicts are derived."""

    def change_and_derive(raw: dict[str, Any]) -> None:
        change(raw)
        derived = shared.judged(Record.from_json(json.dumps(raw))).derived
        raw.update(derived=json.loads(json.dumps(derived)))

    return lambda first, second: repack(second, change_and_derive)


LOST = {
    "lost": ("artifact", lambda first, second: shutil.rmtree(second)),
    "truncated": (
        "artifact", lambda _, second: packed(second).write_bytes(packed(second).read_bytes()[:-99]),
    ),
    "both lost": ("artifact", lambda *both: [shutil.rmtree(one) for one in both]),
    "twice": ("share", again),
    "swapped": ("share", swap),
    "whole": ("share", whole),
    "unmarked": ("share", altered(lambda raw: raw["plan"].pop("share"))),
    "renumbered": ("share", altered(lambda raw: raw["plan"].update(share="1/2"))),
    "of three": ("share", altered(lambda raw: raw["plan"].update(share="2/3"))),
    "another nonce": ("nonce", altered(lambda raw: raw.update(nonce="0" * 32))),
    "another candidate": ("identity", altered(lambda raw: identity(raw, "candidate", "identity"))),
    "another artifact": ("share", altered(lambda raw: identity(raw, "candidate", "artifact"))),
    "another driver": ("share", altered(lambda raw: raw["environment"].update(driver="1"))),
    "yesterday": ("window", altered(lambda raw: raw.update(created="2026-01-01T00:00:00+00:00"))),
    "its verdict": (
        "record",
        lambda _, second: repack(second, lambda raw: raw["derived"]["verdict"].update(gain=0.5)),
    ),
    "one process less": (None, altered(less_one)),
    "one planned less": (
        None, altered(lambda raw: (less_one(raw), raw["plan"].update(replicates=7))),
    ),
}  # fmt: skip


def test_whatever_is_lost_or_does_not_fit_is_invalid(gate):
    """A rule of verify says so; what only is incomplete, the verdict itself says."""
    before, kept = gate.main(), gate.run.with_name("kept")
    shutil.copytree(gate.run, kept)
    for name, (rule, change) in LOST.items():
        change(*(gate.run / place for place in PLACES))
        gate.job("verify")
        verdict = gate.read("verdict/verdict.json")
        found = verdict["verdict"], verdict["refusal"] and verdict["refusal"]["rule"]
        assert found == ("INVALID", rule), (name, verdict)
        shutil.rmtree(gate.run)
        shutil.copytree(kept, gate.run)
    LOST["lost"][1](*(gate.run / place for place in PLACES))
    gate.job("verify")
    assert gate.conclude()["rule"] == "artifact"
    assert gate.main() == before and [e.kind for e in gate.entries()] == ["refusal"]


def test_a_share_that_the_gate_does_not_have_is_not_scored(gate):
    out = gate.run / "odd"
    gate.job("score", "--share=1/3", "--out", str(out), code=1)
    said = json.loads((out / "score.json").read_text())
    assert said["status"] == "order" and "1/2, 2/2" in said["reason"]
