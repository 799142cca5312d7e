# SPDX-License-Identifier: MIT
"""Attention forward in BF16: O = softmax(Q·Kᵀ·scale)·V, layout (batch, seq, heads, head_dim).

head_dim is 128; query head h reads key/value head h // group; causal query i sees keys 0 … i.
Rows of the output's 2-d view are (batch, seq, head), each 128 wide.
"""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avo_pytest.inputs import to_bf16
from avo_pytest.problem import Configuration, DeviceKind, Problem, TensorSpec

HEAD_DIM = 128
SCALE = 1 / math.sqrt(HEAD_DIM)
SCALE_LOG2E = SCALE * math.log2(math.e)


def _beside(name: str) -> Any:
    """A module of this folder. It is no package: problems are loaded by path."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"{__name__}.{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_values = _beside("values")
VALUES, EXACT = _values.VALUES, _values.EXACT


def configuration(
    batch: int, heads: int, kv_heads: int, seq: int, causal: int, values: str = "normal"
) -> Configuration:
    """A configuration named by its shape, mask and, unless normal, its values."""
    mask = "causal" if causal else "full"
    parts = [f"b{batch}", f"h{heads}", f"kv{kv_heads}", f"s{seq}", f"d{HEAD_DIM}", mask, values]
    symbols = {
        "batch": batch,
        "seq": seq,
        "heads": heads,
        "kv_heads": kv_heads,
        "group": heads // kv_heads,
        "head_dim": HEAD_DIM,
        "causal": int(causal),
    }
    dropped = {f"kv{heads}", "normal"}
    name = "-".join(part for part in parts if part not in dropped)
    return Configuration(name, symbols, values=values, group=mask, exact=values in EXACT)


def tensors(c: Configuration) -> tuple[TensorSpec, ...]:
    """Inputs q, k, v and output o, dense."""
    query = (c["batch"], c["seq"], c["heads"], HEAD_DIM)
    key = (c["batch"], c["seq"], c["kv_heads"], HEAD_DIM)
    return (
        TensorSpec("q", query, "bf16", "input"),
        TensorSpec("k", key, "bf16", "input"),
        TensorSpec("v", key, "bf16", "input"),
        TensorSpec("o", query, "bf16", "output"),
    )


def flops(c: Configuration) -> float:
    """Two products of 2 FLOPs per multiply-add for each query head; half of it when causal."""
    full = 4.0 * c["batch"] * c["heads"] * c["seq"] ** 2 * HEAD_DIM
    return full / 2 if c["causal"] else full


def inputs(c: Configuration, seed: int) -> Mapping[str, NDArray[np.uint16]]:
    """Contents of q, k, v as BF16 patterns; the seed replays them."""
    q, k, v = VALUES[c.values](np.random.default_rng(seed), c)
    return {"q": to_bf16(q), "k": to_bf16(k), "v": to_bf16(v)}


# --- configurations ---------------------------------------------------------------------------


def _paper(heads: int, kv_heads: int) -> tuple[Configuration, ...]:
    return tuple(
        configuration(32768 // seq, heads, kv_heads, seq, causal)
        for causal in (0, 1)
        for seq in (4096, 8192, 16384, 32768)
    )


# The same 8.6 GFLOP (half of it causal) in each: 5 ms or more on two fast cores, so that what the
# judge does within a launch's span, 0.1 ms, is little of it.
_CPU_SHAPES = ((8, 8, 8, 512), (4, 4, 4, 1024), (2, 8, 2, 1024), (1, 4, 4, 2048))
_CPU = tuple(configuration(*shape, causal) for shape in _CPU_SHAPES for causal in (0, 1))

# batch, heads, kv_heads, seq, causal, values
_SMALL: tuple[tuple[int, int, int, int, int, str], ...] = (
    (1, 1, 1, 1, 0, "normal"),
    (2, 3, 1, 1, 1, "normal"),
    (1, 1, 1, 2, 1, "normal"),
    (1, 2, 2, 17, 0, "normal"),
    (3, 2, 2, 31, 1, "normal"),
    (1, 1, 1, 63, 1, "normal"),
    (1, 1, 1, 64, 0, "normal"),
    (1, 1, 1, 65, 1, "normal"),
    (1, 5, 1, 77, 1, "normal"),
    (2, 4, 2, 100, 0, "normal"),
    (1, 2, 1, 127, 1, "normal"),
    (1, 2, 1, 128, 1, "normal"),
    (1, 2, 2, 129, 0, "normal"),
    (1, 6, 3, 191, 0, "normal"),
    (1, 8, 2, 192, 1, "normal"),
    (1, 4, 4, 257, 0, "normal"),
    (1, 4, 1, 353, 1, "normal"),
    (1, 1, 1, 1000, 1, "normal"),
    (1, 2, 2, 300, 0, "scaled"),
    (1, 2, 1, 320, 1, "scaled"),
    (1, 2, 2, 200, 1, "peaked"),
    (1, 2, 1, 384, 0, "flat"),
    (1, 2, 2, 150, 0, "huge"),
    (1, 2, 2, 150, 1, "tiny"),
    (1, 2, 1, 333, 0, "growing"),
    (2, 2, 2, 257, 1, "growing"),
    (1, 2, 2, 300, 1, "falling"),
    (1, 2, 1, 200, 1, "sunken"),
    (1, 2, 1, 512, 0, "anticorrelated"),
    (1, 2, 2, 400, 1, "anticorrelated"),
    (1, 2, 2, 320, 0, "suffix"),
    (2, 2, 1, 150, 1, "heavy"),
    (2, 6, 2, 130, 1, "constant"),
    (2, 2, 2, 200, 0, "onehot"),
    (1, 4, 2, 450, 1, "onehot"),
    (1, 3, 1, 64, 1, "ramp"),
    (1, 4, 2, 256, 0, "ramp"),
    (2, 2, 1, 300, 1, "ramp"),
)
# Tile boundaries of 64, 128, 176, 192, more keys, and more CTAs than a GPU holds at once.
_LARGER: tuple[tuple[int, int, int, int, int, str], ...] = (
    (1, 4, 4, 880, 0, "normal"),
    (1, 4, 2, 961, 1, "normal"),
    (1, 2, 2, 1536, 1, "normal"),
    (1, 2, 1, 2048, 0, "normal"),
    (4, 32, 8, 513, 1, "normal"),
    (1, 2, 2, 1400, 0, "anticorrelated"),
    (1, 4, 1, 1300, 1, "growing"),
    (1, 8, 2, 2048, 1, "onehot"),
    (1, 4, 4, 1153, 0, "onehot"),
    (2, 16, 2, 1025, 1, "ramp"),
)


def correctness(kind: DeviceKind) -> tuple[Configuration, ...]:
    """The fixed points: small and awkward; on GPUs some larger ones as well."""
    rows = _SMALL if kind == "cpu" else _SMALL + _LARGER
    return tuple(configuration(*row) for row in rows)


def draw(generator: random.Random, base: Configuration | None = None) -> Configuration:
    """A random point: small and of any form, or with the mask, group and about the size of `base`.

    Near `base` nothing is promised about guards on other symbols: draw again until one fits.
    """
    values = generator.choice(list(VALUES))
    if base is None:
        batch, kv_heads = generator.choice((1, 1, 2, 3)), generator.randint(1, 3)
        heads = kv_heads * generator.choice((1, 1, 2, 3, 4, 7))
        longest = math.isqrt(4_000_000 // (batch * heads))
        seq = _near_tiles(generator, int(longest ** math.sqrt(generator.random())))
        return configuration(batch, heads, kv_heads, seq, generator.randint(0, 1), values)
    batch = generator.choice((1, base["batch"]))
    kv_heads = generator.choice((1, base["kv_heads"], base["kv_heads"]))
    quarter = generator.randint(0, base["seq"] // 4)
    seq = base["seq"] + generator.choice((0, quarter, -quarter))
    seq = _near_tiles(generator, seq)
    if values == "onehot" and seq > HEAD_DIM**2:
        values = "normal"  # there are no more codes
    return configuration(batch, kv_heads * base["group"], kv_heads, seq, base["causal"], values)


def _near_tiles(generator: random.Random, seq: int) -> int:
    """`seq`, or a neighbour of a multiple of a usual tile size."""
    tile = generator.choice([tile for tile in (1, 1, 16, 64, 128, 176, 192) if tile <= seq])
    return max(1, seq // tile * tile + generator.choice((-1, 0, 1)))


PROBLEM = Problem(
    name="attention",
    symbols=("batch", "seq", "heads", "kv_heads", "group", "head_dim", "causal"),
    specialisable=("causal", "head_dim", "group"),
    tensors=tensors,
    scalars=lambda _: {"scale": SCALE, "scale_log2e": SCALE_LOG2E},
    flops=flops,
    throughput={
        "cpu": {"cpu": _CPU},
        "cuda": {"mha": _paper(16, 16), "gqa": _paper(32, 4) + _paper(32, 8)},
    },
    correctness=correctness,
    draw=draw,
    inputs=inputs,
    oracle=_beside("oracle").oracle,
    baselines=_beside("baselines").BASELINES,
)
