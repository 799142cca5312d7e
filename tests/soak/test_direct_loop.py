# SPDX-License-Identifier: MIT
"""The judge's ratios against a plain event-timed torch loop of the same cadence, minutes apart.

    pytest -m soak -s tests/soak/test_direct_loop.py     (needs an NVIDIA GPU)

The loop shares with the judge the compiled candidate and the cadence, and nothing else: torch's
generator and allocator, torch's events, a launch written out here. The cadence matters: the more
the device works between two launches, the sooner it meets its power cap, and arms differ in power.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avo_pytest.build import build
from avo_pytest.devices.cuda_arguments import pack
from avo_pytest.devices.probe import find_cuda
from avo_pytest.judge import Judge, Request
from avo_pytest.loading import load_problem
from avo_pytest.plan import LaunchPlan
from avo_pytest.summary import summarise

ROOT = Path(__file__).resolve().parents[2]
FACTS = find_cuda(0)[0]
ROUNDS = 40
CONTENTS = 3
REFRESH_MS = 0.3  # of a gap is spent on copying contents and reading the flush buffer
AGREEMENT = 0.01

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(FACTS is None, reason="needs an NVIDIA GPU"),
]


def candidate_launch(plan: LaunchPlan, cubin: bytes, tensors: dict[str, Any]) -> Callable[[], None]:
    """A launch of a plan with tensors and scalars only, on torch's current stream."""
    import torch
    from cuda.bindings import driver

    (launch,) = plan.launches
    addresses = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    packed = [pack(argument, addresses, {}) for argument in launch.arguments]
    storage = [ctypes.create_string_buffer(data, len(data)) for data in packed]
    pointers = (ctypes.c_void_p * len(storage))(*(ctypes.addressof(s) for s in storage))
    _, library = driver.cuLibraryLoadData(cubin, [], [], 0, [], [], 0)
    _, kernel = driver.cuLibraryGetKernel(library, launch.function.encode())
    attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    driver.cuKernelSetAttribute(attribute, launch.shared_bytes, kernel, driver.CUdevice(0))
    _, function = driver.cuKernelGetFunction(kernel)
    stream = torch.cuda.current_stream().cuda_stream

    def go() -> None:
        (error,) = driver.cuLaunchKernel(
            function, *launch.grid, *launch.block, launch.shared_bytes, stream,
            ctypes.addressof(pointers), 0,
        )  # fmt: skip
        assert error == driver.CUresult.CUDA_SUCCESS
        storage[0]  # keeps the arguments alive

    return go


def direct_ratios(
    problem: Any, configuration: Any, artifact: Any, gap_ms: float
) -> dict[str, float]:
    """Median over rounds of baseline time / candidate time, with `gap_ms` between two launches."""
    import torch

    name = configuration.name
    tensors = {
        spec.name: torch.empty(spec.shape, dtype=torch.bfloat16, device="cuda")
        for spec in problem.tensors(configuration)
    }
    plan = artifact.plans[name]
    arms = {"candidate": candidate_launch(plan, artifact.codes[plan.code].read_bytes(), tensors)}
    for baseline in problem.baselines:
        if baseline.device == "cuda" and baseline.absent() is None:
            arms[baseline.name] = baseline.prepare(configuration, tensors).launch
    contents = [{n: torch.randn_like(tensors[n]) for n in "qkv"} for _ in range(CONTENTS)]
    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    logs: dict[str, list[float]] = {arm: [] for arm in arms}
    for round_ in range(ROUNDS):
        times = {}
        for arm in list(arms)[:: 1 if round_ % 2 else -1]:
            due = time.perf_counter() + (gap_ms - REFRESH_MS) / 1e3
            while time.perf_counter() < due:
                pass
            for tensor_name, fresh in contents[round_ % CONTENTS].items():
                tensors[tensor_name].copy_(fresh)
            flush.sum()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            arms[arm]()
            end.record()
            end.synchronize()
            times[arm] = start.elapsed_time(end)
        for arm, ms in times.items():
            logs[arm].append(ms / times["candidate"])
    return {arm: statistics.median(values) for arm, values in logs.items() if arm != "candidate"}


def test_ratios_agree_with_a_direct_loop(tmp_path: Path) -> None:
    request = Request(
        root=ROOT, kernel="attention", target="sm80", incumbent="none", set="mha", blocks=8
    )
    judge = Judge(request, lambda *_, **__: None)
    for name in judge.throughput_names():
        judge.throughput(name)
    record = judge.finish()
    assert record is not None and not judge.run.failure, judge.run.failure
    rows = {row.configuration: row for row in summarise(record).rows}

    problem = load_problem("attention", root=ROOT)
    configurations = problem.throughput["cuda"]["mha"]
    assert FACTS is not None
    folder = ROOT / "kernels" / "attention" / "sm80"
    artifact = build(folder, problem, configurations, FACTS, tmp_path)
    wrong = []
    for configuration in configurations:
        gaps = [s.facts["gap_ms"] for s in record.samples if s.configuration == configuration.name]
        direct = direct_ratios(problem, configuration, artifact, statistics.median(gaps))
        for arm, ratio in direct.items():
            judged = rows[configuration.name].ratios[arm][0]
            print(f"{configuration.name:28} {arm:12} judge {judged:.4f} direct {ratio:.4f}")
            if not abs(judged / ratio - 1) <= AGREEMENT:
                wrong.append((configuration.name, arm, judged, ratio))
    assert not wrong
