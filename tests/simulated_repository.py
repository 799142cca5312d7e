# SPDX-License-Identifier: MIT
"""A temporary repository whose kernel `toy` runs on the simulated device: scripts instead of code.

repository.write(root); repository.script(root, gain=0.01)
pytest --avo-score --avo-device simulated --avo-incumbent main_folder

Its seed is fixed: the scripted noise of a run, hence its verdict, is the same each time.
"""

from __future__ import annotations

from pathlib import Path

PROBLEM = '''\
"""y = 2 x, small enough that a launch costs microseconds."""

import numpy as np

from avo_pytest.inputs import from_bf16, to_bf16
from avo_pytest.problem import Configuration, Oracle, Problem, TensorSpec


def configuration(rows, group="all"):
    return Configuration(f"r{rows}", {"rows": rows}, group=group)


def tensors(c):
    shape = (c["rows"], 8)
    return (TensorSpec("x", shape, "bf16", "input"), TensorSpec("y", shape, "bf16", "output"))


def inputs(c, seed):
    return {"x": to_bf16(np.random.default_rng(seed).standard_normal((c["rows"], 8)))}


def oracle(c, given, rows):
    x = from_bf16(given["x"] if rows is None else given["x"][rows]).astype(np.float64)
    return Oracle(exact=2.0 * x, honest=2.0 * x)


PROBLEM = Problem(
    name="toy",
    symbols=("rows",),
    specialisable=(),
    tensors=tensors,
    scalars=lambda c: {},
    flops=lambda c: c["rows"] * 1e9,
    throughput={"cpu": {"two": (configuration(16), configuration(24))}},
    correctness=lambda kind: (configuration(1), configuration(5)),
    draw=lambda generator, base: configuration(generator.randint(6, 15)),
    inputs=inputs,
    oracle=oracle,
)
'''
TESTS = """\
def test_correctness(judged, configuration):
    check = judged.correctness(configuration)
    assert check.ok, check.reason


def test_throughput(judged, configuration):
    assert judged.throughput(configuration), judged.failure(configuration)
"""


def write(root: Path, policy: str = "") -> Path:
    """The repository with an honest candidate; `policy` is the body of `[tool.avo.policy]`."""
    bench = root / "bench" / "toy"
    bench.mkdir(parents=True)
    (bench / "problem.py").write_text(PROBLEM)
    (bench / "test_toy.py").write_text(TESTS)
    (root / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = ["--import-mode=importlib"]\n'
        f'[tool.avo]\nkernel = "toy"\nseed = 7\n[tool.avo.policy]\n{policy}\n'
    )
    script(root)
    return root


def script(root: Path, where: str = "kernels/toy/simulated", **keys: object) -> Path:
    """Write an arm's script; keys as in `avo_pytest.devices.scripts.Script`."""
    folder = root / where
    folder.mkdir(parents=True, exist_ok=True)
    lines = ['target = "simulated"', *(f"{name} = {_toml(value)}" for name, value in keys.items())]
    (folder / "kernel.toml").write_text("\n".join(lines) + "\n")
    return folder


def scenario(root: Path, text: str, name: str = "machine.toml") -> str:
    """Write a machine; the device that is it."""
    (root / name).write_text(text)
    return f"simulated:{name}"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{k}" = {_toml(v)}' for k, v in value.items()) + " }"
    if isinstance(value, str):
        return f'"{value}"'
    return str(list(value) if isinstance(value, tuple) else value)
