# SPDX-License-Identifier: MIT
"""`avo audit` from a shell on the simulated device: real trees out of real git, real processes."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from avo_pytest import branches, ledger
from avo_pytest.cli import main
from avo_pytest.entries import AUDIT, SEED, VERDICT, Entry
from avo_pytest.identity import tree_hash
from avo_pytest.loading import _module
from avo_pytest.recording import Circumstances, entry_of
from avo_pytest.score import Record

toy = _module(Path(__file__).parents[1] / "simulated_repository.py")
AVO = (sys.executable, "-m", "avo_pytest")
RECORD = ".avo/audit.json"
MEASURED = f"--record={RECORD}"
SCORE = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--avo-score", "-q")
NAMED = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER")
         for what in ("NAME", "EMAIL")}  # fmt: skip
GAIN = 0.03


def run(root: Path, *line: str, code: int = 0) -> str:
    done = subprocess.run(line, cwd=root, capture_output=True, text=True, timeout=100)
    said = done.stdout + done.stderr
    assert "Traceback" not in said and done.returncode == code, said
    return said


def git(root: Path, *line: str) -> str:
    return subprocess.run(
        ("git", *line), cwd=root, env={**os.environ, **NAMED}, check=True,
        capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip


def commit(root: Path, message: str) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", message)
    return git(root, "rev-parse", "HEAD")


def audit(root: Path, *options: str, code: int = 0) -> str:
    """In a process of its own where it measures."""
    if MEASURED not in options:
        return run(root, *AVO, "audit", "--blocks=4", *options, code=code)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        found = main(["audit", "--root", str(root), f"--record={root / RECORD}", *options[1:]])
    assert found == code, said.getvalue()
    return said.getvalue()


def entries(root: Path, kind: str = AUDIT) -> list[Entry]:
    return [e for e in ledger.load(root) if e.kind == kind]


def recorded(root: Path, *entries: Entry) -> None:
    with branches.opened(root) as repository:
        remote = branches.Remote(repository, branches.HERE)
        ledger.create(remote, {}, ())
        ledger.append(remote, entries)


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seed and version 1 on main; the seed's entry is of a real measurement."""
    root = toy.write(tmp_path_factory.mktemp("landed"), "")
    (root / ".gitignore").write_text(".avo/\nrecord.json\n__pycache__/\n")
    git(root, "init", "-q", "-b", "main")
    seed = commit(root, "seed")
    run(root, *SCORE, "--avo-device=simulated", "--avo-json=record.json")
    record = Record.from_json((root / "record.json").read_text())
    first = entry_of(record, Circumstances(kind=SEED, version=0, commit=seed))
    toy.script(root, gain=GAIN)
    recorded(root, first, claimed(root, first, GAIN, commit(root, "version 1")))
    said = audit(root, "--dry-run", "--json=.avo/audit.json")
    assert "nothing was recorded" in said and entries(root) == []
    return root


@pytest.fixture
def root(landed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(landed, tmp_path / "repository"))


def claimed(root: Path, seed: Entry, gain: float, landing: str) -> Entry:
    """The entry of a confirm of the working tree with 16 processes."""
    identities = {**seed.identities, "candidate": tree_hash(root / "kernels/toy/simulated")}
    return replace(
        seed, id=f"{seed.id[:-6]}ffffff", kind=VERDICT, verdict="PROMOTE", version=1,
        commit=landing, gain=(gain, gain - 0.0008, gain + 0.0008), replicates=16,
        plan={"effective_min_gain": 0.005}, identities=identities,
    )  # fmt: skip


def claim(root: Path, gain: float) -> None:
    """A ledger in which version 1, the working tree, claims this."""
    (first,) = entries(root, SEED)
    git(root, "update-ref", "-d", ledger.BRANCH)
    recorded(root, first, claimed(root, first, gain, git(root, "rev-parse", "main")))


def test_claims_that_add_up_hold_and_are_recorded(root: Path) -> None:
    said = audit(root, MEASURED)
    (entry,) = entries(root)
    assert (entry.verdict, entry.version, entry.replicates) == ("HOLDS", 1, 8)
    assert entry.gain is not None and entry.gain[1] < GAIN < entry.gain[2]
    assert entry.gain[0] == pytest.approx(GAIN, abs=0.003)
    assert entry.overall is not None and set(entry.configurations) == {"r16", "r24"}
    assert entry.overall["vs"]["incumbent"][0] == pytest.approx(1.03, abs=0.005)
    assert entry.commit == git(root, "rev-parse", "main")
    assert f"recorded in the ledger of this repository: {entry.id}" in said
    with branches.opened(root) as repository:
        record = Record.from_json(ledger.read_raw(branches.Remote(repository, "."), entry))
    assert len({r.number for r in record.replicates}) == 8 and record.mode == "measure"
    assert len({r.loaded for r in record.replicates}) == 2  # 8 draws of 2 orders
    line = ("-m", "avo_pytest", "verify", entry.id, "--ledger", ".")
    done = subprocess.run([sys.executable, *line], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and "in the ledger: audit HOLDS, version 1" in done.stdout
    listed = git(root, "ls-tree", "-r", "--name-only", "avo-results")
    assert "ladders/toy-simulated.md" in listed
    ladder = git(root, "show", "avo-results:ladders/toy-simulated.md")
    assert f"| {entry.overall['tflops'][0]:.1f} |" in ladder


def test_an_audit_is_recorded_once(root: Path) -> None:
    audit(root, MEASURED)
    assert "known already" in audit(root, MEASURED)
    assert len(entries(root)) == 1


@pytest.mark.parametrize("gain", [0.05, 0.01], ids=["inflated", "too small"])
def test_claims_that_do_not_add_up_are_refuted(root: Path, gain: float) -> None:
    claim(root, gain)
    said = audit(root, MEASURED, code=21)
    (entry,) = entries(root)
    assert entry.verdict == "REFUTED" and entry.version == 1
    assert "promotions wait" in said and entry.reasons[0]["rule"] == "claims"


def test_a_main_that_the_ledger_does_not_know_is_not_audited(root: Path) -> None:
    toy.script(root, gain=0.2)
    commit(root, "past the gate")
    said = audit(root, code=1)
    assert "the ledger's version 1" in said and entries(root) == []


def test_a_wrong_version_is_refuted_whatever_its_speed(root: Path) -> None:
    toy.script(root, gain=GAIN, fault="zeros", at=12, replicates=(1,))
    commit(root, "wrong in one process of two")
    claim(root, GAIN)
    said = audit(root, "--processes=2", code=21)
    (entry,) = entries(root)
    assert (entry.verdict, entry.reasons[0]["rule"]) == ("REFUTED", "correctness")
    assert "avo revert" in said


def altered(root: Path, **changes: object) -> str:
    record = Record.from_json((root / ".avo/audit.json").read_text())
    (root / ".avo/altered.json").write_text(replace(record, **changes).to_json())
    return "--record=.avo/altered.json"


def test_a_disturbed_machine_tells_nothing(root: Path) -> None:
    record = Record.from_json((root / ".avo/audit.json").read_text())
    samples = tuple(replace(s, disturbed="somebody compiled") for s in record.samples)
    altered(root, samples=samples)
    shutil.move(root / ".avo/altered.json", root / RECORD)
    said = audit(root, MEASURED, code=13)
    assert "somebody compiled" in said and "nothing was recorded" in said
    assert entries(root) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"harness": "0" * 64},
        {"subset": True},
        {"samples": ()},
        {"replicates": ()},
        {"regime": "sustained"},
        {"kernel": "softmax"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_a_record_of_something_else_tells_nothing(
    root: Path, changes: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    path = altered(root, **changes).partition("=")[2]
    code = main(["audit", "--root", str(root), "--record", str(root / path)])
    said = capsys.readouterr()
    assert code in (1, 13) and "HOLDS" not in said.out
    assert entries(root) == []


def test_a_seed_alone_is_measured_and_claims_nothing(root: Path) -> None:
    (first,) = entries(root, SEED)
    git(root, "update-ref", "-d", ledger.BRANCH)
    git(root, "update-ref", "refs/heads/main", first.commit)
    git(root, "symbolic-ref", "HEAD", "refs/heads/elsewhere")
    recorded(root, first)
    audit(root, "--processes=2")
    (entry,) = entries(root)
    assert (entry.verdict, entry.version, entry.gain) == ("HOLDS", 0, None)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--kernel=softmax",), 1, "the ledger has: toy/simulated on simulated"),
        (("--processes=0",), 2, "1 or more"),
        (("--device=cuda:77",), 4, "cuda:77"),
    ],
)
def test_what_cannot_be_audited_is_one_sentence(
    root: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    assert words in audit(root, *options, code=code)


def test_without_a_ledger_it_says_how_to_make_one(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    assert "avo init" in audit(tmp_path, code=1)


def test_a_hostile_record_orders_neither_refs_nor_the_terminal(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = altered(root, run="../../heads/main\x1b[2J\n::error::").partition("=")[2]
    before = git(root, "for-each-ref")
    assert main(["audit", "--root", str(root), "--record", str(root / path)]) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "\n::" not in said.out + said.err
    assert git(root, "for-each-ref") == before
