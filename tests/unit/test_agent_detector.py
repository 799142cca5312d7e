# SPDX-License-Identifier: MIT
"""The detector's rules one by one, and what it says of searches labelled beforehand."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.detector import Attempted, Finding, Kind, Thresholds, alike, detect, signature
from avo_pytest.loading import _module

TRAJECTORIES = Path(__file__).parents[1] / "agent_trajectories"
CLASSES = ("healthy", "slow", "stall", "cycle")
GENERATED_SEEDS = range(6, 26)  # 0 to 5 showed that single words do not tell edits apart
SAID = {
    Kind.STALL: "stall",
    Kind.INCORRECT: "stall",
    Kind.PLATEAU: "stall",
    Kind.REPEAT: "cycle",
    Kind.CYCLE: "cycle",
}
# Fixed with the thresholds, before any trajectory was looked at.
LEAST_FOUND = 0.9  # of the stalls and cycles
MOST_FALSE_ALARMS = 0.25  # of the healthy ones
WORDS = [
    *("tile", "stage", "warp", "load", "store", "mask", "row", "key"),
    *("fence", "barrier", "panel", "unroll", "phase", "lane"),
]


def attempt(gain: float | None = None, *, ok: bool = True, **about: Any) -> Attempted:
    """One attempt; a positive gain is accepted."""
    kept = bool(gain and gain > 0)
    return Attempted(step=1, verdict="MEASURED", gain=gain, correct=ok, accepted=kept, **about)


def edit(*words: str) -> str:
    """A diff that adds a line for each word."""
    return "\n".join(["--- a", "+++ b", "@@ -1 +1 @@", *(f"+{w} = value[{w}];" for w in words)])


BARREN = [attempt(-0.01, diff=edit(word)) for word in WORDS]


def test_eight_attempts_without_gain_are_a_stall():
    assert detect(BARREN[:7]) is None
    found = detect(BARREN[:8])
    assert found == Finding(Kind.STALL, "8 attempts without a gain", tuple(range(8)))
    assert detect([*BARREN[:7], attempt(0.01), *BARREN[:7]]) is None


def test_what_came_before_the_last_intervention_does_not_count():
    assert detect(BARREN[:12], since=5) is None
    assert detect(BARREN[:13], since=5).attempts == tuple(range(5, 13))


def test_five_wrong_in_a_row_are_found_before_a_stall():
    wrong = [attempt(ok=False, failure=f"{w} is wrong", diff=edit(w)) for w in WORDS]
    assert detect(wrong[:4]) is None
    assert detect(wrong[:5]).kind is Kind.INCORRECT
    assert detect([*wrong[:3], BARREN[0], *wrong[3:6]]) is None


def test_the_same_failure_three_times_is_found_whatever_lies_between():
    def failing(line: int, word: str) -> Attempted:
        text = f"/tmp/x{line}/attention.cu({line}): error: {word} is undefined at 0x{line:x}"
        return attempt(ok=False, failure=text, diff=edit(word, str(line)))

    two = [failing(12, "smem"), BARREN[0], failing(407, "smem"), BARREN[1]]
    assert detect(two) is None
    assert detect([*two, failing(31, "smem")]).attempts == (0, 2, 4)
    assert detect([*two, failing(31, "tmem")]) is None
    assert detect([*two, attempt(0.01), failing(31, "smem")]) is None


def test_a_signature_keeps_what_tells_failures_apart():
    one = "r16: worst row 3.2e-2 exceeds 4.25e-03 (launch 17)"
    assert signature(one) == signature("r16: worst row 7.11e-1 exceeds 4.25e-03 (launch 3)")
    assert signature(one) != signature(one.replace("r16", "r24"))
    assert signature("ptxas C7513: serialized") != signature("ptxas C7512: serialized")


def test_an_edit_that_comes_back_twice_is_a_cycle():
    there, away = (attempt(-0.01, diff=edit(*words)) for words in (WORDS[:8], WORDS[8:]))
    assert detect([there, away, there]) is None
    assert detect([there, away, there, away]).kind is Kind.CYCLE
    assert detect([there, away, attempt(0.02), there, away]) is None


def test_going_on_with_a_large_edit_is_no_cycle():
    growing = [attempt(-0.01, diff=edit(*WORDS, *map(str, range(n)))) for n in range(7)]
    assert all(alike(a.diff, b.diff) > 0.8 for a, b in pairwise(growing))
    assert detect(growing) is None


def test_one_constant_tried_at_several_values_is_no_cycle():
    tuned = [attempt(0.0, diff=f"-TILE = 128\n+TILE = {16 * n}") for n in range(1, 8)]
    assert detect(tuned) is None


def test_many_accepted_attempts_that_gain_nothing_are_a_plateau():
    tiny = [attempt(0.0004 if n % 6 == 0 else -0.01, diff=edit(str(n))) for n in range(24)]
    assert detect(tiny[:23]) is None
    assert detect(tiny).kind is Kind.PLATEAU
    assert detect(tiny, thresholds=Thresholds(plateau_gain=0.001)) is None


def test_what_the_machine_spoiled_counts_neither_way():
    spoiled = [Attempted(step=1, verdict="INVALID", correct=False, failure="disturbed")] * 9
    assert detect(spoiled) is None
    assert detect([*BARREN[:7], *spoiled, BARREN[7]]).kind is Kind.STALL


def test_only_a_promotion_counts_where_nobody_said_what_was_accepted():
    judged = [Attempted(step=n, verdict="REJECT", gain=0.01) for n in range(8)]
    assert detect(judged).kind is Kind.STALL
    assert detect([*judged[:4], Attempted(step=5, verdict="PROMOTE"), *judged[4:]]) is None


# --- whole trajectories, at every prefix as in a run ---------------------------------------------


def healthy(chance: random.Random) -> Iterator[Attempted]:
    """Two attempts in five gain one to five percent, one in six is wrong."""
    return mixed(chance, 40, 0.4, lambda: chance.uniform(0.01, 0.05))


def slow(chance: random.Random) -> Iterator[Attempted]:
    """One attempt in four gains a few thousandths."""
    return mixed(chance, 40, 0.25, lambda: chance.uniform(0.001, 0.004))


def stall(chance: random.Random) -> Iterator[Attempted]:
    """Gains, then none for twenty attempts, each another edit."""
    yield from mixed(chance, chance.randrange(3, 12), 0.6, lambda: chance.uniform(0.01, 0.05))
    yield from mixed(chance, 20, 0.0, float)


def cycle(chance: random.Random) -> Iterator[Attempted]:
    """Gains, then the same two to four edits again and again, hardly changed, or one failure."""
    yield from mixed(chance, chance.randrange(3, 9), 0.6, lambda: chance.uniform(0.01, 0.05))
    edits = [source(chance, 30) for _ in range(chance.randrange(2, 5))]
    failing = chance.random() < 0.4
    for turn in range(14):
        if failing:
            text = f"kernel.cu({chance.randrange(900)}): error: shared memory {chance.random()}"
            yield attempt(ok=False, failure=text, diff=source(chance, 30))
        else:
            again = f"{edits[turn % len(edits)]}\n+ // attempt {turn}"
            yield attempt(-abs(chance.gauss(0.01, 0.005)), diff=again)


def mixed(
    chance: random.Random, count: int, gaining: float, gain: Callable[[], float]
) -> Iterator[Attempted]:
    for _ in range(count):
        diff = source(chance, chance.randrange(3, 60))
        drawn = chance.random()
        if drawn < 1 / 6:
            what = " ".join(chance.sample(WORDS, 3))
            yield attempt(ok=False, failure=f"{what} is wrong", diff=diff)
        elif drawn > 1 - gaining:
            yield attempt(gain(), diff=diff)
        else:
            yield attempt(-abs(chance.gauss(0.01, 0.01)), diff=diff)


def source(chance: random.Random, lines: int) -> str:
    """Changed lines of invented code."""
    return "\n".join(
        f"{chance.choice('+-')}{chance.choice(WORDS)}[{chance.randrange(64)}] = "
        f"{chance.choice(WORDS)}({chance.randrange(8)});"
        for _ in range(lines)
    )


GENERATORS = {"healthy": healthy, "slow": slow, "stall": stall, "cycle": cycle}


@cache
def trajectories() -> list[tuple[str, str, list[Attempted]]]:
    """Name, label and attempts of each."""
    return [*recorded(), *made()]


def recorded() -> Iterator[tuple[str, str, list[Attempted]]]:
    lines = (TRAJECTORIES / "recorded.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [*map(json.loads, lines), *_module(TRAJECTORIES / "histories.py").recorded()]
    for one in kept:
        yield one["name"], one["label"], [Attempted(**a) for a in one["attempts"]]


def made() -> Iterator[tuple[str, str, list[Attempted]]]:
    for label, generator in GENERATORS.items():
        for seed in GENERATED_SEEDS:
            history = list(generator(random.Random(f"{label} {seed}")))
            yield f"made-{label}-{seed}", label, history


def first(history: list[Attempted]) -> tuple[str, int]:
    """What a run would have been told first, and after how many attempts."""
    for seen in range(1, len(history) + 1):
        if found := detect(history[:seen]):
            return SAID[found.kind], seen
    return "nothing", len(history)


def test_stalls_and_cycles_are_found_and_progress_is_left_alone():
    matrix: dict[str, Counter[str]] = {label: Counter() for label in CLASSES}
    for name, label, history in trajectories():
        said, seen = first(history)
        matrix[label][said] += 1
        print(f"{name:28} {label:8} {said:8} after {seen} of {len(history)}")
    print(f"\n{'':10}" + "".join(f"{said:>9}" for said in ("nothing", "stall", "cycle")))
    for label, row in matrix.items():
        print(f"{label:10}" + "".join(f"{row[said]:9}" for said in ("nothing", "stall", "cycle")))
    stuck = matrix["stall"] + matrix["cycle"]
    assert 1 - stuck["nothing"] / stuck.total() >= LEAST_FOUND
    assert matrix["cycle"]["cycle"] / matrix["cycle"].total() >= LEAST_FOUND
    healthy = matrix["healthy"]
    assert 1 - healthy["nothing"] / healthy.total() <= MOST_FALSE_ALARMS


def test_there_are_enough_trajectories_and_enough_of_them_happened():
    names = [name for name, _, _ in trajectories()]
    assert len(set(names)) == len(names) >= 30
    assert sum(not name.startswith("made-") for name in names) >= 10


@pytest.mark.parametrize("label", CLASSES)
def test_each_class_has_recorded_and_made_ones(label):
    of_class = [name for name, found, _ in trajectories() if found == label]
    assert {name.startswith("made-") for name in of_class} == {True, False}
