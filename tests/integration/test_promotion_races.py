# SPDX-License-Identifier: MIT
"""Many recorders on one repository, killed at random: nothing is lost, doubled or rewritten."""

from __future__ import annotations

import math
import multiprocessing
import random
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest

from avo_pytest import branches, ledger, verifying
from avo_pytest.loading import _module
from avo_pytest.promote import promote

helper = _module(Path(__file__).parents[1] / "judged_repository.py")
git = helper.git
PROCESSES = multiprocessing.get_context("fork")
BEGUN = "begun"
# Writes down every movement that the server is asked for, before it happens.
OBSERVER = """#!/bin/sh
while read old new ref; do echo "$ref $old $new" >> "{log}"; done
exit 0
"""


@dataclass
class Recorder:
    """A process that hands in its records in order, and begins anew where it was killed."""

    desk: Path
    bare: Path
    left: list[str]
    dice: random.Random
    kills: int
    killed: int = 0
    kill_at: float = math.inf
    process: Any = None
    said: Any = None

    def start(self) -> None:
        self.said, saying = PROCESSES.Pipe(duplex=False)
        work = (saying, self.desk, self.bare, tuple(self.left))
        self.process = PROCESSES.Process(target=record, args=work)
        self.process.start()
        saying.close()

    def hear(self) -> None:
        """Something was said, or nothing will be said any more."""
        try:
            message = self.said.recv()
        except EOFError:
            self.process.join(timeout=60)
            assert self.process.exitcode in (0, -signal.SIGKILL)
            self.process, self.kill_at = None, math.inf
            return
        if message != BEGUN:
            assert message == self.left.pop(0)
        elif self.killed < self.kills and self.dice.random() < 0.5:
            self.kill_at = time.monotonic() + self.dice.uniform(0.0, 0.6)  # in the middle of it

    def kill(self) -> None:
        if time.monotonic() >= self.kill_at:
            self.process.kill()
            self.killed, self.kill_at = self.killed + 1, math.inf


def drive(recorders: Sequence[Recorder]) -> None:
    """All of them at once, until everything is recorded."""
    while any(r.left or r.process for r in recorders):
        for recorder in recorders:
            if recorder.process is None and recorder.left:
                recorder.start()
            recorder.kill()
        running = {r.said: r for r in recorders if r.process}
        for said in wait(list(running), timeout=0.02):
            running[said].hear()


def record(saying: Connection, desk: Path, bare: Path, paths: Sequence[str]) -> None:
    """The work of a process: say when a record begins and when it is done."""
    with branches.opened(desk) as repository:
        remote = branches.Remote(repository, str(bare))
        for path in map(Path, paths):
            saying.send(BEGUN)
            found, commit = verifying.read(path), path.with_suffix(".commit").read_text()
            nonce = found.nonce
            promote(remote, desk, found, proposal=commit, role="judge", nonce=nonce)
            saying.send(str(path))


def prepared(team: Any, folder: Path, kernels: int, records: int) -> list[str]:
    """Records in files: of each kernel a better and several worse candidates."""
    paths = []
    for number in range(records):
        kernel, first = f"k{number % kernels}", number < kernels
        commit = team.proposed(kernel, f"idea {number}")
        record = team.record(
            commit, kernel=kernel, nonce=f"n{number}", gain=0.01 if first else -0.02
        )
        path = folder / f"{number}.json"
        path.write_text(record.to_json())
        path.with_suffix(".commit").write_text(commit)
        paths.append(str(path))
    return paths


def raced(
    tmp_path: Path, *, processes: int, records: int, kernels: int, kills: int, seed: int
) -> int:
    """All of them at once, each killed so often at most; how many kills there were."""
    dice = random.Random(seed)
    names = [f"k{n}" for n in range(kernels)]
    with helper.team(tmp_path, kernels=names) as team:
        paths = prepared(team, tmp_path, kernels, records)
        log = tmp_path / "log"
        hook = team.bare / "hooks" / "pre-receive"
        hook.write_text(OBSERVER.format(log=log))
        hook.chmod(0o755)
        begin = git(team.bare, "rev-parse", "main")
        dice.shuffle(paths)
        recorders = [
            Recorder(
                desk=Path(shutil.copytree(team.desk, tmp_path / f"desk{number}")),
                bare=team.bare,
                left=paths[number::processes],
                dice=random.Random(dice.random()),
                kills=kills,
            )
            for number in range(processes)
        ]
        drive(recorders)
        _settled(team.bare)
        _whole(team, paths, names, begin, log)
    return sum(r.killed for r in recorders)


def _settled(bare: Path) -> None:
    """A push whose recorder was killed may still be landing: until nothing holds a lock."""
    deadline = time.monotonic() + 120
    while list(bare.rglob("*.lock")) or list(bare.glob("objects/incoming-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _whole(team: Any, paths: list[str], names: list[str], begin: str, log: Path) -> None:
    records = {r.run: r for r in map(verifying.read, map(Path, paths))}
    entries = team.entries()
    assert sorted(e.id for e in entries) == sorted(records)
    better = {run for run, r in records.items() if r.derived["verdict"]["kind"] == "PROMOTE"}
    landed = [e for e in entries if e.version is not None]
    assert {e.id for e in landed} == better and len(landed) == len(names)
    history = git(team.bare, "rev-list", "--parents", f"{begin}..main").splitlines()
    assert {line.split()[0] for line in history} == {e.commit for e in landed}
    assert all(len(line.split()) == 2 for line in history)
    for entry in landed:
        assert ledger.raw_facts(records[entry.id].to_json())["sha256"] == entry.raw["sha256"]
        assert git(team.bare, "rev-parse", f"refs/avo/raw/{entry.id}")
    for line in log.read_text().splitlines():
        ref, old, new = line.split()
        if set(old) != {"0"}:
            assert git(team.bare, "merge-base", old, new) == old, f"{ref} was to be rewritten"
    git(team.bare, "fsck", "--full", "--strict")


def test_recorders_that_race_and_are_killed_lose_nothing(tmp_path: Path) -> None:
    raced(tmp_path, processes=8, records=24, kernels=3, kills=1, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2))
def test_eight_recorders_with_kills(tmp_path: Path, seed: int) -> None:
    killed = raced(tmp_path, processes=8, records=200, kernels=12, kills=8, seed=seed)
    assert killed > 16
