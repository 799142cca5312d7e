# SPDX-License-Identifier: MIT
"""THE measuring protocol.

For each *block*, each configuration in random order:

1. one untimed *primer* launch of a random arm, so that no timed launch follows an idle device;
2. two *turns*: the arms in a random order, then in the reverse order (ABBA for two arms);
3. in a turn every arm sees the same fresh contents, rewritten in the same storage before each
   launch; its output is poisoned, the launch is timed by the device, and only then are a random
   projection and random rows drawn: the projection covers every element of the output and stays
   on the host, the rows are kept;
4. at the end of a turn the inputs are rewritten once more (an arm may have changed them) and the
   oracle computes the kept rows. Projections of all arms must agree; where two differ, the oracle's
   own projection of the differing rows says who is wrong.

Where the judged arms take 5 ms or more, the device rests before every launch of every arm for as
long as the slowest of them took, awake but at little power: its power cap has a memory.

A turn with a disturbed launch (foreign load, host-bound) is repeated with new contents; the fact
`disturbed_tries` of what counts then says in how many of the tries before it was this arm's own
launch. A sample exists only for a launch that was verified; its fact `at_ms` is when its inputs
began to be refreshed, in milliseconds since the first block began, and `error_share` the RMS error
of its kept rows as a part of the largest that is allowed (see accuracy.py). What ends a run early
is an arm that failed, and nothing else.

This is the regime `refreshed`, which decides. In the regime `sustained` each timed launch follows
SUSTAIN_S seconds of launches of the same arm, so that clocks and power have settled for it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from avo_pytest.devices import Arm, Device
from avo_pytest.score import Sample
from avo_pytest.verification import Bench, Launched, fresh_key, turn

Emit = Callable[[Mapping[str, Any]], None]

MAX_REPEATS = 3  # of a disturbed turn; after that it is kept, with the reason


def measure(
    device: Device, benches: Sequence[Bench], blocks: int, emit: Emit, order: random.Random
) -> None:
    """Run the protocol; emit a `block` and its `sample`s as they happen. Raises ArmFailed."""
    begun_s = time.perf_counter()
    for block in range(blocks):
        before = device.observe()
        emit(
            {"kind": "block", "block": block, "before": before, "ceiling_tflops": device.ceiling()}
        )
        for bench in order.sample(list(benches), len(benches)):
            for sample in _measure_configuration(bench, block, order, begun_s):
                emit({"kind": "sample", "sample": sample})
        emit({"kind": "block_end", "block": block, "after": device.observe()})


def _measure_configuration(
    bench: Bench, block: int, order: random.Random, begun_s: float
) -> list[Sample]:
    bench.stage.refresh(fresh_key())
    bench.stage.launch(order.choice(bench.arms).name, timeout_s=bench.timeout_s)
    forward = order.sample(list(bench.arms), len(bench.arms))
    samples: list[Sample] = []
    for number, arms in enumerate((forward, forward[::-1])):
        launched, before = _undisturbed_turn(bench, arms)
        samples += [
            _sample(bench, block, number, position, one, before, begun_s)
            for position, one in enumerate(launched)
        ]
    return samples


def _sample(
    bench: Bench,
    block: int,
    number: int,
    position: int,
    one: Launched,
    before: Sequence[frozenset[str]],
    begun_s: float,
) -> Sample:
    own = sum(one.arm.name in disturbed for disturbed in before)
    again = {"disturbed_tries": own} if before else {}
    when = {"at_ms": (one.begun_s - begun_s) * 1e3, "rest_ms": bench.rest_ms}
    error = {} if one.error_share is None else {"error_share": one.error_share}
    return Sample(
        block=block,
        configuration=bench.configuration.name,
        turn=number,
        position=position,
        arm=one.arm.name,
        ms=one.timing.ms,
        host_ms=one.timing.host_ms,
        key=one.key,
        repeats=len(before),
        disturbed=one.timing.disturbed or "",
        facts={**one.timing.facts, **when, **again, **error},
    )


def _undisturbed_turn(
    bench: Bench, arms: Sequence[Arm]
) -> tuple[list[Launched], list[frozenset[str]]]:
    """The turn that counts, and for each one before it whose launches were disturbed."""
    before: list[frozenset[str]] = []
    launched = turn(bench, arms)
    while len(before) < MAX_REPEATS and (names := _disturbed(launched)):
        before.append(names)
        launched = turn(bench, arms)
    return launched, before


def _disturbed(launched: Sequence[Launched]) -> frozenset[str]:
    return frozenset(one.arm.name for one in launched if one.timing.disturbed)
