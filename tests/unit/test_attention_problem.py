# SPDX-License-Identifier: MIT
"""The attention problem: its reference; limits that pass honest kernels and nothing else."""

from __future__ import annotations

import importlib.util
import math
import random
from pathlib import Path

import numpy as np
import pytest

from avo_pytest import correctness
from avo_pytest.inputs import from_bf16, to_bf16
from avo_pytest.loading import load_problem

ROOT = Path(__file__).resolve().parents[2]
PROBLEM = load_problem("attention", root=ROOT)
SEEDS = 60
HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


variants = load(ROOT / "tests" / "attention_variants.py")
problem_file = load(ROOT / "bench" / "attention" / "problem.py")
configuration = problem_file.configuration


def plain_attention(c, contents):
    """The definition, one output row at a time, in float64."""
    q, k, v = (from_bf16(contents[name]).astype(np.float64) for name in "qkv")
    out = np.empty_like(q)
    for b, i, h in np.ndindex(q.shape[:3]):
        seen = slice(0, i + 1) if c["causal"] else slice(None)
        own = h // (c["heads"] // c["kv_heads"])
        scores = k[b, seen, own] @ q[b, i, h] / math.sqrt(128)
        weights = np.exp(scores - scores.max())
        out[b, i, h] = weights @ v[b, seen, own] / weights.sum()
    return out.reshape(-1, 128)


# --- configurations


def test_throughput_sets_are_the_papers_on_gpus_and_small_on_cpus():
    sets = PROBLEM.throughput
    assert list(sets["cuda"]) == ["mha", "gqa"] and list(sets["cpu"]) == ["cpu"]
    assert [len(s) for s in (*sets["cuda"].values(), *sets["cpu"].values())] == [8, 16, 8]
    for c in (*sets["cuda"]["mha"], *sets["cuda"]["gqa"]):
        assert c["batch"] * c["seq"] == 32768 and c["heads"] in (16, 32)
    assert {(c["heads"], c["kv_heads"]) for c in sets["cuda"]["gqa"]} == {(32, 4), (32, 8)}
    for c in sets["cpu"]["cpu"]:
        assert 4 <= c["heads"] <= 8 and 512 <= c["seq"] <= 2048
        # 5 ms for two fast cores (840 GFLOPS) to 100 ms for a laptop (90)
        assert 4.2e9 <= PROBLEM.flops(c) <= 9e9
    for s in (*sets["cuda"].values(), *sets["cpu"].values()):
        assert {c.group for c in s} == {"full", "causal"} and len({c.name for c in s}) == len(s)


def test_names_flops_and_tensors():
    c = configuration(8, 16, 16, 4096, 1)
    assert c.name == "b8-h16-s4096-d128-causal" and c.group == "causal"
    assert configuration(1, 8, 2, 1024, 0).name == "b1-h8-kv2-s1024-d128-full"
    assert configuration(1, 8, 2, 9, 0, "onehot").name == "b1-h8-kv2-s9-d128-full-onehot"
    assert PROBLEM.flops(configuration(8, 16, 16, 4096, 0)) == 4 * 8 * 16 * 4096**2 * 128
    assert PROBLEM.flops(c) == 2 * 8 * 16 * 4096**2 * 128
    specs = {s.name: s for s in PROBLEM.tensors(configuration(2, 8, 2, 5, 0))}
    assert specs["q"].shape == specs["o"].shape == (2, 5, 8, 128)
    assert specs["k"].shape == specs["v"].shape == (2, 5, 2, 128)
    assert PROBLEM.output(c).name == "o"
    assert set(c.symbols) == set(PROBLEM.symbols) >= set(PROBLEM.specialisable)
    scalars = PROBLEM.scalars(c)
    assert scalars["scale_log2e"] / scalars["scale"] == pytest.approx(math.log2(math.e))


def test_fixed_points_are_distinct_and_cover_what_is_awkward():
    points = PROBLEM.correctness("cpu")
    assert len({c.name for c in points}) == len(points) >= 34
    more = PROBLEM.correctness("cuda")
    assert more[: len(points)] == points and len({c.name for c in more}) >= len(points) + 8
    assert {c.values for c in points} == set(problem_file.VALUES)
    assert {c.values for c in points if c.exact} == set(problem_file.EXACT)
    assert {c["group"] for c in points} >= {1, 2, 4, 5} and min(c["seq"] for c in points) == 1
    assert sum(PROBLEM.flops(c) for c in points) < 3e9  # checking them all takes seconds


@pytest.mark.parametrize("base", [None, *PROBLEM.throughput["cuda"]["gqa"][:8:3]])
def test_drawn_points_are_replayable_varied_and_like_their_base(base):
    drawn = [PROBLEM.draw(random.Random(seed), base) for seed in range(300)]
    assert drawn == [PROBLEM.draw(random.Random(seed), base) for seed in range(300)]
    assert {c.values for c in drawn} >= set(problem_file.VALUES) - {"onehot"}
    for c in drawn:
        assert c["heads"] == c["kv_heads"] * c["group"] and c["seq"] >= 1
        if base is None:
            assert c["batch"] * c["heads"] * c["seq"] ** 2 < 5e6
        else:
            assert (c["causal"], c["group"]) == (base["causal"], base["group"])
            assert 0.7 < c["seq"] / base["seq"] < 1.3
    assert base is None or any(c["seq"] == base["seq"] for c in drawn)
    assert len({c["seq"] for c in drawn}) > 50 or base is not None


def test_inputs_are_replayed_by_their_seed():
    for c in PROBLEM.correctness("cpu"):
        one, same, other = (PROBLEM.inputs(c, seed) for seed in (1, 1, 2))
        for spec in PROBLEM.tensors(c):
            if spec.role == "input":
                assert one[spec.name].shape == spec.shape and one[spec.name].dtype == np.uint16
                assert np.array_equal(one[spec.name], same[spec.name])
                assert np.isfinite(from_bf16(one[spec.name])).all()
        assert any(not np.array_equal(one[n], other[n]) for n in "qkv")


# --- reference


@pytest.mark.parametrize("batch, heads, kv_heads", [(1, 1, 1), (2, 6, 2)])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("values", ["normal", "peaked", "anticorrelated", "huge"])
def test_the_reference_follows_the_definition(batch, heads, kv_heads, causal, values):
    c = configuration(batch, heads, kv_heads, 37, causal, values)
    contents = PROBLEM.inputs(c, 5)
    oracle = PROBLEM.oracle(c, contents, None)
    expected = plain_attention(c, contents)
    assert correctness.row_errors(oracle.exact, expected).max() < 1e-12
    assert 0 < correctness.anchor_of(oracle.exact, oracle.honest).rms < 4e-3
    assert np.array_equal(from_bf16(to_bf16(oracle.honest)), oracle.honest)


def test_some_rows_are_those_of_all_rows_in_any_order():
    c = configuration(2, 6, 2, 150, 1)
    contents = PROBLEM.inputs(c, 1)
    everything = PROBLEM.oracle(c, contents, None)
    rows = np.array([1799, 0, 7, 900, 901, 7])
    some = PROBLEM.oracle(c, contents, rows)
    assert correctness.row_errors(some.exact, everything.exact[rows]).max() < 1e-12
    assert correctness.row_errors(some.honest, everything.honest[rows]).max() < 5e-3


@needs_torch
@pytest.mark.parametrize("rows", [None, [3, 7, 100, 700]])
def test_the_reference_is_the_same_on_torch_tensors(rows):
    import torch

    c = configuration(2, 4, 2, 100, 1)
    contents = PROBLEM.inputs(c, 3)
    tensors = {
        n: torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
        for n, bits in contents.items()
    }
    ours, theirs = PROBLEM.oracle(c, contents, rows), PROBLEM.oracle(c, tensors, rows)
    assert correctness.row_errors(theirs.exact, ours.exact).max() < 1e-12
    assert correctness.check_rows(theirs.honest, ours.exact, ours.honest).ok
    assert theirs.exact.dtype == theirs.honest.dtype == np.float64


@needs_torch
@pytest.mark.parametrize("name", ["torch-sdpa-bf16", "torch-sdpa-fp32"])
@pytest.mark.parametrize("causal", [0, 1])
def test_cpu_baselines_compute_attention(name, causal):
    import torch

    baseline = next(b for b in PROBLEM.baselines if b.name == name)
    assert baseline.absent() is None and baseline.device == "cpu"
    c = configuration(2, 4, 2, 200, causal)
    tensors = {
        n: torch.zeros(s.shape, dtype=torch.bfloat16)
        for n, s in zip("qkvo", PROBLEM.tensors(c), strict=True)
    }
    calls = baseline.prepare(c, tensors)
    contents = PROBLEM.inputs(c, 8)
    for n, bits in contents.items():
        tensors[n].copy_(torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16))
    if calls.refresh is not None:
        calls.refresh()
    out = calls.launch()
    assert tuple(out.shape) == PROBLEM.output(c).shape
    oracle = PROBLEM.oracle(c, contents, None)
    verdict = correctness.check_rows(
        out.double().reshape(-1, 128).numpy(), oracle.exact, oracle.honest
    )
    assert verdict.ok, verdict.reason


def test_every_baseline_is_present_or_says_what_is_missing():
    reasons = {b.name: b.absent() for b in PROBLEM.baselines}
    assert list(reasons) == [
        "torch-sdpa-bf16", "torch-sdpa-fp32", "torch-flash", "torch-cudnn", "fa3", "fa4",
    ]  # fmt: skip
    for name, module in (("fa3", "fa3_fwd_interface"), ("fa4", "flash_attn.cute")):
        if importlib.util.find_spec(module.split(".")[0]) is None:
            needed = module if HAS_TORCH else "torch"
            assert reasons[name] == f"{needed} is not installed"


# --- exact values


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("causal", [0, 1])
def test_onehot_values_leave_no_doubt_about_the_chosen_key(seed, causal):
    c = configuration(1, 2, 1, 300, causal, "onehot")
    contents = PROBLEM.inputs(c, seed)
    q, k, v = (from_bf16(contents[n]).astype(np.float64)[0] for n in "qkv")
    for head in range(2):
        scores = q[:, head] @ k[:, 0].T * problem_file.SCALE_LOG2E
        hidden = np.triu(np.ones_like(scores, dtype=bool), 1) & bool(causal)
        if causal:  # a mask that shows one key too many shows the wrong winner
            assert (np.diagonal(scores, 1) > np.where(hidden, -np.inf, scores).max(1)[:-1]).all()
        assert abs(scores).max() < 4096
        scores[hidden] = -np.inf
        ordered = np.sort(scores, axis=1)
        assert (ordered[1:, -1] - ordered[1:, -2] > 200).all()
        expected = v[scores.argmax(1), 0]
        exact = PROBLEM.oracle(c, contents, None).exact.reshape(300, 2, 128)[:, head]
        assert np.array_equal(exact, expected) and (expected != 0).all()


@pytest.mark.parametrize("seq", [1, 2, 50, 300])
def test_ramp_values_average_to_small_integers(seq):
    c = configuration(1, 2, 1, seq, 1, "ramp")
    contents = PROBLEM.inputs(c, 3)
    q, k, v = (from_bf16(contents[n]).astype(np.float64)[0] for n in "qkv")
    scores = q[:, 0] @ k[:, 0].T * problem_file.SCALE_LOG2E
    live = scores[-1] == 0
    assert live[0] and live.sum() == min(seq, 96)
    assert (scores[:, live] == 0).all() and (scores[:, ~live] < -200).all()
    exact = PROBLEM.oracle(c, contents, None).exact.reshape(seq, 2, 128)
    counts = np.cumsum(live)
    expected = np.cumsum(np.where(live[:, None], v[:, 0], 0), axis=0) / counts[:, None]
    assert np.allclose(exact[:, 0], expected, rtol=1e-12, atol=0)
    assert np.array_equal(np.rint(exact), from_bf16(to_bf16(exact))) and (abs(exact) > 0.9).all()


# --- limits: honest kernels pass


@pytest.mark.parametrize("part", range(4))
def test_honest_variants_pass(part):
    for seed in range(part * SEEDS // 4, (part + 1) * SEEDS // 4):
        c = PROBLEM.draw(random.Random(seed))
        for variant, kind, check in variants.verdicts(PROBLEM, c, seed):
            assert check.ok, f"seed {seed} {c.name} {variant} {kind}: {check.reason}"


def test_honest_variants_pass_every_fixed_point():
    for number, c in enumerate(PROBLEM.correctness("cpu")):
        contents = PROBLEM.inputs(c, number)
        name, choices = list(variants.HONEST.items())[number % len(variants.HONEST)]
        verdict = correctness.check_output(
            PROBLEM, c, contents, variants.flash(c, contents, **choices)
        )
        assert verdict.ok, f"{c.name} {name}: {verdict.reason}"


# --- limits: nothing else does


@pytest.mark.parametrize("fault", variants.FAULTS)
def test_a_seeded_fault_is_found(fault):
    """On the fixed points that every run checks, by at least one of them."""
    for number, c in enumerate(reversed(PROBLEM.correctness("cpu"))):
        contents = PROBLEM.inputs(c, number)
        bits = variants.flash(c, contents, tile=32, fault=fault)
        verdict = correctness.check_output(PROBLEM, c, contents, bits)
        if not verdict.ok:
            assert verdict.reason
            return
    pytest.fail(f"no fixed point notices {fault}")


@pytest.mark.parametrize("c", PROBLEM.correctness("cpu"), ids=lambda c: c.name)
def test_zeros_are_refused(c):
    zeros = np.zeros((PROBLEM.output(c).rows, 128), dtype=np.uint16)
    assert not correctness.check_output(PROBLEM, c, PROBLEM.inputs(c, 1), zeros).ok


@pytest.mark.parametrize("seq", [64, 256, 1024, 4096, 32768])
def test_zeros_are_refused_however_long_the_sequence(seq):
    c = configuration(1, 1, 1, seq, 0)
    rows = correctness.sample_rows(seq, seq, 16)
    oracle = PROBLEM.oracle(c, PROBLEM.inputs(c, 1), rows)
    assert not correctness.check_rows(0 * oracle.exact, oracle.exact, oracle.honest).ok


def sampled(seq, causal, values, fp8, *, count=16, share=1.0):
    """A check of a few rows of one head, as after a timed launch, with some tensors in FP8."""
    c = configuration(1, 1, 1, seq, causal, values)
    contents = PROBLEM.inputs(c, seq)
    rows = correctness.sample_rows(seq, seq, count)
    oracle = PROBLEM.oracle(c, contents, rows)
    q, k, v = (from_bf16(contents[n])[0, :, 0] for n in "qkv")
    part = np.arange(seq)[:, None] < share * seq
    q, k, v = (
        np.where(part, as_fp8(x), x) if n in fp8 else x
        for n, x in zip("qkv", (q, k, v), strict=True)
    )
    scores = (q[rows] @ k.T) * np.float32(problem_file.SCALE_LOG2E)
    if causal:
        scores[np.arange(seq) > rows[:, None]] = -np.inf
    p = np.exp2(scores - scores.max(1, keepdims=True))
    rounded = as_fp8(p) if "p" in fp8 else from_bf16(to_bf16(p))
    out = from_bf16(to_bf16(rounded @ v / p.sum(1, keepdims=True)))
    return correctness.check_rows(out, oracle.exact, oracle.honest)


def as_fp8(x):
    """e4m3, scaled so that the largest magnitude is the largest of the format: FP8 at its best."""
    scale = np.float32(448) / abs(x).max()
    x = np.float64(x * scale)
    exponent = np.maximum(np.frexp(x)[1] - 1, -6)
    return (np.rint(np.ldexp(x, 3 - exponent)) * np.ldexp(1.0, exponent - 3) / scale).astype(
        np.float32
    )


@needs_torch
def test_the_fp8_of_these_tests_is_torchs():
    import torch

    x = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    x *= 448 / abs(x).max()
    x[:100] /= 1e4
    rounded = torch.from_numpy(x).to(torch.float8_e4m3fn).float().numpy()
    assert np.array_equal(as_fp8(x), rounded)


@pytest.mark.parametrize("fp8", ["v", "p", "q", "k", "qk", "pv", "qkpv"])
@pytest.mark.parametrize("seq", [64, 256, 1024, 4096])
def test_fp8_anywhere_is_refused(seq, fp8):
    for causal in (0, 1):
        for values in ("normal", "scaled", "anticorrelated"):
            verdict = sampled(seq, causal, values, fp8)
            assert not verdict.ok, f"{seq} {causal} {values}"
            assert verdict.error_rms > 1.5 * verdict.limit_rms


@pytest.mark.parametrize("seq", [64, 256, 1024, 4096])
def test_bf16_is_not_refused_on_the_same_rows(seq):
    for causal in (0, 1):
        for values in ("normal", "scaled", "anticorrelated"):
            assert sampled(seq, causal, values, "").ok


@pytest.mark.parametrize("values", ["normal", "scaled"])
def test_fp8_for_one_key_in_fifty_is_refused_on_more_rows(values):
    verdict = sampled(4096, 0, values, "v", count=512, share=0.02)
    assert not verdict.ok and "RMS error" in verdict.reason
