# SPDX-License-Identifier: MIT
"""Searches that people and another agent made, as attempts: our notes, and a published run.

Ours are the rows of `docs/lineage/*.notes.md` in their order. The other is the lineage of the AVO
paper (arXiv 2603.24517, figures 5 and 6), its curves digitised by us to about 0.1 TFLOPS: each
version is an attempt and counts as accepted where it is the best so far.
"""

from __future__ import annotations

from typing import Any

# (idea, gain as a fraction, accepted): the ladder, then what did not pay
SM90 = [
    ("TMA rings, warpgroups taking turns, softmax without maxima", None, True),
    ("QK first, then PV; P in two buffers", 0.039, True),
    ("scores recomputed in the rare case", 0.036, True),
    ("weights converted before the wait", 0.017, True),
    ("last rounds cut into equal shares of key blocks", 0.034, True),
    ("both of them", 0.011, True),
    ("two slices of Q in registers", 0.007, True),
    ("maxima and rescaling on each tile", -0.127, False),
    ("all of Q in registers, one P buffer", 0.009, False),
    ("four slices, 24 registers for the loading warp", -0.007, False),
    ("no turns between warpgroups", -0.009, False),
    ("handing the turn over 2 wgmmas early", -0.007, False),
    ("handing the turn over 4 wgmmas early", -0.008, False),
    ("L2 hints for K, V and Q", -0.002, False),
    ("K ring of 2", -0.001, False),
    ("next Q fetched at the start of a row block", -0.005, False),
    ("diagonal tile trimmed by a branch", -0.035, False),
    ("causal keys ascending", -0.006, False),
    ("sections of 8 MB", -0.022, False),
    ("sections of 16 MB", -0.010, False),
    ("sections of 64 MB", -0.013, False),
]
SM90_CLUSTER = ("cluster of two CTAs", "rows of the second CTA were wrong")
SM80 = [
    ("32 rows a warp", 0.13, True),
    ("mbarrier ring", 0.012, True),
    ("row sums as a product with ones", 0.046, True),
    ("rescale on any growth", -0.034, False),
    ("refill after QK", 0.02, True),
    ("cp.async spread over QK", -0.115, False),
    ("tiles of 32 keys", -0.01, False),
    ("tiles of 128 keys, 8 warps", -0.02, False),
    ("L2 hints, order of heads", 0.0, False),
    ("Q in registers", -0.06, False),
    ("256 rows, ring of 4 stages", 0.06, True),
]
CPU_LADDER = [
    ("the definition, a query at a time", None, True),
    ("loops that compilers vectorise", 5.9, True),
    ("packed K and V", 0.1, True),
    ("panels and tiles of 8 x 32", 1.4, True),
    ("14 x 32 tiles, softmax fused", 0.3, True),
    ("products of BF16 pairs", 0.94, True),
]
CPU_IDEAS = [
    ("vdpbf16ps for both products", 0.94, True),
    ("value - Vec{} for a broadcast", 0.39, True),
    ("row tile of 14 x 2 vectors", -0.02, False),
    ("key blocks of 128", -0.04, False),
    ("one horizontal sum a block", 0.17, True),
    ("exponential by vreduceps", 0.01, True),
    ("last K panel trimmed", 0.12, True),
    ("software prefetch", 0.0, False),
    ("reciprocal with correction", 0.0, False),
    ("8 rows in rung 4", 0.46, True),
]
# causal and full geometric means of TFLOPS, versions 8 to 40; those without a point left out
AVO = [
    *((1115.6, 1269.9), (1125.9, 1264.1), (1183.4, 1338.3), (1284.6, 1477.3), (1308.1, 1428.8)),
    *((1426.4, 1349.2), (1426.0, 1465.4), (1448.5, 1584.4), (1470.8, 1594.3), (1463.4, 1596.7)),
    *((1441.4, 1590.8), (1442.0, 1596.0), (1441.9, 1596.3), (1453.8, 1601.5), (1452.6, 1604.9)),
    *((1452.4, 1588.9), (1474.0, 1555.8), (1479.2, 1568.7), (1489.3, 1567.6), (1490.4, 1560.7)),
    *((1490.4, 1593.0), (1496.2, 1617.4), (1511.4, 1623.7), (1515.0, 1622.3), (1522.7, 1619.7)),
    *((1520.3, 1622.7), (1520.3, 1622.7), (1520.5, 1629.7)),
]
NOTES = "docs/lineage/attention-{}.notes.md, in their order"


def recorded() -> list[dict[str, Any]]:
    """All of them, labelled before a detector had seen them."""
    stuck = [*_ideas(SM90), _failed(len(SM90) + 1, *SM90_CLUSTER)]
    both = [(c * f) ** 0.5 for c, f in AVO]
    paper = "AVO paper, figures 5 and 6, digitised"
    return [
        _run("notes-sm90-ladder", "healthy", NOTES.format("sm90"), _ideas(SM90[:7])),
        _run("notes-sm90-all", "stall", NOTES.format("sm90"), stuck),
        _run("notes-sm80", "healthy", NOTES.format("sm80"), _ideas(SM80)),
        _run("notes-cpu-ladder", "healthy", NOTES.format("cpu"), _ideas(CPU_LADDER)),
        _run("notes-cpu-ideas", "healthy", NOTES.format("cpu"), _ideas(CPU_IDEAS)),
        _run("avo-causal", "slow", paper, _versions([c for c, _ in AVO])),
        _run("avo-full", "slow", paper, _versions([f for _, f in AVO])),
        _run("avo-both", "stall", paper, _versions(both)),
    ]


def _run(name: str, label: str, source: str, attempts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "label": label, "source": source, "attempts": attempts}


def _ideas(rows: list[tuple[str, float | None, bool]]) -> list[dict[str, Any]]:
    return [
        {"step": n, "verdict": "MEASURED", "gain": gain, "accepted": kept, "diff": f"+// {idea}"}
        for n, (idea, gain, kept) in enumerate(rows, 1)
    ]


def _failed(step: int, idea: str, failure: str) -> dict[str, Any]:
    wrong = {"verdict": "INCORRECT", "correct": False, "accepted": False}
    return {"step": step, **wrong, "failure": failure, "diff": f"+// {idea}"}


def _versions(figures: list[float]) -> list[dict[str, Any]]:
    best, found = 0.0, []
    for step, figure in enumerate(figures, 1):
        gain = figure / best - 1 if best else None
        found.append({"step": step, "verdict": "MEASURED", "gain": gain, "accepted": figure > best})
        best = max(best, figure)
    return found
