# SPDX-License-Identifier: MIT
"""The judge's ratios against a plain event-timed torch loop of the same cadence, a minute later.

    pytest -m soak -s tests/soak/test_direct_loop.py     (needs an NVIDIA GPU)

The loop shares with the judge the compiled candidate and the order and moments of the launches, and
nothing else: torch's generator and allocator, torch's events, a launch written out here. The
moments matter: the shorter the pause, the sooner a device meets its power cap, and arms differ in
power.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from avo_pytest.build import build
from avo_pytest.devices.cuda_arguments import pack
from avo_pytest.devices.probe import find_cuda
from avo_pytest.judge import Judge, Request
from avo_pytest.loading import load_problem
from avo_pytest.plan import LaunchPlan
from avo_pytest.score import Sample
from avo_pytest.summary import summarise

ROOT = Path(__file__).resolve().parents[2]
FACTS = find_cuda(0)[0]
BLOCKS = 24  # a long configuration's turn has an sd of 3 %
CONTENTS = 2
CYCLES_PER_MS = 1.98e6  # of torch's waiting kernel, at the clock of a card that rests
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


class Direct:
    """One configuration in torch's memory: every arm on the same tensors."""

    def __init__(self, problem: Any, configuration: Any, artifact: Any) -> None:
        import torch

        self.tensors = {
            spec.name: torch.empty(spec.shape, dtype=torch.bfloat16, device="cuda")
            for spec in problem.tensors(configuration)
        }
        plan = artifact.plans[configuration.name]
        cubin = artifact.codes[plan.code].read_bytes()
        self.arms = {"candidate": candidate_launch(plan, cubin, self.tensors)}
        for baseline in problem.baselines:
            if baseline.device == "cuda" and baseline.absent() is None:
                self.arms[baseline.name] = baseline.prepare(configuration, self.tensors).launch
        names = set(self.tensors) - {problem.output(configuration).name}
        self.contents = [
            {name: torch.randn_like(self.tensors[name]) for name in names} for _ in range(CONTENTS)
        ]

    def time(self, arm: str, fresh: int, flush: Any, rest_ms: float = 0.0) -> float:
        """Milliseconds of one launch on fresh contents and a flushed cache, by torch's events."""
        import torch

        torch.cuda._sleep(int(rest_ms * CYCLES_PER_MS))
        for name, content in self.contents[fresh % CONTENTS].items():
            self.tensors[name].copy_(content)
        flush.sum()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self.arms[arm]()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))


def replay(samples: Sequence[Sample], stages: Mapping[str, Direct]) -> dict[tuple[str, str], float]:
    """Median over turns of baseline time / candidate time, by (configuration, baseline).

    The judge's launches again, each as long after the one before it as in the judge.
    """
    import torch

    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    for stage in stages.values():
        for arm in stage.arms:
            stage.time(arm, 0, flush)
    turns: dict[tuple[str, int, int], dict[str, float]] = defaultdict(dict)
    begun = time.perf_counter()
    late = 0.0
    for sample in samples:
        due = begun + late + sample.facts["at_ms"] / 1e3
        while time.perf_counter() < due:
            pass
        late += max(0.0, time.perf_counter() - due)
        ms = stages[sample.configuration].time(
            sample.arm, sample.turn, flush, sample.facts["rest_ms"]
        )
        turns[sample.configuration, sample.block, sample.turn][sample.arm] = ms
    print(f"the loop was {late:.2f} s late at the end of {time.perf_counter() - begun:.0f} s")
    ratios = defaultdict(list)
    for (configuration, *_), times in turns.items():
        for arm, ms in times.items():
            ratios[configuration, arm].append(ms / times["candidate"])
    return {key: statistics.median(r) for key, r in ratios.items() if key[1] != "candidate"}


def test_ratios_agree_with_a_direct_loop(tmp_path: Path) -> None:
    request = Request(
        root=ROOT, kernel="attention", target="sm80", incumbent="none", set="mha", blocks=BLOCKS
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
    stages = {c.name: Direct(problem, c, artifact) for c in configurations}
    wrong = []
    for (name, arm), direct in replay(record.samples, stages).items():
        judged = rows[name].ratios[arm][0]
        off = judged / direct - 1
        print(f"{name:28} {arm:12} judge {judged:.4f} direct {direct:.4f} {off:+.2%}")
        if not abs(off) <= AGREEMENT:
            wrong.append((name, arm, judged, direct))
    assert not wrong
