# SPDX-License-Identifier: MIT
"""Candidates that go wrong, really compiled and executed: each ends in a status with a sentence."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from avo_pytest.devices.probe import find_cuda
from avo_pytest.judge import Judge, Request
from avo_pytest.score import Status

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
BAD = Path(__file__).parents[1] / "bad"
HAS_GPU = find_cuda(0)[0] is not None

CPU_MANIFEST = """
schema = 1
target = "cpu"
[compile]
source = "attention.cpp"
flags = ["-O2"]
[constants]
BAD = {bad}
[[launch]]
function = "attention_forward"
arguments = ["q", "k", "v", "o", {{ i64 = "batch" }}, {{ i64 = "seq" }}, {{ i64 = "heads" }},
             {{ i64 = "kv_heads" }}, {{ i32 = "causal" }}, "scale", "threads"]
"""
CUDA_MANIFEST = """
schema = 1
target = "sm80"
[compile]
source = "attention.cu"
[constants]
BAD = {bad}
[[launch]]
function = "attention_forward"
grid = {grid}
block = [32]
shared = {shared}
arguments = ["q", "k", "v", "o", {{ i32 = "seq" }}, {{ i32 = "heads" }}, {{ i32 = "kv_heads" }},
             {{ i32 = "causal" }}, "scale"]
"""
GRID = '["seq", "heads", "batch"]'


def judge(tmp_path: Path, target: str, manifest: str) -> tuple[Status, str]:
    """Check a candidate up to its first failure: status and reason."""
    source = "attention.cpp" if target == "cpu" else "attention.cu"
    folder = tmp_path / "candidate"
    folder.mkdir()
    shutil.copy(BAD / ("cpu" if target == "cpu" else "cuda") / source, folder)
    (folder / "kernel.toml").write_text(manifest)
    request = Request(
        root=ROOT, kernel="attention", target=target, candidate=str(folder), incumbent="none",
        baselines=(), seed=5, timeout_s=2.0, threads=2, blocks=1,
    )  # fmt: skip
    run = Judge(request, lambda *_, **__: None)
    try:
        checks = (run.correctness(name) for name in run.correctness_names())
        failed = next((c for c in checks if not c.ok), None)
    finally:
        record = run.finish()
    assert record is not None and record.samples == ()
    return (failed.status, failed.reason) if failed else (Status.OK, "")


@pytest.mark.parametrize(
    ("bad", "status", "reason"),
    [
        (1, Status.BUILD_ERROR, r"attention\.cpp.*does not compile"),
        (2, Status.TIMEOUT, r"2(\.0)? ?s"),
        (3, Status.CRASHED, "SIGSEGV"),
        (4, Status.INCORRECT, "past|canar|outside"),
        (5, Status.INCORRECT, "NaN|finite"),
        (6, Status.INCORRECT, "row"),
        (7, Status.CRASHED, "SIGSEGV"),
        (8, Status.CRASHED, "exit"),
        (9, Status.CRASHED, "SIGSEGV"),
        (10, Status.CRASHED, "SIGABRT"),
        (11, Status.INCORRECT, "row"),
        (12, Status.INCORRECT, "row"),
        (13, Status.INCORRECT, "NaN|row|finite"),
    ],
)
def test_cpu(tmp_path: Path, bad: int, status: Status, reason: str) -> None:
    outcome = judge(tmp_path, "cpu", CPU_MANIFEST.format(bad=bad))
    assert outcome[0] is status and re.search(reason, outcome[1], re.DOTALL), outcome


@pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(
    ("bad", "status", "reason", "grid", "shared"),
    [
        (1, Status.BUILD_ERROR, "does not compile", GRID, 0),
        (2, Status.TIMEOUT, r"2(\.0)? ?s", GRID, 0),
        (3, Status.CRASHED, "ADDRESS", GRID, 0),
        (4, Status.INCORRECT, "past|canar|outside", GRID, 0),
        (5, Status.INCORRECT, "NaN|finite", GRID, 0),
        (6, Status.INCORRECT, "row", GRID, 0),
        (7, Status.INCORRECT, "row", GRID, 0),
        (8, Status.BUILD_ERROR, "survive a launch", GRID, 0),
        (9, Status.CRASHED, "ADDRESS", GRID, 0),
        (11, Status.INCORRECT, "row", GRID, 0),
        (12, Status.INCORRECT, "row", GRID, 0),
        (13, Status.INCORRECT, "NaN|row|finite", GRID, 0),
        (0, Status.BUILD_ERROR, "shared", GRID, 1 << 20),
        (0, Status.BUILD_ERROR, "grid", '["seq", "heads - heads", "batch"]', 0),
        (0, Status.BUILD_ERROR, "grid", '["seq", "heads * 65536", "batch"]', 0),
    ],
)
def test_cuda(
    tmp_path: Path, bad: int, status: Status, reason: str, grid: str, shared: int
) -> None:
    manifest = CUDA_MANIFEST.format(bad=bad, grid=grid, shared=shared)
    outcome = judge(tmp_path, "sm80", manifest)
    assert outcome[0] is status and re.search(reason, outcome[1], re.DOTALL), outcome


@pytest.mark.parametrize(
    "target",
    [
        "cpu",
        pytest.param("sm80", marks=pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")),
    ],
)
def test_the_honest_control_is_correct(tmp_path: Path, target: str) -> None:
    manifest = (
        CPU_MANIFEST.format(bad=0)
        if target == "cpu"
        else CUDA_MANIFEST.format(bad=0, grid=GRID, shared=0)
    )
    assert judge(tmp_path, target, manifest) == (Status.OK, "")
