# SPDX-License-Identifier: MIT
"""What a verdict costs to record, by the length of the history before it. In seconds of the
processor, and always beside another figure of the same minute: the machine may be busy."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avo_pytest import ledger
from avo_pytest.loading import _module

TESTS = Path(__file__).parents[1]
helper = _module(TESTS / "judged_repository.py")
synthetic = _module(TESTS / "synthetic_ledger.py")
OTHER = {"kernel": "attention", "target": "sm90"}
OWN = {"kernel": "toy", "target": "sm80"}


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Any]:
    with helper.team(tmp_path) as made:
        assert made.promote(made.seed(), None).kind == "recorded"
        yield made


def least(work: Callable[[], object], tries: int = 3) -> float:
    """CPU seconds of this process and its git, of the cheapest try."""
    spent = []
    for _ in range(tries):
        before = _cpu()
        work()
        spent.append(_cpu() - before)
    return min(spent)


def _cpu() -> float:
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def recording(team: Any, tries: int = 3) -> float:
    """Of a REJECT, handed in and recorded."""
    commit = team.proposed()
    records = iter([team.record(commit, gain=-0.02, nonce=f"{commit}{n}") for n in range(tries)])

    def one() -> None:
        record = next(records)
        assert team.promote(record, commit, nonce=record.nonce).entry.verdict == "REJECT"

    return least(one, tries)


def lengthened(team: Any, count: int, **place: str) -> None:
    epoch = team.entries()[0].epoch
    many = synthetic.ledger(count, promotions=20, **place)
    ledger.append(team.remote, [replace(e, epoch=epoch) for e in many])


def whole(team: Any) -> float:
    """Of reading all that the ledger has by now."""
    tip = ledger.find(team.remote.repository, "origin")
    return least(lambda: ledger.read(team.remote.repository, tip))


def test_the_history_of_other_targets_is_not_read_again(team: Any) -> None:
    """Only its digests are looked at, and its ladders are left alone."""
    short = recording(team)
    lengthened(team, 6_000, **OTHER)
    more, everything = recording(team) - short, whole(team)
    assert more < 0.6 * everything, f"{more:.3f} s more, reading everything takes {everything:.3f}"


def test_the_history_of_the_own_target_is_read_once(team: Any) -> None:
    """For its versions, its ladder and its badges; not once for each of them."""
    short = recording(team)
    lengthened(team, 3_000, **OWN)
    more, everything = recording(team) - short, whole(team)
    assert more < 4 * everything, f"{more:.3f} s more, reading everything takes {everything:.3f}"


@pytest.mark.soak
@pytest.mark.parametrize(
    ("place", "most_ms"), [(OTHER, 25), (OWN, 100)], ids=["other target", "own target"]
)
def test_milliseconds_per_thousand_entries(
    team: Any, place: dict[str, str], most_ms: float, capsys: pytest.CaptureFixture[str]
) -> None:
    short = recording(team, 9)
    lengthened(team, 10_000, **place)
    long = recording(team, 9)
    each = 1e3 * (long - short) / 10
    with capsys.disabled():
        print(f"\n{1e3 * short:.0f} ms into a ledger of one entry, {1e3 * long:.0f} ms of 10,000: "
              f"{each:.1f} ms per 1,000 entries")  # fmt: skip
    assert each < most_ms
