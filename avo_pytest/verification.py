# SPDX-License-Identifier: MIT
"""A launch and what makes it count: its output, checked before anything else happens to it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from avo_pytest import agreement, correctness
from avo_pytest.devices import Arm, ArmFailed, Device, Stage, Timing
from avo_pytest.inputs import from_bf16
from avo_pytest.problem import Configuration, Oracle, Problem, TensorSpec

ROWS_PER_LAUNCH = 16
ROWS_IN_FULL = 1 << 15  # a configuration's first launch meets the oracle on so many rows, or all
ROWS_TO_BLAME = 64
# A launch of 10 ms at full power lowers the clock of the one after it (H200: 1800 → 1640 MHz, the
# cycles equal to 0.1 %), so an arm would be judged by its neighbour's appetite.
REST_FROM_MS = 5.0
LONGEST_REST_MS = 30.0
SUSTAIN_S = 0.25  # an H100 under its power cap settles within 0.3 s, most of it in the first 0.1
_TRUST = ("baseline", "incumbent", "null", "candidate")
_NO_ANCHOR = correctness.Anchor(correctness.FLOOR, correctness.FLOOR, 1)


@dataclass(frozen=True, slots=True)
class Launched:
    """What is kept on the host of one launch until its turn is judged."""

    arm: Arm
    key: int
    timing: Timing
    begun_s: float  # time.perf_counter() when its inputs began to be refreshed
    projection: Any
    rows: Any
    values: Any
    error_share: float | None = None  # RMS error of the rows, of the largest that is allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One configuration, staged: everything a turn needs."""

    problem: Problem
    configuration: Configuration
    stage: Stage
    arms: Sequence[Arm]
    timeout_s: float
    sustain_s: float
    rest_ms: float  # before each timed launch
    output: TensorSpec
    anchor: correctness.Anchor


def turn(bench: Bench, arms: Sequence[Arm]) -> list[Launched]:
    """Each arm once on the same fresh contents, all verified. Raises ArmFailed.

    A null twin gets contents of its own: it is the candidate's code, so whatever memory survives a
    launch on a device (the driver's own, say) must not carry its results to the candidate.
    """
    key, secret = fresh_key(), secrets.randbits(64)
    launched = [
        _verified_launch(bench, arm, fresh_key() if arm.role == "null" else key, secret)
        for arm in arms
    ]
    together = [one for one in launched if one.key == key]
    shares: dict[str, float] = {}
    for apart in (one for one in launched if one.key != key):
        bench.stage.refresh(apart.key)
        shares |= _judge_rows(bench, [apart])
    if together:
        bench.stage.refresh(key)
        shares |= _judge_rows(bench, together)
        _judge_projections(bench, together, secret)
    return [replace(one, error_share=shares.get(one.arm.name)) for one in launched]


def _verified_launch(bench: Bench, arm: Arm, key: int, secret: int) -> Launched:
    stage = bench.stage
    _sustain(bench, arm)
    begun_s = time.perf_counter()
    stage.refresh(key)
    timing = stage.launch(arm.name, timeout_s=bench.timeout_s, rest_ms=bench.rest_ms)
    projection = stage.fingerprint(arm.name, secret)
    rows = correctness.sample_rows(secrets.randbits(64), bench.output.rows, ROWS_PER_LAUNCH)
    values = stage.rows(arm.name, rows)
    if (damage := stage.damage(arm.name)) is not None:
        raise _incorrect(bench, arm, damage)
    return Launched(arm, key, timing, begun_s, projection, rows, values)


def _sustain(bench: Bench, arm: Arm) -> None:
    """Untimed launches of this arm, on contents that are not timed: it might remember them."""
    if not bench.sustain_s:
        return
    bench.stage.refresh(fresh_key())
    deadline = time.monotonic() + bench.sustain_s
    while time.monotonic() < deadline:
        bench.stage.launch(arm.name, timeout_s=bench.timeout_s)


def _judge_rows(bench: Bench, launched: Sequence[Launched]) -> dict[str, float]:
    """Every judged arm's kept rows against the oracle, in one oracle call. Returns how much of the
    allowed error each has, where errors make sense; one below that of rounding counts as it."""
    shares: dict[str, float] = {}
    judged = [one for one in launched if one.arm.role != "baseline"]
    if not judged:
        return shares
    rows = np.unique(np.concatenate([one.rows for one in judged]))
    oracle = bench.problem.oracle(bench.configuration, bench.stage.oracle_inputs(), rows)
    for one in judged:
        verdict = _check_rows(bench, one, rows, oracle)
        if not verdict.ok:
            raise _incorrect(bench, one.arm, verdict.reason)
        if verdict.error_rms is not None and verdict.limit_rms:
            shares[one.arm.name] = max(verdict.error_rms, correctness.FLOOR) / verdict.limit_rms
    return shares


def _check_rows(bench: Bench, one: Launched, rows: Any, oracle: Oracle) -> correctness.RowCheck:
    at = np.searchsorted(rows, one.rows)
    return correctness.check_rows(
        one.values, oracle.exact[at], oracle.honest[at], spec=bench.output, rows=one.rows
    )


def _judge_projections(bench: Bench, launched: Sequence[Launched], secret: int) -> None:
    """Every row of each judged arm against the most trusted arm of the turn."""
    reference = min(launched, key=lambda one: _TRUST.index(one.arm.role))
    for one in launched:
        if one is reference or one.arm.role == "baseline":
            continue
        verdict = agreement.compare(
            one.projection, reference.projection, bench.anchor, bench.output
        )
        if not verdict.ok:
            _blame(bench, one, reference, verdict.reason, secret)


def _blame(bench: Bench, one: Launched, reference: Launched, reason: str, secret: int) -> NoReturn:
    """Compare both arms' projections of the rows that differ most with the oracle's own."""
    rows = agreement.differing(one.projection, reference.projection, bench.anchor)
    if not rows.size:
        rows = correctness.sample_rows(secrets.randbits(64), bench.output.rows, ROWS_TO_BLAME)
    rows = rows[:ROWS_TO_BLAME]
    oracle = bench.problem.oracle(bench.configuration, bench.stage.oracle_inputs(), rows)
    for suspect in (one, reference):
        verdict = agreement.check_projection(
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
            rest_ms=0.0,
            output=problem.output(configuration),
            anchor=_NO_ANCHOR,
        )
        checks, anchor, longest_ms = _check_in_full(bench)
    except BaseException:
        loaded.close()
        raise
    if regime == "sustained":
        return replace(bench, anchor=anchor, sustain_s=SUSTAIN_S), checks
    rest_ms = min(longest_ms, LONGEST_REST_MS) if longest_ms >= REST_FROM_MS else 0.0
    return replace(bench, anchor=anchor, rest_ms=rest_ms), checks


def _check_in_full(
    bench: Bench,
) -> tuple[dict[str, correctness.RowCheck], correctness.Anchor, float]:
    """All judged arms on one key and the same rows, drawn after the last launch, so that one oracle
    serves them all; and the longest launch.

    What lies between the rows is compared between the arms, here and in every turn; with one arm
    alone there is nothing to compare with, so the oracle answers for all rows.
    """
    key, secret = fresh_key(), secrets.randbits(64)
    launched, outputs = [], []
    for arm in (arm for arm in bench.arms if arm.role != "baseline"):
        launched.append(_verified_launch(bench, arm, key, secret))
        outputs.append(bench.stage.bits(arm.name))
    bench.stage.refresh(key)
    count = (ROWS_IN_FULL if len(bench.arms) > 1 else bench.output.rows) if launched else 1
    rows = correctness.sample_rows(secrets.randbits(64), bench.output.rows, count)
    oracle = bench.problem.oracle(bench.configuration, bench.stage.oracle_inputs(), rows)
    anchor = correctness.anchor_of(oracle.exact, oracle.honest)
    checks = {
        one.arm.name: correctness.check_rows(
            from_bf16(bits[rows]),
            oracle.exact,
            oracle.honest,
            spec=bench.output,
            rows=rows,
            anchor=anchor,
        )
        for one, bits in zip(launched, outputs, strict=True)
    }
    longest_ms = max((one.timing.ms for one in launched), default=0.0)
    if all(check.ok for check in checks.values()) and len(launched) > 1:
        _judge_projections(replace(bench, anchor=anchor), launched, secret)
    return checks, anchor, longest_ms


def _incorrect(bench: Bench, arm: Arm, reason: str) -> ArmFailed:
    return ArmFailed(arm.name, "incorrect", f"{bench.configuration.name}: {reason}")


def fresh_key() -> int:
    return secrets.randbits(48)  # exact in any JSON reader
