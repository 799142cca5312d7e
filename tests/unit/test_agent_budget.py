# SPDX-License-Identifier: MIT
"""The budget: reserved before, settled after, true after any kill."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.budget import Budget, Exhausted

ROOT = Path(__file__).resolve().parents[2]
usd = st.floats(0, 3, allow_nan=False)
# reserve an amount · settle the oldest open one at a share of it · die and come back · a torn line
event = st.one_of(
    st.tuples(st.just("reserve"), usd),
    st.tuples(st.just("settle"), st.floats(0, 1.5)),
    st.tuples(st.sampled_from(["die", "torn", "again"]), st.just(0.0)),
)


def open_at(path: Path, limit: float | None = 10.0) -> Budget:
    return Budget(path, {"usd": limit, "gpu_seconds": 100.0})


@settings(max_examples=60, deadline=None)
@given(st.lists(event, max_size=40), st.floats(0.5, 12))
def test_spend_never_exceeds_the_limit_by_more_than_what_was_reserved(events, limit):
    """The model beside it is plain arithmetic: what was granted, and what it came to."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "budget.jsonl"
        budget = open_at(path, limit)
        granted: dict[str, float] = {}
        came: dict[str, float] = {}
        for kind, amount in events:
            waiting = [name for name in granted if name not in came]
            held = sum(came.get(name, asked) for name, asked in granted.items())
            if kind == "reserve":
                try:
                    granted[budget.reserve("x", usd=amount)] = amount
                    assert held + amount <= limit + 1e-9
                except Exhausted:
                    assert held + amount > limit - 1e-9
            elif kind == "settle" and waiting:
                came[waiting[0]] = granted[waiting[0]] * amount
                budget.settle(waiting[0], usd=came[waiting[0]])
            elif kind == "again" and came:
                budget.settle(next(iter(came)), usd=99.0)  # said twice: the first time counts
            elif kind == "torn":
                with path.open("a", encoding="utf-8") as file:
                    file.write('{"event":"reserve","name":"r9')
            if kind in ("die", "torn"):
                budget = open_at(path, limit)
            spent = sum(came.get(name, asked) for name, asked in granted.items())
            over = sum(max(0.0, came[n] - granted[n]) for n in came)  # dearer than was reserved
            assert budget.spent()["usd"] == pytest.approx(spent, abs=1e-9)
            assert spent <= limit + over + 1e-9
        budget.close()


def test_a_process_killed_at_work_leaves_what_it_reserved_counted_in_full(tmp_path):
    code = """
import sys
from pathlib import Path
from agent.budget import Budget
budget = Budget(Path(sys.argv[1]), {"usd": 1000.0})
for number in range(100_000):
    name = budget.reserve("a request", usd=1.0)
    print(number + 1, flush=True)
    if number % 2:
        budget.settle(name, usd=0.25)
"""
    path = tmp_path / "budget.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(20)][-1]
    child.kill()
    child.wait()
    rest = child.stdout.read().split()
    told = int(rest[-1]) if rest else told
    child.stdout.close()
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    reserved = sum(line["event"] == "reserve" for line in lines)
    settled = sum(line["event"] == "settle" for line in lines)
    spent = Budget(path, {"usd": 1000.0}).spent()["usd"]
    assert reserved in (told, told + 1)  # what was granted is on disk before anyone knows
    assert spent == pytest.approx(reserved - 0.75 * settled)
    assert settled >= told // 2 - 1 > 0


def test_two_openers_share_one_limit(tmp_path):
    path = tmp_path / "budget.jsonl"
    budgets = [open_at(path), open_at(path)]

    def spend(number: int) -> int:
        try:
            budgets[number % 2].reserve("x", usd=1.0)
        except Exhausted:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(spend, range(40))) == 10
    assert budgets[0].left()["usd"] == 0.0


def test_the_refusal_names_limit_and_amounts(tmp_path):
    budget = open_at(tmp_path / "b.jsonl")
    budget.settle(budget.reserve("one", usd=9.5), usd=9.25)
    with pytest.raises(Exhausted, match=r"10 usd does not allow two: 9.25 spent .* 1 asked"):
        budget.reserve("two", usd=1.0)
    assert budget.left() == {"usd": 0.75, "hours": math.inf, "gpu_seconds": 100.0}
    with pytest.raises(Exhausted, match="100 gpu_seconds"):
        budget.reserve("a confirm", gpu_seconds=100.5)


def test_hours_of_earlier_processes_count_and_an_end_is_an_end(tmp_path):
    path = tmp_path / "b.jsonl"
    first = Budget(path, {"hours": 1.0})
    first.reserve("x")
    first.close()
    with path.open("a", encoding="utf-8") as file:
        file.write('{"event":"close","session":"s1","seconds":3599.9999}\n')
    second = Budget(path, {"hours": 1.0})
    assert second.spent()["hours"] > 0.9999
    with path.open("a", encoding="utf-8") as file:
        file.write('{"event":"close","session":"s7","seconds":1}\n')
    with pytest.raises(Exhausted, match="1 hours"):
        second.reserve("x")


@pytest.mark.parametrize("amount", [-1.0, math.nan, math.inf])
def test_no_amount_is_no_amount(tmp_path, amount):
    budget = open_at(tmp_path / "b.jsonl", None)
    with pytest.raises(ValueError, match="no amount"):
        budget.reserve("x", usd=amount)
    name = budget.reserve("x", usd=5e6)  # no limit
    with pytest.raises(ValueError, match="no amount"):
        budget.settle(name, usd=amount)
    with pytest.raises(ValueError, match="no reservation 'r99'"):
        budget.settle("r99", usd=1.0)
    with pytest.raises(ValueError, match="no such limit: dollars"):
        Budget(tmp_path / "c.jsonl", {"dollars": 1.0})
