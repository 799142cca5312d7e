# SPDX-License-Identifier: MIT
"""What is not the candidate's fault is not held against it, and what cannot be kept is said."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from avo_pytest.judge import Judge, Request
from avo_pytest.report.outcome import Outcome, outcome
from avo_pytest.summary import summarise

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
QUICK = "b8-h8-s512-d128-causal"


def own_workers() -> list[int]:
    """Worker processes that this process started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = stat.with_name("cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == os.getpid() and b"avo_pytest.worker" in command:
            found.append(int(stat.parent.name))
    return found


def test_a_worker_killed_from_outside_is_nobodys_fault() -> None:
    killed: list[int] = []

    def listen(event: str, **facts: Any) -> None:
        if event == "progress" and facts["total"] == 200 and facts["done"] > 3 and not killed:
            killed.extend(own_workers())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    request = Request(
        root=ROOT, kernel="attention", target="cpu", incumbent="none", baselines=(),
        configuration=QUICK, blocks=100, threads=2,
    )  # fmt: skip
    judge = Judge(request, listen)
    try:
        assert judge.throughput(QUICK) == []
    finally:
        record = judge.finish()
    assert killed and record is not None
    assert "SIGKILL" in judge.failure(QUICK) and "alone" in judge.failure(QUICK)
    assert record.samples == () and all(check.ok for check in record.checks)
    assert outcome(record, summarise(record)) is Outcome.UNMEASURED


def test_a_record_that_cannot_be_written_is_said() -> None:
    request = Request(
        root=ROOT, kernel="attention", target="cpu", incumbent="none", baselines=(),
        json=Path("/proc/avo/record.json"), threads=2,
    )  # fmt: skip
    judge = Judge(request, lambda *_, **__: None)
    assert judge.correctness(judge.correctness_names()[0]).ok
    record = judge.finish()
    assert record is not None
    assert [note for note in record.notes if "/proc/avo/record.json" in note] == judge.lost
