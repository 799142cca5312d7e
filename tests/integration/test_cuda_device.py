# SPDX-License-Identifier: MIT
"""The CUDA device against a real GPU: contents, fingerprints, guards, plans, failures, timing.

Faults and hangs lose a context, so each happens in a process of its own: this file is its script.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ctypes import c_int, c_void_p
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avo_pytest import inputs
from avo_pytest.devices import Arm, ArmFailed
from avo_pytest.devices.cuda_occupancy import ask_driver
from avo_pytest.devices.probe import find_cuda
from avo_pytest.fingerprints import fingerprint
from avo_pytest.plan import Argument, Launch, LaunchPlan, TensorMap, Workspace
from avo_pytest.problem import Baseline, BaselineCalls, Configuration, Problem, TensorSpec

FACTS, _, REASON = find_cuda()
SEED = bytes(range(32))
HERE = Path(__file__)
pytestmark = pytest.mark.skipif(FACTS is None, reason=f"needs an NVIDIA GPU: {REASON}")
hopper = pytest.mark.skipif(
    FACTS is None or int(FACTS.arch[3:]) < 90, reason="needs a GPU of compute capability 9.0"
)


def tensors(c: Configuration) -> tuple[TensorSpec, ...]:
    shape = (c["rows"], c["width"])
    return TensorSpec("a", shape, "bf16", "input"), TensorSpec("o", shape, "bf16", "output")


def doubled(_: Configuration, views: Any) -> BaselineCalls:
    return BaselineCalls(lambda: (views["a"].float() * 2).T.contiguous().T)


PROBLEM = Problem(
    name="copy",
    symbols=("rows", "width"),
    specialisable=(),
    tensors=tensors,
    scalars=lambda c: {},
    flops=lambda c: 0.0,
    throughput={},
    correctness=lambda kind: (),
    draw=lambda random, base: configuration(8),
    inputs=lambda c, seed: {},
    oracle=lambda c, given, rows: None,  # type: ignore[arg-type, return-value]
    baselines=(Baseline("double", "bf16", "cuda", lambda: None, doubled),),
    input_scale=lambda c: {"a": 0.5},
)


def configuration(rows: int, width: int = 128) -> Configuration:
    return Configuration(f"r{rows}-w{width}", {"rows": rows, "width": width})


@cache
def cubin() -> bytes:
    from cuda.core import Program, ProgramOptions

    assert FACTS is not None
    source = HERE.with_name("cuda_kernels.cu").read_text()
    options = ProgramOptions(std="c++17", arch=FACTS.arch)
    return bytes(Program(source, "c++", options).compile("cubin").code)


def i32(value: int) -> Argument:
    return Argument("scalar", "", "i32", value)


def launch(function: str, *arguments: Argument | str, **changes: Any) -> Launch:
    named = tuple(Argument("tensor", a) if isinstance(a, str) else a for a in arguments)
    plain = Launch(
        function=function,
        phase="run",
        grid=(64, 1, 1),
        block=(128, 1, 1),
        cluster=None,
        cooperative=False,
        programmatic=False,
        shared_bytes=0,
        carveout_percent=None,
        arguments=named,
    )
    return replace(plain, **changes)


def plan(*launches: Launch, **parts: Any) -> LaunchPlan:
    return LaunchPlan(
        configuration="",
        variant="default",
        code="",
        workspaces=parts.get("workspaces", ()),
        tensor_maps=parts.get("tensor_maps", ()),
        launches=launches,
    )


def new_device() -> Any:
    from avo_pytest.devices.cuda import CudaDevice

    return CudaDevice(0, seed=SEED)


Stages = Callable[..., Any]


def open_stage(device: Any, c: Configuration, **plans: LaunchPlan | None) -> Any:
    from avo_pytest.devices.cuda_stage import Planned

    arms = [
        Planned(Arm(name, "candidate" if p else "baseline"), p, cubin() if p else b"")
        for name, p in plans.items()
    ]
    return device.stage_planned(PROBLEM, c, arms)


@pytest.fixture(scope="module")
def device() -> Iterator[Any]:
    found = new_device()
    yield found
    found.close()
    found.close()


@pytest.fixture
def stages(device: Any) -> Iterator[Stages]:
    opened: list[Any] = []

    def stage(c: Configuration, **plans: LaunchPlan | None) -> Any:
        opened.append(open_stage(device, c, **plans))
        return opened[-1]

    yield stage
    for one in opened:
        one.close()
        one.close()


def run(stage: Any, arm: str = "x") -> Any:
    stage.refresh(7)
    stage.launch(arm, timeout_s=10)
    return stage.bits(arm)


def expected(c: Configuration, key: int = 7) -> Any:
    return inputs.fill(tensors(c)[0], SEED, key, 0.5)


def poisoned(bits: Any) -> Any:
    return (bits & 0x7F81) == 0x7F81


COPY = ("copy", "a", "o")


def copy_plan(c: Configuration) -> LaunchPlan:
    return plan(launch(*COPY, i32(c["rows"] * c["width"])))


@pytest.mark.parametrize("rows,width", [(1, 1), (3, 5), (7, 130), (64, 128), (4099, 128)])
def test_refreshed_contents_are_those_of_the_definition(
    stages: Stages, rows: int, width: int
) -> None:
    c = configuration(rows, width)
    stage = stages(c, x=copy_plan(c))
    for key in (0, 7, 2**62):
        stage.refresh(key)
        stage.launch("x", timeout_s=10)
        assert np.array_equal(stage.bits("x"), expected(c, key))
    assert stage.damage("x") is None


@pytest.mark.parametrize("rows,width", [(1, 1), (5, 7), (9, 64), (33, 130), (257, 128), (40, 512)])
def test_fingerprints_are_those_of_the_definition(stages: Stages, rows: int, width: int) -> None:
    c = configuration(rows, width)
    stage = stages(c, x=copy_plan(c))
    contents = inputs.fill(tensors(c)[0], SEED, 1).reshape(rows, width)
    contents[rows // 2, width // 2] = 0x7F80 if rows % 2 else 0x7FC1  # an infinity or a NaN
    stage.write({"a": contents})
    stage.launch("x", timeout_s=10)
    for secret in (0, 1, 2**64 - 1):
        found = stage.fingerprint("x", secret)
        assert np.array_equal(found, fingerprint(contents, secret), equal_nan=True)


def test_unwritten_rows_stay_poisoned_with_a_fresh_pattern(stages: Stages) -> None:
    c = configuration(32)
    stage = stages(c, x=plan(launch(*COPY, i32(31 * 128))))
    patterns = set()
    for _ in range(8):
        bits = run(stage)
        assert not poisoned(bits[:31]).any() and poisoned(bits[31]).all()
        patterns.add(int(bits[31, 0]))
    assert len(patterns) > 1
    assert np.isnan(stage.rows("x", [31])).all() and not np.isnan(stage.rows("x", [0, 30])).any()
    assert np.isnan(stage.fingerprint("x", 1)[31]).all()


def test_rows_one_by_one_and_all_at_once_agree(stages: Stages) -> None:
    c = configuration(2000)
    stage = stages(c, x=copy_plan(c))
    bits = run(stage)
    few, many = np.array([3, 1999, 0]), np.arange(1000) * 2
    for rows in (few, many):
        assert np.array_equal(stage.rows("x", rows), inputs.from_bf16(bits[rows]).astype(float))


def test_another_arms_output_and_scratch_are_gone(stages: Stages) -> None:
    c = configuration(16)
    n = i32(16 * 128)
    scratch = Workspace("w", "scratch", 16 * 256)
    into_scratch = launch("copy", "a", Argument("workspace", "w"), n)
    keeps = plan(into_scratch, launch(*COPY, n), workspaces=(scratch,))
    stage = stages(c, x=keeps, y=plan(launch("copy", "a", "o", i32(0))))
    assert not poisoned(run(stage, "x")).any()
    run(stage, "y")
    assert poisoned(stage.bits("x")).all()


@pytest.mark.parametrize(
    "element,where", [(15 * 128, "after the end of o"), (-1, "before the start of o")]
)
def test_a_write_next_to_the_output_breaks_a_canary(
    stages: Stages, element: int, where: str
) -> None:
    c = configuration(15)  # ends short of an alignment of 1024 bytes
    at = Argument("scalar", "", "i64", element)
    stage = stages(c, x=plan(launch("write_at", "a", "o", i32(15 * 128), at)), y=copy_plan(c))
    assert np.array_equal(run(stage, "x"), expected(c))
    damage = stage.damage("x")
    assert damage is not None and where in damage
    run(stage, "y")
    assert stage.damage("y") is None


@pytest.mark.parametrize("guard_pages", [True, False])
def test_canaries_notice_single_bytes_with_and_without_guard_pages(
    device: Any, guard_pages: bool
) -> None:
    from avo_pytest.devices.cuda_memory import Canaries, Memory

    gpu = device._gpu
    memory = Memory(0, guard_pages=guard_pages)
    assert memory.guard.startswith("unmapped pages" if guard_pages else "canaries only")
    buffers = [memory.allocate(f"b{size}", size) for size in (1, 1000, 5000, (3 << 20) - 24)]
    canaries = Canaries(gpu.trusted, buffers)
    for one in buffers:
        assert one.address % 1024 == 0
        gpu.context.fill(one.address, one.bytes, 0)
        assert canaries.damage() is None
        seen = np.empty(1, np.uint8)
        for where, at in (("before the start", -1), ("after the end", one.bytes)):
            gpu.context.to_host(seen, one.address + at)
            gpu.context.to_device(one.address + at, seen ^ np.uint8(4))
            damage = f"wrote outside its buffers: 1 of the bytes {where} of {one.name}"
            assert canaries.damage() == damage
    for one in buffers:
        one.free()


def test_arguments_arrive_with_their_types(stages: Stages) -> None:
    c = configuration(1, 64)
    for divisor in (1, 3, 7, 641, 2**31 + 1, 2**32 - 1):
        values = (
            i32(-5),
            Argument("scalar", "", "u32", 2**32 - 2),
            Argument("scalar", "", "i64", -(2**40)),
            Argument("scalar", "", "f32", 0.25),
            Argument("fastdiv", "", None, divisor),
        )
        stage = stages(c, x=plan(launch("scalars", "o", *values, grid=(1, 1, 1), block=(1, 1, 1))))
        words = run(stage).view(np.uint32)[0].tolist()
        whole = -(2**40) % 2**64
        assert words[:5] == [2**32 - 5, 2**32 - 2, whole % 2**32, whole >> 32, 0x3E800000]
        numbers = (0, 1, divisor - 1, divisor, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
        assert words[5:14] == [*(n // divisor for n in numbers), divisor]


WORKSPACES = (
    Workspace("scratch", "scratch", 4000),
    Workspace("counter", "zeroed", 4000),
    Workspace("table", "restored", 4000),
)


def workspace_plan(tamper: int) -> LaunchPlan:
    table = Argument("workspace", "table")
    setup = launch("fill_table", table, i32(1000), phase="setup")
    names = (Argument("workspace", w.name) for w in WORKSPACES)
    main = launch(
        "with_workspaces", "a", "o", i32(4 * 128), *names, i32(1000), i32(tamper), grid=(1, 1, 1)
    )
    return plan(setup, main, workspaces=WORKSPACES)


def test_workspaces_are_as_promised_at_every_launch(stages: Stages) -> None:
    c = configuration(4)
    stage = stages(c, x=workspace_plan(0))
    for _ in range(3):
        assert np.array_equal(run(stage), expected(c))
        assert stage.damage("x") is None
    assert stage.launch("x", timeout_s=10).facts["setup_ms"] > 0


def test_a_changed_restored_workspace_is_damage(stages: Stages) -> None:
    c = configuration(4)
    stage = stages(c, x=workspace_plan(1))
    assert np.array_equal(run(stage), expected(c))
    assert "restored workspace 'table'" in stage.damage("x")


def test_shared_memory_does_not_survive_a_launch(device: Any, stages: Stages) -> None:
    c = configuration(1, 64)
    size = device.facts.smem_optin // 2 // 4096 * 4096
    arguments = ("o", Argument("scalar", "", "u32", 0x51A7E), i32(size // 4))
    shape = {"grid": (device.facts.num_sms, 1, 1), "shared_bytes": size}
    leave = plan(launch("shared_state", *arguments, i32(1), **shape))
    look = plan(launch("shared_state", *arguments, i32(0), **shape))
    stage = stages(c, leave=leave, look=look)
    for _ in range(3):
        run(stage, "leave")
        words = run(stage, "look").view(np.uint32)[0]
        assert words[0] == 0 and words[1] != 1


def refusal(stages: Stages, *launches: Launch, **parts: Any) -> ArmFailed:
    with pytest.raises(ArmFailed) as caught:
        stage = stages(configuration(8), x=plan(*launches, **parts))
        run(stage)
    failed = caught.value
    assert (failed.arm, failed.status, failed.fatal) == ("x", "launch_error", False)
    assert "r8-w128" in failed.reason
    return failed


def test_refused_launches_name_what_was_asked_and_the_limit(device: Any, stages: Stages) -> None:
    n, optin = i32(1024), device.facts.smem_optin
    whole = (device.facts.num_sms * 100, 1, 1)
    cases = {
        f"the limit is {optin}": launch("large_static", "o", shared_bytes=optin),
        "8192 static": launch("large_static", "o", shared_bytes=optin),
        "2048 threads": launch(*COPY, n, block=(2048, 1, 1)),
        "x must be 1 to": launch(*COPY, n, grid=(0, 1, 1)),
        "y must be 1 to 65535": launch(*COPY, n, grid=(1, 65536, 1)),
        "does not divide": launch(*COPY, n, grid=(3, 1, 1), cluster=(2, 1, 1)),
        "no kernel 'nothing'": launch("nothing", "a", "o", n),
        "argument 3 (scalar) has 8 bytes": launch(*COPY, Argument("scalar", "", "i64", 1)),
        "takes more than 2 arguments": launch(*COPY),
        "takes fewer than 4 arguments": launch(*COPY, n, n),
        "no tensor 'b'": launch("copy", "a", "b", n),
        "no threads argument": launch("copy", "a", "o", Argument("threads")),
        "COOPERATIVE_LAUNCH_TOO_LARGE": launch(*COPY, n, cooperative=True, grid=whole),
        "cannot be programmatic": launch(*COPY, n, programmatic=True),
        "bytes of device memory": launch(*COPY, n),
    }
    for sentence, one in cases.items():
        huge = (Workspace("w", "scratch", 2**50),) if "memory" in sentence else ()
        assert sentence in refusal(stages, one, workspaces=huge).reason
    c = configuration(8)
    assert np.array_equal(run(stages(c, x=copy_plan(c))), expected(c))  # the context is well


def test_a_setup_launch_sees_no_tensor(stages: Stages) -> None:
    table = Workspace("table", "restored", 4096)
    spy = launch("remember", "a", Argument("workspace", "table"), phase="setup")
    failed = refusal(stages, spy, launch(*COPY, i32(1024)), workspaces=(table,))
    assert "a setup launch takes no tensor" in failed.reason


def test_a_cooperative_launch_with_a_carveout(stages: Stages) -> None:
    c = configuration(8)
    one = launch(*COPY, i32(1024), cooperative=True, carveout_percent=100)
    assert np.array_equal(run(stages(c, x=plan(one))), expected(c))


def map_of_a(rows: int, **changes: Any) -> TensorMap:
    plain = TensorMap(
        name="m",
        source="a",
        dtype="bf16",
        offset_bytes=0,
        dims=(128, rows),
        strides_bytes=(256,),
        box=(64, 8),
        element_strides=(1, 1),
        swizzle=128,
        interleave=0,
        l2_promotion=256,
        oob_fill="zero",
    )
    return replace(plain, **changes)


@hopper
def test_a_tensor_map_with_a_cluster(stages: Stages) -> None:
    c = configuration(64)
    arguments = (Argument("tensor_map", "m"), "o", i32(128))
    one = launch("tma_copy", *arguments, grid=(2, 8, 1), cluster=(2, 1, 1), shared_bytes=2048)
    stage = stages(c, x=plan(one, tensor_maps=(map_of_a(64),)))
    assert np.array_equal(run(stage), expected(c))
    wide = map_of_a(8, box=(128, 8))  # an inner box of 256 bytes does not fit the swizzle
    assert "tensor map 'm'" in refusal(stages, one, tensor_maps=(wide,)).reason


@hopper
def test_a_programmatic_second_launch(stages: Stages) -> None:
    c = configuration(4096)
    n, middle = i32(4096 * 128), Argument("workspace", "middle")
    scratch = Workspace("middle", "scratch", 4096 * 256)
    launches = (
        launch("first_half", "a", middle, n),
        launch("second_half", middle, "o", n, programmatic=True),
    )
    stage = stages(c, x=plan(*launches, workspaces=(scratch,)))
    for _ in range(20):
        assert np.array_equal(run(stage), expected(c))


def test_a_torch_baseline_and_the_oracles_inputs(device: Any, stages: Stages) -> None:
    torch = pytest.importorskip("torch", reason="baselines need torch")
    c = configuration(300)
    stage = stages(c, x=copy_plan(c), double=None)
    for _ in range(3):
        bits = run(stage, "double")
        twice = 2 * inputs.from_bf16(expected(c))
        assert np.array_equal(inputs.from_bf16(bits), twice)
        view = stage.oracle_inputs()["a"]
        assert view.dtype == torch.bfloat16 and view.is_cuda
        assert np.array_equal(view.view(torch.int16).cpu().numpy().view(np.uint16), expected(c))
        run(stage, "x")  # contents that the oracle has seen: torch's cache is emptied before
        assert poisoned(stage.bits("double")).all()
        assert torch.cuda.memory_reserved() == torch.cuda.memory_allocated()
    assert device.ceiling() > 1


def test_launches_end_up_undisturbed_and_the_clocks_agree(stages: Stages) -> None:
    c = configuration(8)
    stage = stages(c, x=copy_plan(c))
    timings = []
    for _ in range(20):
        stage.refresh(1)
        timings.append(stage.launch("x", timeout_s=10))
    assert all(t.disturbed is None for t in timings[5:])
    assert all(0 < t.ms <= t.host_ms for t in timings)
    assert all(100 < t.facts["sm_mhz"] < 4000 for t in timings)


def bare_clock(rounds: int) -> Iterator[float]:
    """The spin kernel timed by nothing but two events behind a memset."""
    from avo_pytest.devices.cuda_driver import call, driver

    library = call(driver.cuLibraryLoadData(cubin(), [], [], 0, [], [], 0))
    kernel = call(driver.cuKernelGetFunction(call(driver.cuLibraryGetKernel(library, b"spin"))))
    memory = call(driver.cuMemAlloc(1 << 28))
    start, end = (call(driver.cuEventCreate(0)) for _ in range(2))
    values = ((int(memory), 1024, rounds), (c_void_p, c_int, c_int))
    while True:
        call(driver.cuMemsetD32Async(memory, 1, 1 << 26, 0))
        call(driver.cuEventRecord(start, 0))
        call(driver.cuLaunchKernel(kernel, 264, 1, 1, 256, 1, 1, 0, 0, values, 0))
        call(driver.cuEventRecord(end, 0))
        call(driver.cuEventSynchronize(end))
        yield float(call(driver.cuEventElapsedTime(start, end)))


def test_times_agree_with_two_bare_events(stages: Stages) -> None:
    rounds = 200_000
    spin = launch("spin", "o", i32(1024), i32(rounds), grid=(264, 1, 1), block=(256, 1, 1))
    stage = stages(configuration(8), x=plan(spin))
    clock = bare_clock(rounds)
    staged, bare = [], []
    for _ in range(15):
        stage.refresh(1)
        staged.append(stage.launch("x", timeout_s=10).ms)
        bare.append(next(clock))
    assert math.isclose(statistics.median(staged), statistics.median(bare), rel_tol=0.01)


def test_the_stamped_clock_and_the_events_agree(stages: Stages) -> None:
    cycles = 3_000_000
    one = launch("wait_cycles", Argument("scalar", "", "i64", cycles), grid=(1, 1, 1))
    stage = stages(configuration(8), x=plan(one))
    for _ in range(3):  # the first may be host-bound
        stage.refresh(1)
        timing = stage.launch("x", timeout_s=10)
    assert math.isclose(timing.facts["sm_mhz"] * timing.ms * 1e3, cycles, rel_tol=0.02)


def test_the_driver_is_asked_for_occupancy(device: Any, tmp_path: Path) -> None:
    code = tmp_path / "code.cubin"
    code.write_bytes(cubin())
    ask = ask_driver()
    half = device.facts.smem_optin // 2
    one = launch("large_static", block=(64, 1, 1), shared_bytes=half)
    assert ask("max_active_blocks", code, one) == 1  # its static memory makes it more than half
    assert ask("max_active_blocks", code, replace(one, shared_bytes=0)) > 1
    with pytest.raises(RuntimeError, match="no kernel 'nothing'"):
        ask("max_active_blocks", code, replace(one, function="nothing"))
    if int(device.facts.arch[3:]) >= 90:
        pairs = ask("max_active_clusters", code, replace(one, cluster=(2, 1, 1)))
        assert 0 < pairs <= device.facts.num_sms // 2


def test_readings_and_environment(device: Any) -> None:
    environment = device.environment()
    json.dumps(environment, allow_nan=False)
    assert environment["isolation"] == "device-only" and environment["arch"] == device.facts.arch
    observed = device.observe()
    json.dumps(observed, allow_nan=False)
    assert observed["foreign_processes"] == []
    assert device.facts == FACTS


def scenario(name: str) -> None:
    """Runs in a process of its own; prints how the launch failed."""
    c = configuration(8)
    element = Argument("scalar", "", "i64", 1 << 19)  # in the unmapped page behind the output
    launches = {
        "fault": launch("write_at", "a", "o", i32(8 * 128), element),
        "hang": launch("hang", grid=(1, 1, 1)),
    }
    device = new_device()
    stage: Any = None
    try:
        stage = open_stage(device, c, x=plan(launches[name], launch(*COPY, i32(1024))))
        stage.refresh(1)
        stage.launch("x", timeout_s=2)
    except ArmFailed as failed:
        report = {"status": failed.status, "fatal": failed.fatal, "reason": failed.reason}
        print(json.dumps(report), flush=True)
    if stage is not None:
        stage.close()
    device.close()


@pytest.mark.parametrize(
    "name,status,sentence",
    [
        ("fault", "crashed", "CUDA_ERROR_ILLEGAL_ADDRESS"),
        ("hang", "timeout", "no result after 2 s"),
    ],
)
def test_a_lost_context_is_fatal_and_the_process_ends(
    name: str, status: str, sentence: str
) -> None:
    begun = time.monotonic()
    ended = subprocess.run(
        [sys.executable, str(HERE), name], capture_output=True, text=True, timeout=60
    )
    assert ended.stdout, ended.stderr
    report = json.loads(ended.stdout)
    assert (report["status"], report["fatal"]) == (status, True)
    assert sentence in report["reason"]
    assert time.monotonic() - begun < 40


if __name__ == "__main__":
    scenario(sys.argv[1])
