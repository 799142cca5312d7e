# SPDX-License-Identifier: MIT
"""The Hopper kernel beside FlashAttention-3: error against float64, and whether launches repeat.

    pytest -m soak -s tests/soak/test_hopper_attention.py     (a Hopper GPU; about three minutes)

Also a program for checkers of memory and barriers, which slow a launch down a thousandfold. They
must not follow into the compiler, and to list a kernel's parameters is to ask until an error:

    compute-sanitizer --target-processes application-only --report-api-errors no \
        --tool memcheck python tests/soak/test_hopper_attention.py
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avo_pytest.build import build
from avo_pytest.devices import Arm
from avo_pytest.devices.probe import find_cuda
from avo_pytest.inputs import from_bf16
from avo_pytest.loading import load_problem
from avo_pytest.problem import Configuration, Problem

ROOT = Path(__file__).resolve().parents[2]
FACTS = find_cuda(0)[0]
CANDIDATE = "candidate"
ROWS = 4096
SEEDS = 8
LAUNCHES = 1000
# batch, heads, kv_heads, seq: odd lengths, idle CTAs, groups, every kind of last tile
UNEQUAL = (
    (1, 1, 1, 1), (1, 2, 1, 127), (2, 4, 4, 128), (1, 8, 2, 129), (3, 5, 1, 255), (1, 16, 16, 1000),
    (1, 16, 16, 4096), (2, 7, 7, 1537), (1, 32, 4, 3333), (4, 32, 8, 513), (1, 3, 1, 8191),
)  # fmt: skip

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        FACTS is None or not FACTS.arch.startswith("sm_90"), reason="needs a Hopper GPU"
    ),
]


def configuration(batch: int, heads: int, kv_heads: int, seq: int, causal: int) -> Configuration:
    symbols = {
        "batch": batch, "seq": seq, "heads": heads, "kv_heads": kv_heads,
        "group": heads // kv_heads, "head_dim": 128, "causal": causal,
    }  # fmt: skip
    return Configuration(
        f"b{batch}-h{heads}-kv{kv_heads}-s{seq}-{'causal' if causal else 'full'}", symbols
    )


@contextmanager
def stages(configurations: Sequence[Configuration], *baselines: str) -> Iterator[list[Any]]:
    """The kernel (and baselines) staged for each configuration on one device."""
    from avo_pytest.devices.cuda import CudaDevice

    problem: Problem = load_problem("attention", root=ROOT)
    folder = ROOT / "kernels" / "attention" / "sm90"
    assert FACTS is not None
    with tempfile.TemporaryDirectory() as scratch:
        artifact = build(folder, problem, configurations, FACTS, Path(scratch))
        device = CudaDevice(0, seed=bytes(32))
        arms = [Arm(CANDIDATE, "candidate", artifact.path)]
        arms += [Arm(name, "baseline") for name in baselines]
        opened: list[Any] = []
        try:
            opened += [device.stage(problem, c, arms) for c in configurations]
            yield opened
        finally:
            for stage in opened:
                stage.close()
            device.close()


def errors(stage: Any, problem: Problem, c: Configuration, arm: str) -> tuple[float, float]:
    """Largest and RMS error of some rows against float64, relative to the output's RMS."""
    generator = np.random.default_rng(0)
    total = c["batch"] * c["seq"] * c["heads"]
    rows = np.sort(generator.choice(total, size=min(ROWS, total), replace=False))
    stage.launch(arm, timeout_s=20)
    found = from_bf16(stage.bits(arm)[rows]).astype(np.float64)
    exact = problem.oracle(c, stage.oracle_inputs(), rows).exact
    off = found - exact
    scale = float(np.sqrt(np.mean(exact**2)))
    return float(np.max(np.abs(off))) / scale, float(np.sqrt(np.mean(off**2))) / scale


def test_on_long_rows_it_errs_little_more_than_flash_attention_3() -> None:
    """A row's largest weight is exact there, and here only where it is among the first keys; one
    such row may decide about the largest error, hence its mean over configurations."""
    pytest.importorskip("fa3_fwd_interface", reason="needs fa3-fwd")
    problem = load_problem("attention", root=ROOT)
    chosen = [
        configuration(32768 // s, 16, 16, s, causal)
        for causal in (0, 1)
        for s in (4096, 16384, 32768)
    ]
    ratios = []
    for c in chosen:
        with stages([c], "fa3") as (stage,):
            stage.refresh(1)
            ours, theirs = (errors(stage, problem, c, arm) for arm in (CANDIDATE, "fa3"))
        print(f"{c.name:26} largest error {ours[0]:.4f}, RMS {ours[1]:.3e}", end="")
        print(f" (fa3: {theirs[0]:.4f}, {theirs[1]:.3e})")
        ratios.append((ours[0] / theirs[0], ours[1] / theirs[1]))
    largest, rms = np.exp(np.mean(np.log(ratios), axis=0))
    print(f"all: largest {largest:.3f}x, RMS {rms:.3f}x that of fa3")
    assert max(rms for _, rms in ratios) <= 1.05
    assert largest <= 1.5


def test_it_errs_no_more_than_flash_attention_3_on_the_correctness_set() -> None:
    """Geometric means over configurations of the ratio of errors; exact ones are compared bitwise
    by the judge."""
    pytest.importorskip("fa3_fwd_interface", reason="needs fa3-fwd")
    problem = load_problem("attention", root=ROOT)
    chosen = [c for c in problem.correctness("cuda") if not c.exact]
    ratios: dict[str, list[tuple[float, float]]] = {}
    with stages(chosen, "fa3") as opened:
        for stage, c in zip(opened, chosen, strict=True):
            found = []
            for seed in range(SEEDS):
                stage.write(problem.inputs(c, seed))
                found.append([errors(stage, problem, c, arm) for arm in (CANDIDATE, "fa3")])
            pooled = np.sqrt(np.mean(np.square(found), axis=0))
            largest = np.max(found, axis=0)
            ours, theirs = ((largest[i][0], pooled[i][1]) for i in (0, 1))
            print(f"{c.name:40} largest error {ours[0]:.2e}, RMS {ours[1]:.3e}", end="")
            print(f" (fa3: {theirs[0]:.2e}, {theirs[1]:.3e})")
            if not all(map(math.isfinite, theirs)) or not min(ours + theirs):
                continue  # flash-attention's own, or nothing to divide by
            pair = ours[0] / theirs[0], ours[1] / theirs[1]
            ratios.setdefault(c.values, []).append(pair)
    for values, pairs in sorted(ratios.items()):
        largest_, rms = np.exp(np.mean(np.log(pairs), axis=0))
        print(f"{values:16} {len(pairs):2} configurations: largest {largest_:.3f}x, RMS {rms:.3f}x")
    logs = np.log([p for pairs in ratios.values() for p in pairs])
    largest_, rms = np.exp(np.mean(logs, axis=0))
    errors_ = np.std(logs, axis=0, ddof=1) / math.sqrt(len(logs))
    print(
        f"all {len(logs)}: largest {largest_:.3f}x, RMS {rms:.3f}x that of fa3 "
        f"(standard errors {errors_[0]:.3f}, {errors_[1]:.3f})"
    )
    assert rms <= 1.01
    assert largest_ <= 1.05


@pytest.mark.parametrize("causal", [0, 1], ids=["full", "causal"])
def test_a_thousand_launches_agree_bitwise(causal: int) -> None:
    """Also a row block that two CTAs share: the sum of its halves has a fixed order."""
    with stages([configuration(2, 16, 16, 4096, causal)]) as (stage,):
        stage.refresh(3)
        stage.launch(CANDIDATE, timeout_s=20)
        first = stage.bits(CANDIDATE)
        for number in range(LAUNCHES):
            stage.launch(CANDIDATE, timeout_s=20)
            assert np.array_equal(stage.bits(CANDIDATE), first), f"launch {number}"


def alternating(count: int) -> None:
    """Shapes in random order, back to back; each must repeat its own first output."""
    shapes = [configuration(*shape, causal) for shape in UNEQUAL for causal in (0, 1)]
    generator = random.Random(0)
    with stages(shapes) as opened:
        first: dict[int, Any] = {}
        for number in range(count):
            at = generator.randrange(len(opened))
            opened[at].refresh(at)
            opened[at].launch(CANDIDATE, timeout_s=600)
            bits = opened[at].bits(CANDIDATE)
            assert np.array_equal(bits, first.setdefault(at, bits)), f"{number}: {shapes[at].name}"
            assert opened[at].damage(CANDIDATE) is None, shapes[at].name
    assert len(first) == len(shapes) or count < 10 * len(shapes)


def test_shapes_in_any_order_repeat_their_output() -> None:
    alternating(LAUNCHES)


if __name__ == "__main__":
    launches = int(sys.argv[1]) if sys.argv[1:] else 2 * 2 * len(UNEQUAL)
    alternating(launches)
    print(f"{launches} launches of {2 * len(UNEQUAL)} shapes: each repeats its output")
