# SPDX-License-Identifier: MIT
"""Launches in their places: what is paired, who came before whom, and what cannot have happened."""

from __future__ import annotations

import importlib.util
import itertools
import math
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avo_pytest.evidence import (
    EvidenceError,
    candidate_first,
    carried,
    disorder,
    gather,
    paired,
)
from avo_pytest.processes import ARMS, block_values, processes
from avo_pytest.score import Sample


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


synthetic = load(Path(__file__).resolve().parents[1] / "synthetic.py")


def block(order: str, ms: dict[str, list[float]], number: int = 0) -> list[Sample]:
    """One block of one configuration; `order` by initials, `ms` by turn."""
    names = {name[0]: name for name in ARMS}
    made = []
    for turn, arms in enumerate((order, order[::-1])):
        for position, initial in enumerate(arms):
            at_ms = 100.0 * number + 10 * turn + position
            made.append(
                Sample(
                    block=number, configuration="a", turn=turn, position=position,
                    arm=names[initial], ms=ms[names[initial]][turn], host_ms=10.0,
                    facts={"at_ms": at_ms},
                )
            )  # fmt: skip
    return made


EQUAL = {"candidate": [1.0, 1.0], "incumbent": [1.0, 1.0], "null": [1.0, 1.0]}


def test_pairing_by_hand() -> None:
    ms = {"candidate": [1.0, 2.0], "incumbent": [1.1, 2.4], "null": [1.0, 2.0]}
    launches = gather(block("cin", ms), ["a"], ARMS)
    expected = (math.log(1.1) + math.log(1.2)) / 2
    assert paired(launches, "candidate", "incumbent") == pytest.approx(np.array([[expected]]))
    assert paired(launches, "incumbent", "candidate") == pytest.approx(np.array([[-expected]]))


def test_only_turns_with_both_arms_are_paired() -> None:
    ms = {"candidate": [1.0, 2.0], "incumbent": [1.1, 2.4], "null": [1.0, 2.0]}
    samples = block("cin", ms)
    launches = gather([s for s in samples if (s.arm, s.turn) != ("incumbent", 1)], ["a"], ARMS)
    assert paired(launches, "candidate", "incumbent")[0, 0] == pytest.approx(math.log(1.1))
    assert "incumbent in turn 1 was not launched" in launches.missing()
    alone = gather([s for s in samples if s.arm == "candidate"], ["a"], ARMS)
    assert np.isnan(paired(alone, "candidate", "incumbent")).all()


@pytest.mark.parametrize("order", ["".join(p) for p in itertools.permutations("cin")])
def test_every_order_has_one_launch_of_the_incumbents_code_after_each(order: str) -> None:
    """The launches after the candidate take twice as long, and nothing else does."""
    names = {name[0]: name for name in ARMS}
    ms: dict[str, list[float]] = {name: [1.0, 1.0] for name in ARMS}
    previous = ""
    for turn, arms in enumerate((order, order[::-1])):
        for initial in arms:
            ms[names[initial]][turn] = 2.0 if previous == "c" else 1.0
            previous = initial
    own, other = carried(gather(block(order, ms), ["a"], ARMS))
    assert (own - other)[0, 0] == pytest.approx(-math.log(2))


def test_who_was_first() -> None:
    samples = [*block("cni", EQUAL), *block("inc", EQUAL, number=1)]
    assert candidate_first(gather(samples, ["a"], ARMS)).tolist() == [[True], [False]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ms": math.nan}, "nan ms"),
        ({"ms": 0.0}, "0.0 ms"),
        ({"host_ms": 0.5}, "0.5 ms on the host"),
        ({"host_ms": math.nan}, "nan"),
        ({"ms": True}, "bool"),
        ({"block": 1.0}, "float"),
        ({"turn": -1}, "turn -1"),
        ({"position": 10**30}, "was not to be launched"),
        ({"arm": "torch"}, "torch"),
        ({"configuration": "b"}, "b"),
        ({"facts": {"at_ms": "late"}}, "str"),
    ],
)
def test_what_cannot_have_been_measured_is_named(changes: dict[str, Any], said: str) -> None:
    samples = block("cin", EQUAL)
    samples[3] = replace(samples[3], **changes)
    with pytest.raises(EvidenceError, match=said):
        gather(samples, ["a"], ARMS)


def test_a_huge_block_number_is_a_row_like_any_other() -> None:
    samples = block("cin", EQUAL)
    samples[3] = replace(samples[3], block=10**30)
    launches = gather(samples, ["a"], ARMS)
    assert len(launches.rows) == 2
    assert launches.missing()


def test_a_doubled_sample_is_named() -> None:
    samples = block("cin", EQUAL)
    with pytest.raises(
        EvidenceError, match="replicate 0, block 0, a: candidate in turn 0 is there"
    ):
        gather([*samples, samples[0]], ["a"], ARMS)


def test_disorder_is_named() -> None:
    good = [*block("cin", EQUAL), *block("nic", EQUAL, number=1)]
    assert disorder(gather(good, ["a"], ARMS)) == ""
    same_again = [replace(s, position=2 - s.position) if s.turn else s for s in good]
    assert "its reverse" in disorder(gather(same_again, ["a"], ARMS))
    overlapping = [
        replace(s, facts={"at_ms": s.facts["at_ms"] - 95.0}) if s.block else s for s in good
    ]
    assert "block 1: the clock went backwards" in disorder(gather(overlapping, ["a"], ARMS))
    other_process = [replace(s, replicate=1, block=0) if s.block else s for s in overlapping]
    assert disorder(gather(other_process, ["a"], ARMS)) == ""


@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False), st.floats(-0.1, 0.1))
def test_a_planted_gain_is_found_in_any_order(order: random.Random, gain: float) -> None:
    base = synthetic.record(gain, policy=replace(synthetic.POLICY, screen_blocks=0))
    samples = order.sample(base.samples, len(base.samples))
    launches = gather(samples, synthetic.CONFIGURATIONS, ARMS)
    found = processes(launches)
    assert found.values == pytest.approx(gain, abs=0.004)
    assert found.null_values == pytest.approx(0, abs=0.004)
    assert np.median(block_values(launches)) == pytest.approx(gain, abs=0.002)
    assert found.values.shape == (base.plan["replicates"],)


def test_a_confirm_becomes_arrays_in_milliseconds() -> None:
    """A simulation does it ten thousand times; the limit is ten times what it takes here."""
    samples = synthetic.record().samples
    best = min(_seconds(samples) for _ in range(5))
    assert best < 10e-6 * len(samples)


def _seconds(samples: tuple[Sample, ...]) -> float:
    begun = time.process_time()
    gather(samples, synthetic.CONFIGURATIONS, ARMS)
    return time.process_time() - begun
