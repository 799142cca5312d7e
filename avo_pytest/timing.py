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

A turn with a disturbed launch (foreign load, host-bound) is repeated with new contents. A sample
exists only for a launch that was verified. What ends a run early is an arm that failed, and nothing
else.

This is the regime `refreshed`, which decides. In the regime `sustained` each timed launch follows
SUSTAIN_S seconds of launches of the same arm, so that clocks and power have settled for it.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from avo_pytest import correctness
from avo_pytest.devices import Arm, ArmFailed, Device, Stage, Timing
from avo_pytest.problem import Configuration, Oracle, Problem, TensorSpec
from avo_pytest.score import Sample

Emit = Callable[[Mapping[str, Any]], None]

ROWS_PER_LAUNCH = 16
SUSTAIN_S = 0.25  # an H100 under its power cap settles within 0.3 s, most of it in the first 0.1
ROWS_IN_FULL = 1 << 15  # a configuration's first launch is checked on so many rows, or on all
ROWS_TO_BLAME = 64
_TRUST = ("baseline", "incumbent", "null", "candidate")
_NO_ANCHOR = correctness.Anchor(correctness.FLOOR, correctness.FLOOR, 1)
_SOME_ROWS = np.arange(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long to measure. `max_repeats` bounds the tries of a turn."""

    blocks: int
    max_repeats: int = 3
    first_block: int = 0


@dataclass(frozen=True, slots=True)
class _Launched:
    """What is kept on the host of one launch until its turn is judged."""

    arm: Arm
    timing: Timing
    projection: Any
    rows: Any
    values: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One configuration, staged: everything a turn needs."""

    problem: Problem
    configuration: Configuration
    stage: Stage
    arms: Sequence[Arm]
    timeout_s: float
    sustain_s: float
    output: TensorSpec
    anchor: correctness.Anchor


def measure(
    device: Device, benches: Sequence[Bench], schedule: Schedule, emit: Emit, order: random.Random
) -> None:
    """Run the protocol; emit a `block` and its `sample`s as they happen. Raises ArmFailed."""
    for block in range(schedule.first_block, schedule.first_block + schedule.blocks):
        emit({"kind": "block", "block": block, "before": device.observe(), **_ceiling(device)})
        for bench in order.sample(list(benches), len(benches)):
            for sample in _measure_configuration(bench, block, schedule, order):
                emit({"kind": "sample", "sample": sample})
        emit({"kind": "block_end", "block": block, "after": device.observe()})


def _ceiling(device: Device) -> dict[str, float]:
    return {"ceiling_tflops": device.ceiling()}


def _measure_configuration(
    bench: Bench, block: int, schedule: Schedule, order: random.Random
) -> list[Sample]:
    bench.stage.refresh(_fresh_key())
    bench.stage.launch(order.choice(bench.arms).name, timeout_s=bench.timeout_s)
    forward = order.sample(list(bench.arms), len(bench.arms))
    samples: list[Sample] = []
    for turn, arms in enumerate((forward, forward[::-1])):
        launched, repeats = _undisturbed_turn(bench, arms, schedule.max_repeats)
        for position, one in enumerate(launched):
            samples.append(
                Sample(
                    block=block,
                    configuration=bench.configuration.name,
                    turn=turn,
                    position=position,
                    arm=one.arm.name,
                    ms=one.timing.ms,
                    host_ms=one.timing.host_ms,
                    repeats=repeats,
                    facts=one.timing.facts,
                )
            )
    return samples


def _undisturbed_turn(
    bench: Bench, arms: Sequence[Arm], max_repeats: int
) -> tuple[list[_Launched], int]:
    for repeats in range(max_repeats + 1):
        launched = _turn(bench, arms)
        if not any(one.timing.disturbed for one in launched):
            return launched, repeats
    return launched, max_repeats + 1  # kept, and marked by a count above the limit


def _turn(bench: Bench, arms: Sequence[Arm]) -> list[_Launched]:
    key = _fresh_key()
    secret = secrets.randbits(64)
    launched = [_verified_launch(bench, arm, key, secret) for arm in arms]
    bench.stage.refresh(key)
    _judge_rows(bench, launched)
    _judge_projections(bench, launched, secret)
    return launched


def _verified_launch(
    bench: Bench, arm: Arm, key: int, secret: int, count: int = ROWS_PER_LAUNCH
) -> _Launched:
    stage = bench.stage
    _sustain(bench, arm)
    stage.refresh(key)
    timing = stage.launch(arm.name, timeout_s=bench.timeout_s)
    projection = stage.fingerprint(arm.name, secret)
    rows = correctness.sample_rows(secrets.randbits(64), bench.output.rows, count)
    values = stage.rows(arm.name, rows)
    if (damage := stage.damage(arm.name)) is not None:
        raise _incorrect(bench, arm, damage)
    return _Launched(arm, timing, projection, rows, values)


def _sustain(bench: Bench, arm: Arm) -> None:
    """Untimed launches of this arm; nothing in the regime `refreshed`."""
    deadline = time.monotonic() + bench.sustain_s
    while time.monotonic() < deadline:
        bench.stage.launch(arm.name, timeout_s=bench.timeout_s)


def _judge_rows(bench: Bench, launched: Sequence[_Launched]) -> None:
    """Every judged arm's kept rows against the oracle, in one oracle call."""
    judged = [one for one in launched if one.arm.role != "baseline"]
    if not judged:
        return
    rows = np.unique(np.concatenate([one.rows for one in judged]))
    oracle = bench.problem.oracle(bench.configuration, bench.stage.oracle_inputs(), rows)
    for one in judged:
        verdict = _check_rows(bench, one, rows, oracle)
        if not verdict.ok:
            raise _incorrect(bench, one.arm, verdict.reason)


def _check_rows(bench: Bench, one: _Launched, rows: Any, oracle: Oracle) -> correctness.RowCheck:
    at = np.searchsorted(rows, one.rows)
    return correctness.check_rows(
        one.values, oracle.exact[at], oracle.honest[at], spec=bench.output, rows=one.rows
    )


def _judge_projections(bench: Bench, launched: Sequence[_Launched], secret: int) -> None:
    """Every row of each judged arm against the most trusted arm of the turn."""
    reference = min(launched, key=lambda one: _TRUST.index(one.arm.role))
    for one in launched:
        if one is reference or one.arm.role == "baseline":
            continue
        verdict = correctness.agreement(
            one.projection, reference.projection, bench.anchor, bench.output
        )
        if not verdict.ok:
            _blame(bench, one, reference, verdict.reason, secret)


def _blame(
    bench: Bench, one: _Launched, reference: _Launched, reason: str, secret: int
) -> NoReturn:
    """Compare both arms' projections of the rows that differ most with the oracle's own."""
    rows = correctness.disagreement(one.projection, reference.projection, bench.anchor)
    if not rows.size:
        rows = correctness.sample_rows(secrets.randbits(64), bench.output.rows, ROWS_TO_BLAME)
    rows = rows[:ROWS_TO_BLAME]
    oracle = bench.problem.oracle(bench.configuration, bench.stage.oracle_inputs(), rows)
    for suspect in (one, reference):
        verdict = correctness.check_projection(
            suspect.projection[rows], oracle.exact, oracle.honest, rows, secret
        )
        if not verdict.ok:
            raise _incorrect(bench, suspect.arm, verdict.reason)
    name = bench.configuration.name
    raise ArmFailed(one.arm.name, "invalid", f"{name}: {reason}; the oracle acquits both")


def stage(
    device: Device,
    problem: Problem,
    configuration: Configuration,
    arms: Sequence[Arm],
    *,
    timeout_s: float,
    regime: str = "refreshed",
) -> tuple[Bench, dict[str, correctness.RowCheck]]:
    """Load a configuration and check one launch of each judged arm on all rows (or ROWS_IN_FULL of
    them, drawn after the launch). Raises ArmFailed."""
    loaded = device.stage(problem, configuration, arms)
    try:
        bench = Bench(
            problem=problem,
            configuration=configuration,
            stage=loaded,
            arms=arms,
            timeout_s=timeout_s,
            sustain_s=0.0,
            output=problem.output(configuration),
            anchor=_NO_ANCHOR,
        )
        checks, anchor = _check_in_full(bench)
    except BaseException:
        loaded.close()
        raise
    sustain_s = SUSTAIN_S if regime == "sustained" else 0.0
    return replace(bench, anchor=anchor, sustain_s=sustain_s), checks


def _check_in_full(bench: Bench) -> tuple[dict[str, correctness.RowCheck], correctness.Anchor]:
    """All judged arms on one key, so that one oracle serves them all."""
    key = _fresh_key()
    launched = []
    for arm in bench.arms:
        if arm.role != "baseline":
            launched.append(_verified_launch(bench, arm, key, secrets.randbits(64), ROWS_IN_FULL))
    bench.stage.refresh(key)
    rows = np.unique(np.concatenate([one.rows for one in launched])) if launched else _SOME_ROWS
    oracle = bench.problem.oracle(bench.configuration, bench.stage.oracle_inputs(), rows)
    checks = {one.arm.name: _check_rows(bench, one, rows, oracle) for one in launched}
    return checks, correctness.anchor_of(oracle.exact, oracle.honest)


def _incorrect(bench: Bench, arm: Arm, reason: str) -> ArmFailed:
    return ArmFailed(arm.name, "incorrect", f"{bench.configuration.name}: {reason}")


def _fresh_key() -> int:
    return secrets.randbits(63)
