# SPDX-License-Identifier: MIT
"""Seeded bugs in a correct attention kernel: the oracle must see every one of them.

    pytest -m soak tests/redteam/test_mutation.py

compiles and runs all; the plain run takes a few. (That honest kernels pass: 2000 random points in
tests/soak/test_attention_limits.py.)
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from avo_pytest.architectures import typical_facts
from avo_pytest.build import build
from avo_pytest.devices import Arm, ArmFailed
from avo_pytest.devices.cpu import CpuDevice
from avo_pytest.loading import load_problem
from avo_pytest.redteam import trial

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCE = HERE / "mutation" / "attention.cpp"
MUTANTS = {
    one["name"]: (one["find"], one["put"])
    for one in tomllib.loads((HERE / "mutation" / "mutants.toml").read_text())["mutant"]
}
QUICK = ("mask-shows-the-next-key", "output-not-rescaled", "scores-in-bf16", "heads-modulo")
PROBLEM = load_problem("attention", root=ROOT)
CHECKED = PROBLEM.correctness("cpu")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CpuDevice]:
    opened = trial.open_device("cpu", 1, ROOT, tmp_path_factory.mktemp("cache"))
    assert isinstance(opened, CpuDevice)
    yield opened
    opened.close()


def mutated(find: str, put: str) -> str:
    text = SOURCE.read_text()
    assert text.count(find) == 1, f"{find!r} is there {text.count(find)} times"
    return text.replace(find, put)


def detected(device: CpuDevice, folder: Path, text: str) -> str:
    """By what a kernel is found wrong among the fixed correctness configurations; "" if by none."""
    shutil.copytree(HERE / "cpu" / "common", folder)
    (folder / "attack.cpp").write_text(text)
    artifact = build(folder, PROBLEM, CHECKED, typical_facts("cpu"), folder / "cache")
    arm = Arm("candidate", "candidate", artifact.path)
    for configuration in CHECKED:
        try:
            check = trial.check(device, PROBLEM, configuration, arm, 10.0)
        except ArmFailed as failure:
            return f"{failure.status}: {failure.reason}"
        if not check.ok:
            return f"{configuration.name}: {check.reason}"
    return ""


def test_the_kernel_itself_is_right(device: CpuDevice, tmp_path: Path) -> None:
    assert detected(device, tmp_path / "k", SOURCE.read_text()) == ""


def test_there_are_enough_and_they_still_apply() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutated(*one) for one in MUTANTS.values()}) == len(MUTANTS)


@pytest.mark.parametrize("name", QUICK)
def test_a_bug_is_seen(device: CpuDevice, tmp_path: Path, name: str) -> None:
    assert detected(device, tmp_path / "k", mutated(*MUTANTS[name]))


@pytest.mark.soak
@pytest.mark.parametrize("name", MUTANTS)
def test_every_bug_is_seen(device: CpuDevice, tmp_path: Path, name: str) -> None:
    assert detected(device, tmp_path / "k", mutated(*MUTANTS[name]))
