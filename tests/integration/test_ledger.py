# SPDX-License-Identifier: MIT
"""The ledger in real repositories: appended to, raced for, tampered with, killed in the middle."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avo_pytest import branches, ledger
from avo_pytest.branches import HERE, GitError, Remote, Tips
from avo_pytest.entries import Damaged, Entry, to_line

MAIN = "refs/heads/main"
NAMED = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER")
         for what in ("NAME", "EMAIL")}  # fmt: skip
WRITER = """
import sys
from pathlib import Path
from avo_pytest import branches, ledger
from avo_pytest.entries import Entry
with branches.opened(Path(sys.argv[1])) as repository:
    remote = branches.Remote(repository, sys.argv[2])
    for identity in sys.argv[3:]:
        entry = Entry(id=identity, kind="note", created="2026", kernel="k", target="cpu")
        ledger.append(remote, [entry])
        print(identity, flush=True)
"""


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=root, env={**os.environ, **NAMED}, check=True,
        capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip


def note(number: int, **changes: Any) -> Entry:
    base = {"kind": "note", "created": "2026", "kernel": "k", "target": "cpu"}
    return Entry(id=f"20260101-000000-{number:06x}", **{**base, **changes})


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "bare with a space.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(path))
    return path


@pytest.fixture
def clone(tmp_path: Path, bare: Path) -> Path:
    root = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(bare), str(root))
    (root / "file").write_text("1\n")
    git(root, "checkout", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    git(root, "push", "-q", "origin", "main")
    return root


@pytest.fixture
def remote(clone: Path) -> Iterator[Remote]:
    with branches.opened(clone) as repository:
        yield Remote(repository, "origin")


@pytest.fixture
def begun(remote: Remote) -> Remote:
    assert ledger.create(remote, {"README.md": b"x\n"}, [])
    return remote


def entries(remote: Remote) -> list[Entry]:
    tip = remote.tips((ledger.BRANCH,))[ledger.BRANCH]
    assert tip is not None
    return ledger.read(remote.repository, tip)


def test_entries_are_appended_in_order(begun: Remote) -> None:
    for number in (2, 1, 3):
        assert ledger.append(begun, [note(number)]).new == (note(number).id,)
    assert entries(begun) == [note(1), note(2), note(3)]


def test_the_branch_is_orphan_and_nothing_else_moved(begun: Remote, clone: Path) -> None:
    before = git(clone, "rev-parse", "HEAD"), git(clone, "status", "--porcelain")
    ledger.append(begun, [note(1)])
    assert (git(clone, "rev-parse", "HEAD"), git(clone, "status", "--porcelain")) == before
    bases = subprocess.run(["git", "merge-base", "main", "origin/avo-results"], cwd=clone)
    assert bases.returncode == 1
    assert git(clone, "fsck", "--full", "--strict") == ""


def test_a_ledger_is_begun_once(begun: Remote) -> None:
    ledger.append(begun, [note(1)])
    assert ledger.create(begun, {"README.md": b"other\n"}, []) is None
    assert entries(begun) == [note(1)]


def test_without_a_ledger_nothing_is_made(remote: Remote, clone: Path) -> None:
    with pytest.raises(ledger.NoLedger, match="avo init"):
        ledger.append(remote, [note(1)])
    with pytest.raises(ledger.NoLedger, match="avo init"):
        ledger.load(clone)


def test_the_same_entry_twice_is_once(begun: Remote) -> None:
    first = ledger.append(begun, [note(1)])
    again = ledger.append(begun, [note(1)])
    assert (again.commit, again.new, again.known) == (first.commit, (), (note(1).id,))


def test_another_entry_of_the_same_run_is_refused(begun: Remote) -> None:
    ledger.append(begun, [note(1)])
    with pytest.raises(ledger.Duplicate, match="says something else"):
        ledger.append(begun, [note(2), note(1, idea="better")])
    assert entries(begun) == [note(1)]


def test_many_at_once_and_one_of_them_twice(begun: Remote) -> None:
    done = ledger.append(begun, [note(1), note(2), note(1)])
    assert entries(begun) == [note(1), note(2)]
    assert (done.new, done.known) == ((note(1).id, note(2).id), (note(1).id,))


def test_generated_files_are_replaced_and_entries_kept(begun: Remote) -> None:
    ledger.append(begun, [note(1)], files={"badges/a.svg": b"1"})
    second = ledger.append(begun, (), files={"badges/a.svg": b"2"}).commit
    assert branches.read_file(begun.repository, second, "badges/a.svg") == b"2"
    assert ledger.append(begun, (), files={"badges/a.svg": b"2"}).commit == second
    assert entries(begun) == [note(1)]


def test_a_bare_repository_itself_and_a_lone_clone_work_alike(tmp_path: Path, bare: Path) -> None:
    for root in (bare, tmp_path):
        if root is tmp_path:
            git(root, "init", "-q", "-b", "main")
        with branches.opened(root) as repository:
            here = Remote(repository, HERE)
            assert ledger.create(here, {}, [note(1)])
            ledger.append(here, [note(2)])
            assert ledger.usual_remote(repository) == HERE
        assert ledger.load(root) == [note(1), note(2)]


def test_reading_needs_no_remote(begun: Remote, clone: Path, bare: Path) -> None:
    ledger.append(begun, [note(1)])
    bare.rename(bare.with_name("gone"))
    assert ledger.load(clone) == [note(1)]
    with pytest.raises(GitError, match=r"git ls-remote: .*repository"):
        ledger.load(clone, "origin")


def test_two_writers_that_saw_the_same_tip_both_land(begun: Remote, clone: Path) -> None:
    calls = []

    def build(tips: Tips) -> dict[str, str]:
        calls.append(tips[ledger.BRANCH])
        if len(calls) == 1:  # somebody else is faster
            ledger.append(begun, [note(1)])
        done = ledger.extended(begun.repository, tips[ledger.BRANCH], [note(2)])
        return {ledger.BRANCH: done.commit}

    begun.transact((ledger.BRANCH,), build)
    assert len(calls) == 2
    assert entries(begun) == [note(1), note(2)]


def landing(remote: Remote, tips: Tips, text: str) -> str:
    return branches.write_commit(remote.repository, tips[MAIN], {"file": text.encode()}, text)


def test_main_and_the_ledger_move_together_or_not_at_all(begun: Remote) -> None:
    """What a promotion needs: if only the ledger moved, both are rebuilt and land."""
    tries = []

    def build(tips: Tips) -> dict[str, str]:
        tries.append(dict(tips))
        if len(tries) == 1:
            ledger.append(begun, [note(1)])
        done = ledger.extended(begun.repository, tips[ledger.BRANCH], [note(2)])
        return {MAIN: landing(begun, tips, "2\n"), ledger.BRANCH: done.commit}

    before = begun.tips((MAIN,))[MAIN]
    moved = begun.transact((MAIN, ledger.BRANCH), build)
    assert tries[0][MAIN] == tries[1][MAIN] == before  # the first push moved nothing
    assert begun.tips((MAIN, ledger.BRANCH)) == moved
    assert entries(begun) == [note(1), note(2)]
    assert branches.read_file(begun.repository, moved[MAIN], "file") == b"2\n"


def test_a_builder_that_refuses_moves_nothing(begun: Remote) -> None:
    before = begun.tips((MAIN, ledger.BRANCH))

    def refuse(tips: Tips) -> dict[str, str]:
        raise GitError("the incumbent has changed")

    with pytest.raises(GitError, match="the incumbent has changed"):
        begun.transact((MAIN, ledger.BRANCH), refuse)
    assert begun.tips((MAIN, ledger.BRANCH)) == before


def test_a_remote_that_declines_says_so_at_once(begun: Remote, bare: Path) -> None:
    hook = bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho protected >&2\nexit 1\n")
    hook.chmod(0o755)
    start = time.monotonic()
    with pytest.raises(GitError, match="pre-receive hook declined"):
        ledger.append(begun, [note(1)])
    assert time.monotonic() - start < 10
    assert entries(begun) == []


def test_history_is_never_rewritten(begun: Remote, clone: Path) -> None:
    first = ledger.append(begun, [note(1)]).commit
    other = branches.write_commit(begun.repository, None, {"ledger/x": b""}, "rewritten")
    with pytest.raises(branches.Raced):
        begun.push({ledger.BRANCH: other})
    assert begun.tips((ledger.BRANCH,))[ledger.BRANCH] == first


def test_hooks_and_filters_of_the_repository_do_not_run(begun: Remote, clone: Path) -> None:
    marker = clone / "ran"
    for name in ("pre-push", "commit-msg", "post-index-change", "reference-transaction"):
        hook = clone / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch '{marker}'\n")
        hook.chmod(0o755)
    git(clone, "config", "core.autocrlf", "true")
    ledger.append(begun, [note(1)], files={"a": b"1\r\n2\n"})
    tip = begun.tips((ledger.BRANCH,))[ledger.BRANCH]
    assert branches.read_file(begun.repository, tip, "a") == b"1\r\n2\n"
    assert not marker.exists()


def test_an_option_is_no_remote(remote: Remote) -> None:
    evil = Remote(remote.repository, "--upload-pack=touch pwned")
    with pytest.raises(GitError):
        evil.tips((MAIN,))


def test_raw_samples_come_back_and_are_not_cloned(
    begun: Remote, tmp_path: Path, bare: Path
) -> None:
    record = '{"samples":[1,2,3]}'
    ref, commit, facts = ledger.raw_commit(begun.repository, note(1).id, record)
    entry = note(1, raw=facts)

    def build(tips: Tips) -> dict[str, str]:
        done = ledger.extended(begun.repository, tips[ledger.BRANCH], [entry])
        return {ledger.BRANCH: done.commit, ref: commit}

    begun.transact((ledger.BRANCH, ref), build)
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(bare), str(other))
    assert ref not in git(other, "for-each-ref", "--format=%(refname)")
    with branches.opened(other) as repository:
        assert ledger.read_raw(Remote(repository, "origin"), entry) == record


def test_altered_raw_samples_are_noticed(begun: Remote) -> None:
    record = '{"samples":[1,2,3]}'
    ref, _, facts = ledger.raw_commit(begun.repository, note(1).id, record)
    packed = gzip.compress(record.encode(), mtime=0)
    generator = random.Random(1)
    for at in generator.sample(
        range(10, len(packed)), 12
    ):  # before, gzip keeps a date and a system
        altered = packed[:at] + bytes([packed[at] ^ 4]) + packed[at + 1 :]
        files = {ledger.RECORD: altered}
        commit = branches.write_commit(begun.repository, None, files, "altered")
        git(Path(begun.repository.working_dir), "push", "-qf", "origin", f"{commit}:{ref}")
        with pytest.raises(Damaged, match="refs/avo/raw"):
            ledger.read_raw(begun, note(1, raw=facts))
    with pytest.raises(GitError, match="are not on origin"):
        ledger.read_raw(begun, note(2, raw=facts))


def tampered(remote: Remote, content: bytes) -> str:
    tip = remote.tips((ledger.BRANCH,))[ledger.BRANCH]
    return branches.write_commit(remote.repository, tip, {ledger.place(note(1).id): content}, "x")


def test_an_altered_ledger_is_noticed_at_any_byte(begun: Remote) -> None:
    ledger.append(begun, [note(1, idea="one"), note(2)])
    good = "".join(f"{to_line(e)}\n" for e in (note(1, idea="one"), note(2))).encode()
    assert ledger.read(begun.repository, tampered(begun, good))
    for at in [*range(0, len(good), 23), len(good) - 1]:
        altered = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises(Damaged, match=r"ledger/2026-01/01\.jsonl"):
            ledger.read(begun.repository, tampered(begun, altered))


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([note(1), note(1)], "is there twice"),
        ([replace(note(1), id="20260102-000000-abcdef")], "in the wrong file"),
    ],
)
def test_a_misplaced_line_is_noticed(begun: Remote, lines: list[Entry], why: str) -> None:
    content = "".join(f"{to_line(e)}\n" for e in lines).encode()
    with pytest.raises(Damaged, match=why):
        ledger.read(begun.repository, tampered(begun, content))


def test_appending_costs_the_same_after_many_entries(begun: Remote) -> None:
    def seconds(first: int) -> float:
        """The fastest of five: the machine may be busy."""
        spent = []
        for number in range(first, first + 5):
            start = time.perf_counter()
            ledger.append(begun, [note(number)])
            spent.append(time.perf_counter() - start)
        return min(spent)

    short = seconds(0)
    days = [f"2025{1 + d // 28:02}{1 + d % 28:02}" for d in range(200)]
    many = [replace(note(n), id=f"{day}-000000-{n:06x}") for day in days for n in range(20)]
    ledger.append(begun, many)
    assert seconds(100) < 2 * short + 0.1


def kill_and_restart(roots: list[Path], bare: Path, work: list[list[str]], seed: int) -> int:
    """A writer per root; each is killed now and then and begun again. How many were killed."""
    dice = random.Random(seed)
    done: list[set[str]] = [set() for _ in roots]
    killed = 0
    running: list[subprocess.Popen[str] | None] = [None] * len(roots)
    deadline = time.monotonic() + 400
    while any(set(w) - d for w, d in zip(work, done, strict=True)):
        assert time.monotonic() < deadline
        for at, root in enumerate(roots):
            process = running[at]
            if process is None and set(work[at]) - done[at]:
                left = [i for i in work[at] if i not in done[at]]
                line = [sys.executable, "-c", WRITER, str(root), str(bare), *left]
                running[at] = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
            elif process is not None and (process.poll() is not None or dice.random() < 0.06):
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    killed += 1
                out, _ = process.communicate()
                assert process.returncode in (0, -signal.SIGKILL)
                done[at] |= set(out.split())
                running[at] = None
        time.sleep(0.1)
    return killed


def raced(tmp_path: Path, bare: Path, processes: int, operations: int, seed: int) -> int:
    """Entries of all writers are there once, nothing was rewritten, the repository is whole."""
    with branches.opened(bare) as repository:
        ledger.create(Remote(repository, HERE), {}, [])
    git(bare, "config", "receive.denyNonFastForwards", "true")
    ids = [[note(100 * p + n).id for n in range(operations // processes)] for p in range(processes)]
    roots = [tmp_path / f"writer{p}" for p in range(processes)]
    for root in roots:
        git(tmp_path, "init", "-q", str(root))
    killed = kill_and_restart(roots, bare, ids, seed)
    time.sleep(0.5)  # a push whose writer was killed may still be landing
    found = ledger.load(bare)
    assert [e.id for e in found] == sorted(i for mine in ids for i in mine)
    history = git(bare, "rev-list", "--parents", "avo-results").splitlines()
    assert all(len(line.split()) <= 2 for line in history)
    assert len(history) == operations + 1
    git(bare, "fsck", "--full", "--strict")
    return killed


def test_writers_that_race_and_are_killed_lose_nothing(tmp_path: Path, bare: Path) -> None:
    raced(tmp_path, bare, processes=3, operations=12, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_eight_writers_with_kills(tmp_path: Path, bare: Path, seed: int) -> None:
    assert raced(tmp_path, bare, processes=8, operations=200, seed=seed) > 10
