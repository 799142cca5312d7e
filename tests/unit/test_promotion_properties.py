# SPDX-License-Identifier: MIT
"""Whatever the samples are: order means nothing, both arms cannot win, damage never promotes."""

from __future__ import annotations

import functools
import importlib.util
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avo_pytest.promotion import Kind, Verdict, decide
from avo_pytest.score import Record


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


synthetic = load(Path(__file__).resolve().parents[1] / "synthetic.py")
# the confirm alone, of the fewest processes that can promote: a verdict in three milliseconds
POLICY = replace(synthetic.POLICY, screen_blocks=0, confirm_blocks=4, replicates=8)
SWAPPED = {"candidate": "incumbent", "incumbent": "candidate", "null": "null"}
gains = st.floats(-0.02, 0.02)
seeds = st.integers(0, 50)
fast = settings(deadline=None, max_examples=40)


@functools.lru_cache(maxsize=8)
def record(gain: float, seed: int) -> Record:
    return synthetic.record(gain, seed=seed, policy=POLICY)


def times(factor: Callable[[Any], float], base: Record) -> Record:
    return replace(
        base,
        samples=tuple(
            replace(s, ms=s.ms * factor(s), host_ms=s.host_ms * factor(s)) for s in base.samples
        ),
    )


@fast
@given(gains, seeds, st.randoms(use_true_random=False))
def test_the_order_in_which_anything_is_recorded_means_nothing(
    gain: float, seed: int, order: random.Random
) -> None:
    base = record(gain, seed)
    shuffled = {
        name: tuple(order.sample(getattr(base, name), len(getattr(base, name))))
        for name in ("samples", "checks", "replicates", "blocks", "arms", "configurations")
    }
    assert decide(replace(base, **shuffled), POLICY) == decide(base, POLICY)


@fast
@given(gains, seeds, st.permutations(range(8)))
def test_the_numbers_of_the_processes_mean_nothing(
    gain: float, seed: int, number: list[int]
) -> None:
    base = record(gain, seed)
    renumbered = replace(
        base,
        replicates=tuple(replace(r, number=number[r.number]) for r in base.replicates),
        samples=tuple(replace(s, replicate=number[s.replicate]) for s in base.samples),
        checks=tuple(
            c if c.replicate is None else replace(c, replicate=number[c.replicate])
            for c in base.checks
        ),
        blocks=tuple({**b, "replicate": number[b["replicate"]]} for b in base.blocks),
    )
    assert decide(renumbered, POLICY) == decide(base, POLICY)


@fast
@given(gains, seeds, st.permutations(range(4)))
def test_which_block_came_first_means_nothing(gain: float, seed: int, order: list[int]) -> None:
    """Up to the clock, which is moved along."""
    base = record(gain, seed)
    clock = {s.block: s.facts["at_ms"] for s in reversed(base.samples) if s.replicate == 0}
    begin = [clock[b] for b in range(4)]
    apart = 10 * begin[3]  # enough for any block
    moved = synthetic.changed_samples(
        base,
        block=lambda s: order[s.block],
        facts=lambda s: {"at_ms": s.facts["at_ms"] + apart * (order[s.block] + 1)},
    )
    assert decide(moved, POLICY) == decide(base, POLICY)


@fast
@given(gains, seeds)
def test_candidate_and_incumbent_cannot_both_win(gain: float, seed: int) -> None:
    """The null twin goes with whoever is the incumbent, so it is given the other's times here."""
    base = record(gain, seed)
    at = {(s.replicate, s.block, s.configuration, s.turn, s.arm): s for s in base.samples}
    swapped = []
    for s in base.samples:
        place = s.replicate, s.block, s.configuration, s.turn
        twin = at[*place, "candidate"].ms * at[*place, "null"].ms / at[*place, "incumbent"].ms
        ms = twin if s.arm == "null" else s.ms
        swapped.append(replace(s, arm=SWAPPED[s.arm], ms=ms, host_ms=ms + 0.02))
    both = [decide(base, POLICY), decide(replace(base, samples=tuple(swapped)), POLICY)]
    assert [v.kind for v in both].count(Kind.PROMOTE) <= 1
    if all(v.gain is not None for v in both):
        assert both[0].gain == pytest.approx(-both[1].gain, abs=1e-9)


@fast
@given(gains, seeds, st.floats(0, 0.05))
def test_a_slower_candidate_is_never_judged_better(gain: float, seed: int, loss: float) -> None:
    base = record(gain, seed)
    slowed = times(lambda s: 1 + loss if s.arm == "candidate" else 1.0, base)
    if decide(slowed, POLICY).kind is Kind.PROMOTE:
        assert decide(base, POLICY).kind is Kind.PROMOTE


@fast
@given(gains, seeds, st.floats(0.1, 10))
def test_a_faster_machine_changes_nothing(gain: float, seed: int, factor: float) -> None:
    base = record(gain, seed)
    found, other = decide(base, POLICY), decide(times(lambda _: factor, base), POLICY)
    assert (found.kind, [r.rule for r in found.reasons]) == (
        other.kind,
        [r.rule for r in other.reasons],
    )


DAMAGE: dict[str, Callable[[list[Any], int, random.Random], None]] = {
    "removed": lambda made, i, _: made.pop(i),
    "doubled": lambda made, i, _: made.append(made[i]),
    "nan": lambda made, i, _: made.__setitem__(i, replace(made[i], ms=float("nan"))),
    "negative": lambda made, i, _: made.__setitem__(i, replace(made[i], ms=-made[i].ms)),
    "moved": lambda made, i, r: made.__setitem__(
        i, replace(made[i], turn=1 - made[i].turn, position=r.randrange(3))
    ),
    "renamed": lambda made, i, _: made.__setitem__(i, replace(made[i], arm=SWAPPED[made[i].arm[:9]]
        if made[i].arm != "null" else "incumbent")),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_one_damaged_sample_never_promotes(how: str, index: int, order: random.Random) -> None:
    base = record(0.01, 1)
    assert decide(base, POLICY).kind is Kind.PROMOTE
    made = list(base.samples)
    DAMAGE[how](made, index % len(made), order)
    assert decide(replace(base, samples=tuple(made)), POLICY).kind is Kind.INVALID


ODD = (None, True, -1, 0, 1e308, 10**30, "", "x", [], {}, [[]], {"x": [1]}, "NaN")


def _places(raw: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every key of a JSON value, with what holds it; of a list its first and last element."""
    keys = list(raw) if isinstance(raw, dict) else sorted({0, len(raw) - 1} & set(range(len(raw))))
    for key in keys:
        found.append((raw, key))
        if isinstance(raw[key], dict | list):
            _places(raw[key], found)
    return found


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.sampled_from(ODD))
def test_hostile_json_is_refused_or_judged_but_never_crashes(index: int, odd: Any) -> None:
    raw = json.loads(_small())
    places = _places(raw, [])
    holder, key = places[index % len(places)]
    holder[key] = odd
    try:
        broken = Record.from_json(json.dumps(raw))
    except ValueError as error:
        assert str(error)
        return
    assert isinstance(decide(broken, POLICY), Verdict)


@functools.cache
def _small() -> str:
    return record(0.01, 1).to_json()
