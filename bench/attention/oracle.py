# SPDX-License-Identifier: MIT
"""The reference: rows of attention's output in float64, and as an honest BF16 kernel has them.

Runs where the contents are, on numpy or torch. Verification asks for a few rows of many heads
after every turn while the device waits, so on a GPU heads are worked on together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avo_pytest.inputs import from_bf16, to_bf16
from avo_pytest.problem import Configuration, Oracle

Rows = NDArray[np.int64]


class _Arrays(NamedTuple):
    """What numpy and torch spell differently. `scores` bounds the elements of a score matrix,
    `keys` those of the keys that are gathered for it (0: one head at a time)."""

    wide: Callable[[Any], Any]
    single: Callable[[Any], Any]
    rounded: Callable[[Any], Any]
    exp2: Callable[[Any], Any]
    peak: Callable[[Any], Any]
    move: Callable[[NDArray[Any]], Any]
    host: Callable[[Any], NDArray[np.float64]]
    scores: int
    keys: int


def oracle(c: Configuration, contents: Mapping[str, Any], rows: Any = None) -> Oracle:
    """Rows of O and of an honest kernel's O, as float64 on the host.

    `exact` is float64 throughout (error about 1e-15 of the largest term). `honest` has FP32 scores
    and softmax, P rounded to BF16, FP32 sums and a BF16 result.
    """
    arrays = _arrays(contents["q"])
    shape = (c["batch"], c["seq"], c["heads"])
    wanted = np.arange(math.prod(shape)) if rows is None else np.asarray(rows, dtype=np.int64)
    batch, seq, head = np.unravel_index(wanted, shape)
    exact = np.empty((wanted.size, c["head_dim"]))
    honest = np.empty_like(exact)
    pieces = _pieces(batch * c["kv_heads"] + head // c["group"], seq, arrays.scores // c["seq"])
    scale_log2e = c["head_dim"] ** -0.5 * math.log2(math.e)
    for at in _together(pieces, c["seq"], arrays.scores, arrays.keys // c["head_dim"]):
        which, kv_head = (arrays.move(x[at[:, 0]]) for x in (batch, head // c["group"]))
        last = int(seq[at].max()) + 1 if c["causal"] else c["seq"]
        places = arrays.move(seq[at])
        q = contents["q"][which[:, None], places, arrays.move(head[at])]
        k, v = (contents[name][which, :last, kv_head] for name in "kv")
        hidden = arrays.move(np.arange(last)) > places[..., None] if c["causal"] else None
        for result, cast, rounded in (
            (exact, arrays.wide, _unrounded),
            (honest, arrays.single, arrays.rounded),
        ):
            scores = (cast(q) @ cast(k).mT) * scale_log2e
            o = _attended(scores, cast(v), hidden, arrays, rounded)
            result[at] = arrays.host(o)
    return Oracle(exact=exact, honest=honest)


def _pieces(group: Rows, seq: Rows, most: int) -> list[Rows]:
    """Indices of up to `most` rows of one group (one key/value head), by place in the sequence."""
    order = np.lexsort((seq, group))
    heads = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    most = max(1, most)
    pieces = [same[i : i + most] for same in heads for i in range(0, same.size, most)]
    # like beside like: what is padded and what is hidden costs as much as what counts
    return sorted(pieces, key=lambda piece: (piece.size, seq[piece[-1]]))


def _together(pieces: list[Rows], length: int, scores: int, keys: int) -> Iterator[Rows]:
    """Pieces in batches [pieces, rows], short ones padded with a row that is there anyway."""
    batch: list[Rows] = []
    for piece in pieces:
        count = len(batch) + 1
        if batch and (count * piece.size * length > scores or count * length > keys):
            yield _padded(batch)
            batch = []
        batch.append(piece)
    if batch:
        yield _padded(batch)


def _padded(pieces: list[Rows]) -> Rows:
    most = max(piece.size for piece in pieces)
    return np.stack([np.pad(piece, (0, most - piece.size), mode="edge") for piece in pieces])


def _attended(
    scores: Any, v: Any, hidden: Any, arrays: _Arrays, rounded: Callable[[Any], Any]
) -> Any:
    if hidden is not None:
        scores[hidden] = -math.inf
    weights = arrays.exp2(scores - arrays.peak(scores))
    return rounded((rounded(weights) @ v) / weights.sum(-1)[..., None])


def _unrounded(values: Any) -> Any:
    return values


def _arrays(like: Any) -> _Arrays:
    if isinstance(like, np.ndarray):
        return _Arrays(
            wide=lambda bits: from_bf16(bits).astype(np.float64),
            single=from_bf16,
            rounded=lambda x: from_bf16(to_bf16(x)),
            exp2=np.exp2,
            peak=lambda x: x.max(-1, keepdims=True),
            move=lambda x: x,
            host=lambda x: x.astype(np.float64),
            scores=1 << 21,
            keys=0,
        )
    import torch

    if torch.get_float32_matmul_precision() != "highest":
        raise RuntimeError("the honest emulation needs FP32 products: torch is set to less precise")
    return _Arrays(
        wide=lambda x: x.double(),
        single=lambda x: x.float(),
        rounded=lambda x: x.bfloat16().float(),
        exp2=torch.exp2,
        peak=lambda x: x.amax(-1, keepdim=True),
        move=lambda x: torch.as_tensor(x, device=like.device),
        host=lambda x: x.double().cpu().numpy(),
        scores=1 << 26 if like.is_cuda else 1 << 21,
        keys=1 << 27 if like.is_cuda else 1 << 18,
    )
