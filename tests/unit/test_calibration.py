# SPDX-License-Identifier: MIT
"""A calibration: figures from a known machine, when it applies, and the plan made from it."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avo_pytest import calibration as calibrations
from avo_pytest.calibration import Calibration, applies, of_another_version
from avo_pytest.calibrations import newest, save
from avo_pytest.power import power
from avo_pytest.processes import ARMS
from avo_pytest.sample_size import choose_replicates, effective_min_gain
from avo_pytest.score import Stage


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


synthetic = load(Path(__file__).resolve().parents[1] / "synthetic.py")
POLICY = synthetic.POLICY
MADE: Calibration = synthetic.calibration()
AT = "2026-01-02T00:00:00+00:00"


def with_values(values: Any) -> Calibration:
    return replace(MADE, values=tuple(map(float, values)))


def test_a_calibration_says_what_the_machine_is() -> None:
    # layout: sd 0.0004 of each arm and configuration; two arms, two configurations; the launches
    # add 0.0015 √(2 / (2 turns × 2 configurations)) a block, whose median over 8 is a third of it
    expected = np.hypot(0.0004, 0.0015 / np.sqrt(2) * np.sqrt(np.pi / 2 / 8))
    assert MADE.process_sd == pytest.approx(expected, rel=0.4)
    assert MADE.block_sd == pytest.approx(0.0015 / np.sqrt(2), rel=0.2)
    assert abs(MADE.bias) < 4 * expected / 4
    assert len(MADE.values) == len(MADE.carry_overs) == 16
    assert np.shape(MADE.medians) == (16, 2)
    assert MADE.start_seconds == (3.0,) * 16
    assert MADE.block_seconds == pytest.approx((9 / 8,) * 16)
    assert MADE.uuid == "GPU-1"


def test_it_survives_json() -> None:
    text = json.dumps(calibrations.to_dict(MADE), allow_nan=False)
    assert calibrations.from_dict(json.loads(text)) == MADE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"values": [0.001] * 16}, "copies"),
        ({"values": [0.001]}, "1 processes, 8"),
        ({"values": "many"}, "values is 'many'"),
        ({"null_values": [float("inf")] * 16}, "not the log ratio"),
        ({"block_sds": [0.0] * 16}, "positive"),
        ({"medians": [3]}, "medians"),
        ({"extra": 3}, "extra"),
        ({"conditions": {}}, "Conditions: missing"),
        ({"conditions": 3}, "Conditions: 3 is not an object"),
    ],
)
def test_a_damaged_one_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        calibrations.from_dict({**calibrations.to_dict(MADE), **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "confirm"}, "mode confirm"),
        ({"samples": ()}, "0 blocks of 16 processes"),
        ({"replicates": ()}, "0 blocks of 0 processes"),
    ],
)
def test_only_a_whole_a_a_calibrates(changes: dict[str, Any], said: str) -> None:
    record = synthetic.record(0.0, mode="calibrate")
    with pytest.raises(ValueError, match=said):
        calibrations.calibrate(replace(record, **changes))


def test_another_candidate_does_not_calibrate() -> None:
    record = synthetic.record(0.0, mode="calibrate")
    arms = tuple(replace(a, artifact="c") if a.role == "candidate" else a for a in record.arms)
    with pytest.raises(ValueError, match="not the same code"):
        calibrations.calibrate(replace(record, arms=arms))


def test_too_few_processes_do_not_calibrate() -> None:
    record = synthetic.record(0.0, mode="calibrate")
    few = {r.number for r in record.replicates[:7]}
    short = replace(
        record,
        replicates=tuple(r for r in record.replicates if r.number in few),
        samples=tuple(s for s in record.samples if s.replicate in few),
    )
    with pytest.raises(ValueError, match="7 processes, 8 are needed"):
        calibrations.calibrate(short)
    assert {r.stage for r in record.replicates} == {Stage.CONFIRM}
    assert {a.name for a in record.arms} == set(ARMS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device", "NVIDIA B200"),
        ("driver", "999"),
        ("power_limit_w", 350.0),
        ("threads", 4),
        ("kernel", "softmax"),
        ("target", "sm90"),
        ("set", "gqa"),
        ("regime", "sustained"),
        ("harness", "x"),
        ("configurations", ("s1-full",)),
        ("blocks", 6),
    ],
)
def test_it_applies_to_what_it_was_made_on(field: str, value: Any) -> None:
    assert applies(MADE, MADE.conditions, at=AT, policy=POLICY) is None
    other = replace(MADE.conditions, **{field: value})
    why = applies(MADE, other, at=AT, policy=POLICY)
    assert why is not None
    assert why.startswith(f"it was made for {field}")


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("2026-02-15T00:00:00+00:00", "45 days old, 30"),
        ("2025-12-31T00:00:00+00:00", "after the run"),
        ("yesterday", "age is not known"),
        ("2026-01-02T00:00:00", "age is not known"),  # no time zone
    ],
)
def test_it_is_neither_old_nor_from_the_future(at: str, said: str) -> None:
    assert said in str(applies(MADE, MADE.conditions, at=at, policy=POLICY))


def test_one_of_this_version_is_taken_before_a_newer_one(tmp_path: Path) -> None:
    for day, version in enumerate(("ours", "theirs"), 1):
        made = replace(MADE, version=version, created=f"2026-01-0{day}T00:00:00+00:00")
        save(tmp_path, made, str(day))
    held = MADE.conditions

    def chosen(version: str) -> Any:
        return newest(
            tmp_path, held, at="2026-01-03T00:00:00+00:00", policy=POLICY, version=version
        )

    assert [chosen(v)[0].version for v in ("ours", "theirs", "new")] == ["ours", "theirs", "theirs"]
    assert "another version of the kernel (theirs, not new)" in str(
        of_another_version(chosen("new")[0], "new")
    )
    late = "2027-01-01T00:00:00+00:00"
    none = newest(tmp_path, held, at=late, policy=POLICY, version="ours")
    assert none == (None, "2.json: it is 364 days old, 30 are allowed")


def test_one_from_before_versions_were_kept_can_be_read_and_is_of_another() -> None:
    raw = calibrations.to_dict(MADE)
    del raw["version"]
    found = calibrations.from_dict(raw)
    assert replace(found, version=MADE.version) == MADE
    assert "not named" in str(of_another_version(found, MADE.version))
    assert of_another_version(MADE, MADE.version) is None


def test_a_long_lower_tail_is_refused_and_normal_values_are_not() -> None:
    generator = np.random.default_rng(3)
    tail = np.where(generator.random(64) < 0.1, -0.01, 0.0) + generator.normal(0, 0.0005, 64)
    assert "lower tail" in str(calibrations.skewed(with_values(tail)))
    assert calibrations.skewed(with_values(-tail)) is None
    refused = sum(
        calibrations.skewed(with_values(generator.normal(0, 0.001, n))) is not None
        for n in (8, 16, 64)
        for _ in range(300)
    )
    assert refused <= 9  # 3 standard errors: one in 740 where g₁ is normal


def test_a_bias_raises_the_gain_that_is_asked_for() -> None:
    values = np.array(MADE.values) - MADE.bias
    assert effective_min_gain(POLICY, with_values(values)) == POLICY.min_gain
    for bias in (0.001, -0.001):
        biased = with_values(values + bias)
        assert effective_min_gain(POLICY, biased) == pytest.approx(0.003)


def test_the_number_of_processes_is_the_smallest_with_the_wanted_power() -> None:
    values = np.array(MADE.values) - MADE.bias
    noisy = with_values(values * 0.0015 / MADE.process_sd)
    chosen, reason = choose_replicates(POLICY, noisy)
    found = {
        p: power(0.003, processes=p, sd=noisy.process_sd, min_gain=0.001) for p in (8, 12, 16, 24)
    }
    assert chosen == min(p for p, probability in found.items() if probability >= 0.9)
    assert "0.30%" in reason
    assert choose_replicates(replace(POLICY, replicates=10), noisy)[0] == 10


def test_what_no_number_of_processes_finds_takes_the_most_and_says_so() -> None:
    values = np.array(MADE.values) - MADE.bias
    hopeless = with_values(values * 0.01 / MADE.process_sd)
    chosen, reason = choose_replicates(POLICY, hopeless)
    assert chosen == 32
    assert "with 7% probability" in reason
    biased = with_values(values + 0.002)  # asks for 0.6 %, more than the target gain
    assert choose_replicates(POLICY, biased)[0] == 32
