# SPDX-License-Identifier: MIT
"""How fast the CPU kernel's paths must be: against torch, against the cores, and with more cores.

    pytest -m soak -s tests/integration/test_cpu_attention_speed.py

Every figure is a median over rounds in which nothing disturbed the machine. Promised for two cores
with AVX-512 and without AMX.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from avo_pytest.build import build
from avo_pytest.devices import Arm, torch_arm
from avo_pytest.devices.cpu import CpuDevice
from avo_pytest.devices.cpu_stage import CpuStage
from avo_pytest.devices.disturbance import available_cpus
from avo_pytest.loading import load_problem
from avo_pytest.problem import Configuration

ROOT = Path(__file__).resolve().parents[2]
KERNEL = ROOT / "kernels" / "attention" / "cpu"
PROBLEM = load_problem("attention", root=ROOT)
SET = PROBLEM.throughput["cpu"]["cpu"]
THREADS = len(available_cpus())
ROUNDS, TRIES = 7, 40  # undisturbed rounds that a median needs, and how often to try

pytestmark = pytest.mark.soak
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)
AVX2_ONLY = {  # torch, its matrix library and its convolution library
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}


def variant(folder: Path, *changes: tuple[str, str]) -> Path:
    """The kernel's folder with changes to the text of its manifest."""
    shutil.copytree(KERNEL, folder)
    text = (folder / "kernel.toml").read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "kernel.toml").write_text(text)
    return folder


FP32 = ("DOT_BF16 = { value = 2", "DOT_BF16 = { value = 0")
AVX2 = ("-march=native", "-march=x86-64-v3")


@contextmanager
def cpu(tmp_path: Path, threads: int = THREADS) -> Iterator[CpuDevice]:
    device = CpuDevice(
        problem_ref="attention", root=ROOT, threads=threads, seed=bytes(32), cache=tmp_path
    )
    try:
        yield device
    finally:
        device.close()


def candidate(
    device: CpuDevice, folder: Path, tmp_path: Path, configurations: Sequence[Configuration] = SET
) -> Arm:
    built = build(folder, PROBLEM, configurations, device.facts, tmp_path)
    return Arm("candidate", "candidate", built.path)


def median_of(
    device: CpuDevice,
    c: Configuration,
    arms: Sequence[Arm],
    one: Callable[[CpuStage], float | None],
) -> float:
    """Of what `one` makes of a stage of these arms, None where something disturbed it."""
    stage = device.stage(PROBLEM, c, arms)
    found: list[float] = []
    try:
        for number in range(TRIES):
            stage.refresh(number)
            value = one(stage)
            found += [value] if value is not None and number else []  # the first is a warm-up
            if len(found) == ROUNDS:
                return statistics.median(found)
    finally:
        stage.close()
    pytest.skip(f"the machine is busy: {len(found)} of {TRIES} rounds of {c.name} were undisturbed")


def geomean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def against(device: CpuDevice, arm: Arm, baseline: str) -> float:
    """The baseline's time in units of the arm's: geomean over the set."""

    def one(stage: CpuStage) -> float | None:
        turns = [stage.launch(n, timeout_s=60) for n in (arm.name, baseline, baseline, arm.name)]
        if any(turn.disturbed for turn in turns):
            return None
        return (turns[1].ms + turns[2].ms) / (turns[0].ms + turns[3].ms)

    arms = [arm, Arm(baseline, "baseline")]
    ratios = {c.name: median_of(device, c, arms, one) for c in SET}
    print("\n", baseline, {name: round(ratio, 2) for name, ratio in ratios.items()})
    return geomean(list(ratios.values()))


def shares(device: CpuDevice, arm: Arm, mask: str) -> float:
    """The arm's rate in units of the FP32 FMA rate measured just before and after."""
    cpus = available_cpus()[:THREADS]

    def one(stage: CpuStage) -> float | None:
        before = sum(device._machine.trusted.probe(cpus, 0.02))
        turn = stage.launch(arm.name, timeout_s=60)
        after = sum(device._machine.trusted.probe(cpus, 0.02))
        if turn.disturbed or abs(before - after) > 0.05 * before:
            return None
        rate = PROBLEM.flops(stage.configuration) / turn.ms * 1e-6
        return rate / ((before + after) / 2)

    found = {c.name: median_of(device, c, [arm], one) for c in SET if c.group == mask}
    print("\n", mask, {name: round(share, 3) for name, share in found.items()})
    return geomean(list(found.values()))


@needs_torch
def test_the_shipped_kernel_against_torch(tmp_path: Path) -> None:
    with cpu(tmp_path / "cache") as device:
        arm = candidate(device, KERNEL, tmp_path)
        assert against(device, arm, "torch-sdpa-bf16") >= 1.9
        assert against(device, arm, "torch-sdpa-fp32") >= 1.2


@needs_torch
def test_avx2_against_torch_on_avx2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = torch_arm.environment
    monkeypatch.setattr(torch_arm, "environment", lambda threads: usual(threads) | AVX2_ONLY)
    with cpu(tmp_path / "cache") as device:
        arm = candidate(device, variant(tmp_path / "avx2", AVX2), tmp_path)
        assert against(device, arm, "torch-sdpa-fp32") >= 1.2


@pytest.mark.parametrize("changes", [(), (FP32,)], ids=["shipped", "fp32"])
@pytest.mark.parametrize(("mask", "least"), [("full", 0.75), ("causal", 0.65)])
def test_share_of_the_fp32_ceiling(
    tmp_path: Path, changes: tuple[tuple[str, str], ...], mask: str, least: float
) -> None:
    with cpu(tmp_path / "cache") as device:
        arm = candidate(device, variant(tmp_path / "kernel", *changes), tmp_path)
        assert shares(device, arm, mask) >= least


@pytest.mark.skipif(THREADS < 2, reason="one core only")
def test_two_threads_scale_as_the_cores_do(tmp_path: Path) -> None:
    """Of the time on one thread, relative to what the FMA rate does, side by side in each round."""
    cpus = available_cpus()[:2]
    scaling: dict[str, float] = {}
    with cpu(tmp_path / "one", 1) as one, cpu(tmp_path / "two", 2) as two:
        arms = [(d, candidate(d, KERNEL, tmp_path)) for d in (one, two)]
        probe = one._machine.trusted.probe
        for c in SET:
            opened = [device.stage(PROBLEM, c, [arm]) for device, arm in arms]
            found = []
            try:
                for number in range(3 * TRIES):
                    turns = []
                    for stage in opened if number % 2 else reversed(opened):
                        stage.refresh(number)
                        turns.append(stage.launch("candidate", timeout_s=60))
                    single, double = turns if number % 2 else reversed(turns)
                    cores = sum(probe(cpus, 0.02)) / sum(probe(cpus[:1], 0.02))
                    if number and not (single.disturbed or double.disturbed):
                        found.append(single.ms / double.ms / cores)
            finally:
                for stage in opened:
                    stage.close()
            if len(found) < ROUNDS:
                pytest.skip(f"the machine is busy: {len(found)} undisturbed rounds of {c.name}")
            scaling[c.name] = statistics.median(found)
    overall = geomean(list(scaling.values()))
    print("\n1 -> 2 threads, of the probe's scaling:", {n: round(s, 3) for n, s in scaling.items()})
    print(f"geomean {overall:.3f}")
    assert overall >= 0.97


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are read from /proc")
@pytest.mark.parametrize("rung", ["4-tiled", "shipped"])
def test_the_first_launches_of_a_process_meet_no_new_pages(tmp_path: Path, rung: str) -> None:
    """Printed for a rung that allocates in each launch, promised of the shipped kernel."""
    folder = KERNEL if rung == "shipped" else ROOT / "docs" / "lineage" / "attention-cpu" / rung
    with cpu(tmp_path / "cache") as device:
        stage = device.stage(PROBLEM, SET[0], [candidate(device, folder, tmp_path)])
        try:
            pid, found = stage._arms["candidate"].child.pid, []
            for number in range(17):
                stage.refresh(number)
                before = faults(pid)
                ms = stage.launch("candidate", timeout_s=60).ms
                found.append((PROBLEM.flops(SET[0]) / ms * 1e-6, faults(pid) - before))
        finally:
            stage.close()
    print(f"\n{rung}, {SET[0].name}, GFLOPS and page faults of launches 2 to 17:")
    print(", ".join(f"{rate:.0f} ({count})" for rate, count in found[1:]))
    assert rung != "shipped" or max(count for _, count in found[1:]) < 16


def faults(pid: int) -> int:
    """Minor page faults of a process so far (proc(5): minflt)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])
