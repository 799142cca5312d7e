# SPDX-License-Identifier: MIT
"""The attention problem of bench/attention with few and small configurations, for quick trials.

Everything that decides is the real one: inputs, oracle, limits.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any


def _real() -> Any:
    path = Path(__file__).parents[4] / "bench" / "attention" / "problem.py"
    spec = importlib.util.spec_from_file_location("redteam_attention", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_attention = _real()
# batch, heads, kv_heads, seq, causal, values
_CHECKS = (
    (1, 2, 1, 65, 1, "normal"),
    (1, 2, 2, 150, 0, "huge"),
    (1, 2, 1, 200, 0, "anticorrelated"),
    (2, 2, 2, 96, 1, "growing"),
    (1, 2, 2, 160, 0, "suffix"),
    (1, 4, 2, 130, 1, "onehot"),
    (1, 2, 1, 100, 1, "ramp"),
)
_TIMED = {
    "cpu": ((1, 4, 4, 256, 1), (1, 4, 2, 256, 0)),
    "cuda": ((2, 8, 8, 1024, 1), (1, 8, 2, 1024, 0)),
}
_POINTS = tuple(_attention.configuration(*row) for row in _CHECKS)

PROBLEM = replace(
    _attention.PROBLEM,
    throughput={
        kind: {"redteam": tuple(_attention.configuration(*row) for row in rows)}
        for kind, rows in _TIMED.items()
    },
    correctness=lambda kind: _POINTS,
    draw=lambda generator, base=None: generator.choice(_POINTS),
    baselines=(),
)
