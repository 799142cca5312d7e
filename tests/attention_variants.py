# SPDX-License-Identifier: MIT
"""A flash attention in numpy with choices that honest kernels make, and faults that they must not.

Loaded by path from the tests that calibrate and test the limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from avo_pytest.agreement import compare
from avo_pytest.correctness import RowCheck, anchor_of, check_exact, check_rows
from avo_pytest.fingerprints import fingerprint
from avo_pytest.inputs import from_bf16, to_bf16
from avo_pytest.problem import Configuration, Problem

HONEST: Mapping[str, Mapping[str, Any]] = {
    "tile-16": {"tile": 16},
    "tile-64": {"tile": 64},
    "tile-128": {"tile": 128},
    "tile-176-fma": {"tile": 176, "fma": True},
    "fp32-weights": {"tile": 64, "weights": "f32"},
    "cubic": {"tile": 128, "cubic": True},
    "lazy-8": {"tile": 16, "lazy": 8.0},
    "lazy-8-cubic-fma": {"tile": 64, "lazy": 8.0, "cubic": True, "fma": True},
    "backwards": {"tile": 128, "backwards": True},
    "rounded-sum": {"tile": 64, "rounded_sum": True},
    "reciprocal": {"tile": 64, "reciprocal": True},
    "split": {"tile": 32, "splits": 3},
}
FAULTS = (
    "mask-hides-diagonal",
    "mask-shows-next",
    "mask-per-tile",
    "output-not-rescaled",
    "sum-not-rescaled",
    "maximum-of-first-tile",
    "no-maximum",
    "maximum-starts-at-0",
    "scale-2-percent",
    "natural-exponent",
    "tail-dropped",
    "tail-not-masked",
    "kv-head-modulo",
    "kv-head-0",
    "batch-0",
    "qk-slice-skipped",
    "pv-slice-skipped",
    "one-key-skipped",
    "last-weights-reused",
    "columns-swapped",
    "tile-of-rows-unwritten",
    "bf16-scores",
    "bf16-sums",
    "sum-one-short",
)


def verdicts(problem: Problem, c: Configuration, seed: int) -> Iterator[tuple[str, str, RowCheck]]:
    """Every honest variant's checks: (variant, kind of check, outcome).

    Kinds are "exact", or "all rows", "16 rows", and "arms" (against the variant before it).
    """
    contents = problem.inputs(c, seed)
    oracle = problem.oracle(c, contents, None)
    anchor = anchor_of(oracle.exact, oracle.honest)
    generator = np.random.default_rng(seed)
    before = None
    for name, choices in HONEST.items():
        bits = flash(c, contents, **choices)
        if c.exact:
            yield name, "exact", check_exact(bits, to_bf16(oracle.exact))
            continue
        out = from_bf16(bits)
        yield name, "all rows", check_rows(out, oracle.exact, oracle.honest)
        if len(out) > 16:
            some = generator.choice(len(out), 16, replace=False)
            yield name, "16 rows", check_rows(out[some], oracle.exact[some], oracle.honest[some])
        if c.values == "normal":
            own = fingerprint(bits, seed)
            if before is not None:
                yield name, "arms", compare(own, before, anchor)
            before = own


def flash(
    c: Configuration,
    contents: Mapping[str, Any],
    *,
    fault: str = "",
    splits: int = 1,
    **choices: Any,
) -> np.ndarray:
    """The output's BF16 bits as [rows, width]."""
    with np.errstate(all="ignore"):  # some faults overflow
        return to_bf16(_flash(c, contents, fault, splits, **choices)).reshape(-1, c["head_dim"])


def _flash(
    c: Configuration, contents: Mapping[str, Any], fault: str, splits: int, **choices: Any
) -> np.ndarray:
    tensors = {name: from_bf16(bits) for name, bits in contents.items()}
    out = np.empty_like(tensors["q"])
    for batch in range(c["batch"]):
        for head in range(c["heads"]):
            kv_head = head // c["group"]
            kv_head = {"kv-head-modulo": head % c["kv_heads"], "kv-head-0": 0}.get(fault, kv_head)
            kv_batch = 0 if fault == "batch-0" else batch
            q = tensors["q"][batch, :, head]
            k, v = (tensors[name][kv_batch, :, kv_head] for name in "kv")
            edges = np.linspace(0, c["seq"], splits + 1).astype(int)
            parts = [
                _attend(q, k, v, range(a, b), c["causal"], fault, **choices)
                for a, b in zip(edges, edges[1:], strict=False)
                if b > a
            ]
            out[batch, :, head] = _combine(parts, choices.get("reciprocal", False))
    if fault == "columns-swapped":
        out[..., 8:16] = out[..., 15:7:-1]
    if fault == "tile-of-rows-unwritten":
        out[-1, c["seq"] // 2 : c["seq"] // 2 + 16, -1] = 0
    return out


def _attend(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    keys: range,
    causal: int,
    fault: str,
    *,
    tile: int = 64,
    weights: str = "bf16",
    cubic: bool = False,
    fma: bool = False,
    lazy: float = 0.0,
    backwards: bool = False,
    rounded_sum: bool = False,
    reciprocal: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unnormalised output, sum and maximum (log2 units) over `keys`."""
    seq = q.shape[0]
    scale = np.float32(q.shape[1] ** -0.5 * np.log2(np.e))
    scale = scale * np.float32(
        {"scale-2-percent": 1.02, "natural-exponent": 0.6931472}.get(fault, 1)
    )
    o = np.zeros_like(q)
    total = np.zeros(seq, dtype=np.float32)
    top = np.full(seq, 0 if fault == "maximum-starts-at-0" else -np.inf, dtype=np.float32)
    p = np.zeros((seq, 1), dtype=np.float32)
    starts = list(range(keys.start, keys.stop, tile))
    if fault == "tail-dropped" and len(starts) > 1 and keys.stop % tile:
        starts.pop()
    for start in starts[::-1] if backwards else starts:
        stop = min(start + tile, keys.stop)
        scores = _scores(q, k, start, stop, causal, tile, fault)
        raw = scores * scale
        highest = raw.max(1)
        grown = np.where(highest > top + lazy, highest, top)
        if fault == "no-maximum":
            grown = np.zeros_like(top)
        if fault == "maximum-of-first-tile" and start != starts[0]:
            grown = np.where(np.isfinite(top), top, highest)
        base = np.where(np.isfinite(grown), grown, 0)[:, None]
        shifted = (
            (scores.astype(np.float64) * scale - base).astype(np.float32) if fma else raw - base
        )
        if not (
            fault == "last-weights-reused" and p.shape[1] == stop - start and start == starts[-1]
        ):
            p = _exp2(shifted, cubic)
        old = _exp2(np.where(np.isfinite(top), top, -np.inf) - base[:, 0], cubic)
        rounded = from_bf16(to_bf16(p)) if weights == "bf16" else p
        total = total * (1 if fault == "sum-not-rescaled" else old)
        total = total + (rounded if rounded_sum else p).sum(1)
        if fault == "sum-one-short" and stop == keys.stop:
            total = total - p[:, -1] * np.float32(0.5)
        if fault == "tail-not-masked" and stop - start < tile and not causal:
            total = total + (tile - (stop - start)) * _exp2(-base[:, 0], cubic)
        o = o * (1 if fault == "output-not-rescaled" else old[:, None])
        o = o + _weighted(rounded, v[start:stop], fault)
        if fault == "bf16-sums":
            o = from_bf16(to_bf16(o))
        top = grown
    return o, total, top


def _scores(
    q: np.ndarray, k: np.ndarray, start: int, stop: int, causal: int, tile: int, fault: str
) -> np.ndarray:
    if fault == "qk-slice-skipped":
        q = q.copy()
        q[:, 48:64] = 0
    scores = q @ k[start:stop].T
    if fault == "bf16-scores":
        scores = from_bf16(to_bf16(scores))
    places, keys = np.arange(q.shape[0])[:, None], np.arange(start, stop)
    if causal:
        shift = {"mask-hides-diagonal": -1, "mask-shows-next": 1}.get(fault, 0)
        last = np.maximum(places + shift, 0)
        if fault == "mask-per-tile":
            last = places // tile * tile + tile - 1
        scores[keys > last] = -np.inf
    if fault == "one-key-skipped" and start <= 5 < stop and q.shape[0] > 6:
        scores[:, 5 - start] = -np.inf
    return scores


def _weighted(p: np.ndarray, v: np.ndarray, fault: str) -> np.ndarray:
    if fault == "pv-slice-skipped" and p.shape[1] >= 32:
        return np.delete(p, np.s_[16:32], 1) @ np.delete(v, np.s_[16:32], 0)
    return p @ v


def _combine(
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], reciprocal: bool
) -> np.ndarray:
    top = np.max([part[2] for part in parts], axis=0)
    top = np.where(np.isfinite(top), top, 0)
    factors = [np.exp2(part[2] - top) for part in parts]
    total = sum(f * part[1] for f, part in zip(factors, parts, strict=True))
    o = sum(f[:, None] * part[0] for f, part in zip(factors, parts, strict=True))
    if reciprocal:
        return o * (np.float32(1) / total)[:, None]
    return o / total[:, None]


def _exp2(x: np.ndarray, cubic: bool) -> np.ndarray:
    if not cubic:
        return np.exp2(x)
    x = np.maximum(x, np.float32(-127))
    whole = np.floor(x)
    f = x - whole
    poly = (
        (np.float32(0.0771190897) * f + np.float32(0.2275643945)) * f + np.float32(0.6951461434)
    ) * f
    return np.ldexp(poly + np.float32(1), whole.astype(np.int32))
