# SPDX-License-Identifier: MIT
"""`[[tool.avo.gates]]`: who decides about what, and what a wrong row is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from avo_pytest.gates import Gate, GateError, find, load, load_text, role_of, witnesses

ROOT = Path(__file__).resolve().parents[2]


def row(**changes: object) -> str:
    keys = {"kernel": "toy", "target": "sm80", "device": "NVIDIA H100", "role": "judge", **changes}
    lines = (f"{k} = {v!r}".replace("'", '"') for k, v in keys.items() if v is not None)
    return "[[tool.avo.gates]]\n" + "\n".join(lines) + "\n"


def test_the_shipped_table_names_one_judge_a_target() -> None:
    gates = load(ROOT)
    judges = [(g.kernel, g.target) for g in gates if g.role == "judge"]
    assert sorted(judges) == [("attention", t) for t in ("cpu", "sm80", "sm90")]


def test_a_device_is_known_by_the_beginning_of_its_name() -> None:
    gates = load_text(row() + row(device="NVIDIA B200", role="witness", labels=["gpu"]), "x")
    place = {"kernel": "toy", "target": "sm80"}
    assert role_of(gates, **place, device="NVIDIA H100 80GB HBM3") == "judge"
    assert role_of(gates, **place, device="NVIDIA B200") == "witness"
    assert role_of(gates, **place, device="NVIDIA A100") == "local"
    assert role_of(gates, kernel="toy", target="sm90", device="NVIDIA H100") == "local"
    assert role_of(gates, kernel="other", target="sm80", device="NVIDIA H100") == "local"
    assert [g.labels for g in witnesses(gates, **place)] == [("gpu",)]


def test_the_row_that_says_most_about_a_device_counts() -> None:
    gates = load_text(row(device="NVIDIA") + row(device="NVIDIA H100", role="witness"), "x")
    place = {"kernel": "toy", "target": "sm80"}
    assert role_of(gates, **place, device="NVIDIA H100 PCIe") == "witness"
    assert role_of(gates, **place, device="NVIDIA L4") == "judge"


def test_cpu_is_every_cpu_and_no_gpu() -> None:
    gates = load_text(row(target="cpu", device="cpu") + row(device="cpu"), "x")
    found = find(gates, kernel="toy", target="cpu", device="AMD EPYC 9654 96-Core")
    assert found == Gate(kernel="toy", target="cpu", device="cpu", role="judge")
    assert role_of(gates, kernel="toy", target="sm80", device="NVIDIA H100") == "local"


def test_no_file_and_no_table_are_no_gates(tmp_path: Path) -> None:
    assert load(tmp_path) == ()
    assert load_text("[tool.avo]\n", "x") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (row(role="boss"), r"\]\] 1 role: 'boss' is not one of judge, witness"),
        (row() + row(rool="judge"), r"\]\] 2 rool: unknown; the keys are device"),
        (row(device=None), r"\]\] 1 device: is missing"),
        (row(device=" "), r"\]\] 1 device: ' ' is no beginning"),
        (row(device=7), r"\]\] 1 device: 7 is no beginning"),
        (row(kernel="../x"), r"\]\] 1 kernel: '../x' is no name of a folder"),
        (row(target="SM80"), r"\]\] 1 target: 'SM80' is no name"),
        (row(labels="gpu"), r"\]\] 1 labels: 'gpu' is no list"),
        (row(labels=[3]), r"\]\] 1 labels: \[3\] is no list"),
        (row(shares=0), r"\]\] 1 shares: 0 is no number of runners from 1 to 8"),
        (row(shares=9), r"\]\] 1 shares: 9 is no number"),
        (row(shares="2"), r"\]\] 1 shares: '2' is no number"),
        (row() + row(device="NVIDIA B200"), r"\]\] 2 role: toy/sm80 has a judge in row 1"),
        ("[tool.avo]\ngates = 1\n", "no list"),
        ("[tool.avo]\ngates = [1]\n", r"\]\] 1: a table, not 1"),
        ("tool = 1\n", "is no table"),
        ("[tool", "Expected"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(GateError, match=said) as error:
        load(tmp_path)
    assert str(error.value).startswith(str(tmp_path / "pyproject.toml"))
    with pytest.raises(GateError, match="^x: "):
        load_text(text, "x")
