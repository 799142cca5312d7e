# SPDX-License-Identifier: MIT
"""Two problems for tests, loaded by path: SCALE (y = factor · x) and ATTENTION (shapes only)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from avo_pytest.problem import Configuration, Oracle, Problem, TensorSpec

FACTOR = 0.5


def scale(rows: int, width: int, fast: int = 0) -> Configuration:
    """One configuration of SCALE."""
    symbols = {"rows": rows, "width": width, "fast": fast}
    return Configuration(f"r{rows}-w{width}-f{fast}", symbols)


def attention(seq: int, *, causal: int = 0, heads: int = 16, kv_heads: int = 16) -> Configuration:
    """One configuration of ATTENTION with 32768 tokens."""
    symbols = {
        "batch": max(1, 32768 // seq),
        "seq": seq,
        "heads": heads,
        "kv_heads": kv_heads,
        "group": heads // kv_heads,
        "head_dim": 128,
        "causal": causal,
    }
    return Configuration(f"s{seq}-h{heads}-k{kv_heads}-c{causal}", symbols)


def _scale_tensors(c: Configuration) -> tuple[TensorSpec, ...]:
    shape = (c["rows"], c["width"])
    return (TensorSpec("x", shape, "bf16", "input"), TensorSpec("y", shape, "bf16", "output"))


def _attention_tensors(c: Configuration) -> tuple[TensorSpec, ...]:
    def spec(name: str, heads: int, role: Any) -> TensorSpec:
        return TensorSpec(name, (c["batch"], c["seq"], heads, c["head_dim"]), "bf16", role)

    return (
        spec("q", c["heads"], "input"),
        spec("k", c["kv_heads"], "input"),
        spec("v", c["kv_heads"], "input"),
        spec("o", c["heads"], "output"),
    )


def _no_oracle(c: Configuration, inputs: Mapping[str, Any], rows: Any) -> Oracle:
    raise NotImplementedError("these problems are built, not run")


def _no_inputs(c: Configuration, seed: int) -> Mapping[str, Any]:
    raise NotImplementedError("these problems are built, not run")


_SCALE_SET = (scale(64, 256), scale(128, 256, 1))
SCALE = Problem(
    name="scale",
    symbols=("rows", "width", "fast"),
    specialisable=("fast", "width"),
    tensors=_scale_tensors,
    scalars=lambda c: {"factor": FACTOR},
    flops=lambda c: float(c["rows"] * c["width"]),
    throughput={"cpu": {"small": _SCALE_SET}, "cuda": {"small": _SCALE_SET}},
    correctness=lambda kind: (scale(1, 8), scale(3, 40, 1)),
    draw=lambda generator, base: scale(random.Random(0).randint(1, 9), 8),
    inputs=_no_inputs,
    oracle=_no_oracle,
)

_ATTENTION_SET = tuple(attention(s, causal=c) for c in (0, 1) for s in (4096, 32768))
ATTENTION = Problem(
    name="attention",
    symbols=("batch", "seq", "heads", "kv_heads", "group", "head_dim", "causal"),
    specialisable=("causal", "head_dim", "group"),
    tensors=_attention_tensors,
    scalars=lambda c: {"scale": 128**-0.5, "scale_log2e": 128**-0.5 * 1.4426950408889634},
    flops=lambda c: 4.0 * c["batch"] * c["heads"] * c["seq"] ** 2 * c["head_dim"],
    throughput={"cuda": {"mha": _ATTENTION_SET}},
    correctness=lambda kind: (attention(1), attention(257, causal=1, kv_heads=4)),
    draw=lambda generator, base: attention(129),
    inputs=_no_inputs,
    oracle=_no_oracle,
)
