# SPDX-License-Identifier: MIT
"""The small problem of test_cpu_device.py: y = 2 x by rows, with torch baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avo_pytest.problem import (
    Baseline,
    BaselineCalls,
    Configuration,
    Oracle,
    Problem,
    TensorSpec,
)

WIDTH = 128


def tensors(configuration: Configuration) -> tuple[TensorSpec, ...]:
    shape = (configuration["rows"], WIDTH)
    return TensorSpec("x", shape, "bf16", "input"), TensorSpec("y", shape, "bf16", "output")


def doubled(configuration: Configuration, tensors: Mapping[str, Any]) -> BaselineCalls:
    """Works on a copy that `refresh` makes; its result is transposed in memory."""
    copy = tensors["x"].float().t().contiguous()

    def refresh() -> None:
        copy.copy_(tensors["x"].t())

    return BaselineCalls(lambda: (copy * 2).t(), refresh)


def failing(configuration: Configuration, tensors: Mapping[str, Any]) -> BaselineCalls:
    def launch() -> Any:
        raise ValueError("no kernel for these rows")

    return BaselineCalls(launch)


def oracle(configuration: Configuration, inputs: Mapping[str, Any], rows: Any) -> Oracle:
    raise NotImplementedError("the device does not need it")


PROBLEM = Problem(
    name="double",
    symbols=("rows",),
    specialisable=(),
    tensors=tensors,
    scalars=lambda configuration: {"scale": 2.0},
    flops=lambda configuration: float(configuration["rows"] * WIDTH),
    throughput={},
    correctness=lambda kind: (),
    draw=lambda random, base: Configuration("drawn", {"rows": 1}),
    inputs=lambda configuration, seed: {},
    oracle=oracle,
    baselines=(
        Baseline("torch", "f32", "cpu", lambda: None, doubled),
        Baseline("torch-failing", "f32", "cpu", lambda: None, failing),
        Baseline("torch-absent", "f32", "cpu", lambda: "not on this CPU", doubled),
    ),
    input_scale=lambda configuration: {"x": 3.0},
)
