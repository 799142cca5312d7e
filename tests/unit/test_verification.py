# SPDX-License-Identifier: MIT
"""Which contents an arm meets, and what is compared: a stage that writes everything down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from avo_pytest import agreement, correctness, fingerprints, verification
from avo_pytest.devices import Arm, ArmFailed, Timing
from avo_pytest.inputs import from_bf16, to_bf16
from avo_pytest.problem import Configuration, Oracle, Problem, TensorSpec

ROWS, LARGE, WIDTH = 2048, 40_960, 64
CONFIGURATION = Configuration("c", {"rows": ROWS})
CANDIDATE, INCUMBENT = Arm("candidate", "candidate"), Arm("incumbent", "incumbent")
NULL = Arm("null", "null")


def tensors_of(rows: int) -> tuple[TensorSpec, ...]:
    shape = (rows, WIDTH)
    return TensorSpec("x", shape, "bf16", "input"), TensorSpec("y", shape, "bf16", "output")


def oracle(_: Configuration, inputs: Mapping[str, Any], rows: Any) -> Oracle:
    x = from_bf16(inputs["x"]).astype(np.float64)
    exact = (x if rows is None else x[rows]) * 1.001
    return Oracle(exact=exact, honest=from_bf16(to_bf16(exact)).astype(np.float64))


PROBLEM = Problem(
    name="p", symbols=("rows",), specialisable=(), tensors=lambda _: tensors_of(ROWS),
    scalars=lambda _: {}, flops=lambda _: 1.0, throughput={}, correctness=lambda _: (),
    draw=lambda _, __: CONFIGURATION,
    inputs=lambda _, __: {}, oracle=oracle,
)  # fmt: skip


@dataclass
class Stage:
    """Copies the input times 1.001, spoiling one row of the candidate's if told."""

    spoiled: int | None = None
    count: int = ROWS
    key: int = 0
    events: list[tuple[str, int]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    def contents(self) -> Any:
        return to_bf16(np.random.default_rng(self.key).normal(size=(self.count, WIDTH)))

    def refresh(self, key: int) -> None:
        self.key = key

    def launch(self, arm: str, *, timeout_s: float, rest_ms: float = 0.0) -> Timing:
        self.events.append((arm, self.key))
        made = to_bf16(from_bf16(self.contents()).astype(np.float64) * 1.001)
        if self.spoiled is not None and arm == "candidate":
            made[self.spoiled] = made[self.spoiled - 1]
        self.outputs[arm] = made
        return Timing(1.0, 1.0)

    def fingerprint(self, arm: str, secret: int) -> Any:
        return fingerprints.fingerprint(self.outputs[arm], secret)

    def rows(self, arm: str, rows: Any) -> Any:
        return from_bf16(self.outputs[arm][rows]).astype(np.float64)

    def bits(self, arm: str) -> Any:
        return self.outputs[arm].copy()

    def oracle_inputs(self) -> Mapping[str, Any]:
        return {"x": self.contents()}

    def damage(self, arm: str) -> str | None:
        return None

    def close(self) -> None:
        pass


class Device:
    def __init__(self, stage: Stage) -> None:
        self.only = stage

    def stage(self, *_: Any) -> Stage:
        return self.only


def bench(stage: Stage, *arms: Arm, regime: str = "refreshed") -> Any:
    made, _ = verification.stage(
        Device(stage),
        PROBLEM,
        CONFIGURATION,
        arms,
        timeout_s=1.0,
        regime=regime,  # type: ignore[arg-type]
    )
    return made


def test_arms_share_contents_and_the_null_twin_has_its_own() -> None:
    stage = Stage()
    turns = bench(stage, CANDIDATE, INCUMBENT, NULL)
    launched = {one.arm.name: one.key for one in verification.turn(turns, turns.arms)}
    assert launched["candidate"] == launched["incumbent"] != launched["null"]
    assert stage.events[-3:] == [(name, launched[name]) for name in launched]


def test_what_is_timed_was_never_launched_on_before() -> None:
    stage = Stage()
    turns = replace(bench(stage, CANDIDATE, INCUMBENT), sustain_s=0.05)
    stage.events.clear()
    launched = verification.turn(turns, turns.arms)
    assert len(stage.events) > len(launched)
    for one in launched:
        assert stage.events.count((one.arm.name, one.key)) == 1


def test_one_wrong_row_between_the_sampled_ones_is_seen_when_a_second_arm_is_there() -> None:
    stage = Stage()
    turns = bench(stage, CANDIDATE, INCUMBENT)
    stage.spoiled = 1234
    with pytest.raises(ArmFailed, match=r"suspected rows are wrong.*1234") as caught:
        for _ in range(4):  # one turn misses it with a probability below 1e-3
            verification.turn(turns, turns.arms)
    assert (caught.value.arm, caught.value.status) == ("candidate", "incorrect")


def in_full(stage: Stage, *arms: Arm) -> Mapping[str, correctness.RowCheck]:
    """The check of the first launches, of more rows than the oracle is asked for at once."""
    large = replace(PROBLEM, tensors=lambda _: tensors_of(LARGE))
    device: Any = Device(replace(stage, count=LARGE))
    return verification.stage(device, large, CONFIGURATION, arms, timeout_s=1.0)[1]


def test_an_arm_alone_is_checked_on_all_rows() -> None:
    check = in_full(Stage(spoiled=1234), CANDIDATE)["candidate"]
    assert check.rows == LARGE > verification.ROWS_IN_FULL and not check.ok


def test_the_first_launch_of_arms_together_is_compared_as_a_whole() -> None:
    """The oracle is asked for four rows of five: in some of these tries it misses the wrong one."""
    seen = []
    for _ in range(60):
        try:
            checks = in_full(Stage(spoiled=1234), CANDIDATE, INCUMBENT)
            seen.append("rows" if not checks["candidate"].ok else "missed")
        except ArmFailed as failure:
            seen.append("projections" if "suspected rows are wrong" in failure.reason else "odd")
        if "projections" in seen:
            break
    assert set(seen) <= {"rows", "projections"} and "projections" in seen


def test_rows_forged_with_known_signs_agree_but_are_seen_by_sampled_rows() -> None:
    """A secret that leaked: projections and norm can be met without the values, rows cannot."""
    secret, anchor = 5, correctness.Anchor(2.35e-3, 5e-3, ROWS)
    right = np.random.default_rng(1).normal(size=(ROWS, WIDTH))
    forged = _forged(right, secret)
    prints = [_print(values, secret) for values in (forged, right)]
    assert agreement.compare(*prints, anchor).ok
    assert not agreement.compare(_print(forged, 6), _print(right, 6), anchor).ok
    rounded = from_bf16(to_bf16(right)).astype(np.float64)
    rows = correctness.sample_rows(7, ROWS, 16)
    assert not correctness.check_rows(forged[rows], right[rows], rounded[rows]).ok


def _print(values: Any, secret: int) -> Any:
    parts = [fingerprints.projections(values, np.arange(ROWS), secret), (values**2).sum(1)[:, None]]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _forged(right: Any, secret: int) -> Any:
    """Other rows with the same two projections and the same norm."""
    signs = np.stack(
        [
            fingerprints.projections(np.eye(WIDTH)[[c] * ROWS], np.arange(ROWS), secret)
            for c in range(WIDTH)
        ],
        axis=2,
    )
    forged = np.empty_like(right)
    for row, (values, both) in enumerate(zip(right, signs, strict=True)):
        basis = np.linalg.qr(both.T)[0]
        seen = basis @ (basis.T @ values)
        other = np.random.default_rng(row).normal(size=WIDTH)
        other -= basis @ (basis.T @ other)
        forged[row] = seen + other * np.linalg.norm(values - seen) / np.linalg.norm(other)
    return forged
