# SPDX-License-Identifier: MIT
"""`[tool.avo.policy]`: what may be written there, and what a wrong line is told."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from avo_pytest.policy import DEFAULTS, Policy, PolicyError, canonical, digest, from_dict, load


def written(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_without_a_file_the_kind_of_device_decides(tmp_path: Path) -> None:
    assert load(tmp_path, "cuda") == Policy()
    cpu = load(tmp_path, "cpu")
    assert (cpu.min_gain, cpu.max_regression, cpu.target_gain) == (0.005, 0.02, 0.015)
    assert cpu.isolation == "child"


def test_the_table_of_a_kind_goes_before_the_common_one(tmp_path: Path) -> None:
    root = written(
        tmp_path,
        "[tool.avo.policy]\nalpha_confirm = 0.001\nmax_reruns = 1\n"
        "[tool.avo.policy.cpu]\nalpha_confirm = 0.01\nreplicates = 12\n",
    )
    assert load(root, "cuda") == Policy(alpha_confirm=0.001, max_reruns=1)
    cpu = load(root, "cpu")
    assert (cpu.alpha_confirm, cpu.max_reruns, cpu.replicates) == (0.01, 1, 12)


def test_a_whole_number_is_as_good_as_a_fraction(tmp_path: Path) -> None:
    root = written(tmp_path, "[tool.avo.policy]\nmin_gain = 0\ncalibration_days = 7\n")
    assert canonical(load(root, "cuda")) == canonical(Policy(min_gain=0.0, calibration_days=7.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("min_gains = 0.1", "min_gains: unknown; the keys are alpha_confirm"),
        ("min_gain = 0.5", r"min_gain: 0.5 is not a fraction from 0 to 0.09 \(0.005 is 0.5 %\)"),
        ('min_gain = "0.1%"', "min_gain: '0.1%' is not a fraction"),
        ("min_gain = nan", "min_gain: nan is not"),
        ("min_gain = true", "min_gain: True is not"),
        ("max_regression = 1", "max_regression: 1 is not"),
        ("alpha_confirm = 0", "alpha_confirm: 0 is not"),
        ("confirm_blocks = 8.0", "confirm_blocks: 8.0 is not a whole number from 2"),
        ("replicates = 1", "replicates: 1 is not"),
        ("max_reruns = -1", "max_reruns: -1 is not"),
        ("calibration_days = inf", "calibration_days: inf is not"),
        ('regime = "burst"', "regime: 'burst' is not one of refreshed, sustained"),
        ('isolation = "locked"', "isolation: 'locked' is not one of none, child"),
        ('harness = "x"', "harness: unknown"),
        ("target_gain = 0.0005", "target_gain 0.0005 is not above min_gain"),
        ("replicates = 8\nalpha_confirm = 0.001", "replicates 8 can never promote .* need 10"),
        ("cpu = 3", "cpu: a table of its own"),
        ("[tool.avo.policy.cpu]\nmin_gain = 2", r"\[tool.avo.policy.cpu\] min_gain: 2 is not"),
        ("[tool.avo.policy.cuda]\nluck = 2", r"\[tool.avo.policy.cuda\] luck: unknown"),
    ],
)
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_wrong_line_is_named_by_file_table_and_key(
    tmp_path: Path, text: str, said: str, kind: str
) -> None:
    root = written(tmp_path, f"[tool.avo.policy]\n{text}\n")
    with pytest.raises(PolicyError, match=said) as error:
        load(root, kind)
    assert str(error.value).startswith(str(tmp_path / "pyproject.toml"))


@pytest.mark.parametrize("text", ["[tool", "tool = 1", "[tool]\navo = 1", "[tool.avo]\npolicy = 1"])
def test_a_file_of_another_shape_is_a_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyError, match=r"pyproject\.toml"):
        load(written(tmp_path, text), "cpu")


@pytest.mark.parametrize("kind", DEFAULTS)
def test_a_policy_survives_a_record(kind: str) -> None:
    policy = dataclasses.replace(
        DEFAULTS[kind], set="mha", harness="abc", configurations=("a", "b")
    )
    raw = json.loads(json.dumps(dataclasses.asdict(policy)))
    assert from_dict(raw) == policy
    assert digest(from_dict(raw)) == digest(policy)
    assert digest(dataclasses.replace(policy, max_reruns=3)) != digest(policy)


def test_the_policy_of_a_simulation_may_be_recorded_but_not_written() -> None:
    policy = Policy(isolation="simulated")
    assert from_dict(dataclasses.asdict(policy)) == policy


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min_gain": 5}, "min_gain: 5"),
        ({"luck": 1}, "luck"),
        ({"configurations": "a"}, "configurations"),
        ({"set": 3}, "name is 3"),
        ({"target_gain": 0.0}, "target_gain"),
    ],
)
def test_a_damaged_recorded_policy_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        from_dict({**dataclasses.asdict(Policy()), **changes})
    with pytest.raises(PolicyError, match="missing"):
        from_dict({})


def test_the_shipped_tree_has_a_policy_that_can_be_in_force() -> None:
    root = Path(__file__).resolve().parents[2]
    for kind in DEFAULTS:
        assert load(root, kind).alpha_confirm <= 0.01
