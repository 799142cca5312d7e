# SPDX-License-Identifier: MIT
"""The loader's threads for candidates: where they run, and that nothing escapes through them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from avo_pytest.artifact import store
from avo_pytest.devices import Arm, ArmFailed, native
from avo_pytest.devices.cpu import CpuDevice
from avo_pytest.devices.cpu_stage import CpuStage
from avo_pytest.devices.disturbance import available_cpus
from avo_pytest.loading import load_problem
from avo_pytest.plan import Argument, Launch, LaunchPlan
from avo_pytest.problem import Configuration

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux"),
]

HERE = Path(__file__).parent / "cpu_device"
ROWS = 64
CONFIGURATION = Configuration("rows64", {"rows": ROWS})
PROBLEM = load_problem("problem.py:PROBLEM", root=HERE)
CPUS = len(available_cpus())
MODES = ("census", "spy", "occupied", "late", "thrower", "endless")  # of team.cpp


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def code(cache: Path) -> Path:
    made = cache / "team.so"
    flags = ("-std=c++20", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-s")
    command = [native.compiler(), *flags, str(HERE / "team.cpp"), "-o", str(made)]
    subprocess.run(command, check=True)
    return made


@pytest.fixture(params=sorted({1, 2, CPUS}))
def device(request: pytest.FixtureRequest, cache: Path) -> Iterator[CpuDevice]:
    yield from _device(cache, request.param)


@pytest.fixture
def pair(cache: Path) -> Iterator[CpuDevice]:
    yield from _device(cache, 2)


def _device(cache: Path, threads: int) -> Iterator[CpuDevice]:
    device = CpuDevice(
        problem_ref="problem.py:PROBLEM", root=HERE, threads=threads, seed=bytes(32), cache=cache
    )
    yield device
    device.close()


@pytest.fixture
def stage(cache: Path, code: Path) -> Iterator[Callable[[CpuDevice, str], CpuStage]]:
    opened: list[CpuStage] = []

    def open_stage(device: CpuDevice, mode: str) -> CpuStage:
        arguments = (
            Argument("tensor", "x"),
            Argument("tensor", "y"),
            Argument("scalar", type="i64", value=ROWS),
            Argument("scalar", "scale", type="f32", value=2.0),
            Argument("threads", type="i32"),
            Argument("scalar", type="i32", value=MODES.index(mode)),
        )
        one = (1, 1, 1)
        launch = Launch("f", "run", one, one, None, False, False, 0, None, arguments)
        plan = LaunchPlan(CONFIGURATION.name, "default", "c", (), (), (launch,))
        description = {
            **{"kernel": "team", "target": "cpu", "arch": "x86_64", "report": {}},
            **{"hash": code.name, "plans": [asdict(plan)]},
        }
        arm = Arm(mode, "candidate", store(cache, description, {"c": code}))
        opened.append(device.stage(PROBLEM, CONFIGURATION, [arm]))
        opened[-1].refresh(1)
        return opened[-1]

    yield open_stage
    for one in opened:
        one.close()


def test_each_index_once_each_thread_on_its_core(device: CpuDevice, stage) -> None:
    opened = stage(device, "census")
    for _ in range(3):
        opened.launch("census", timeout_s=20)
    threads = device.environment()["threads"]
    times, ids, cpus, allowed = opened.bits("census").reshape(-1)[: 4 * 7].reshape(7, 4).T
    assert (times == 1).all()
    assert len(set(ids)) == min(threads, 7)
    np.testing.assert_array_equal(ids, np.resize(ids[:threads], 7))  # thread t takes t, t + T, …
    if threads == CPUS:
        assert len(set(cpus)) == min(threads, 7)
        assert (allowed == 1).all()
    else:
        assert (allowed == CPUS).all()


def test_its_threads_can_do_nothing_but_compute(pair: CpuDevice, stage) -> None:
    if pair.isolation != "child":
        pytest.skip(f"needs isolation: {pair.isolation_reason}")
    opened = stage(pair, "spy")
    opened.launch("spy", timeout_s=5)
    assert (opened.bits("spy").reshape(-1)[:8] != 0).all()


def test_their_time_counts_and_stands_still_between_launches(pair: CpuDevice, stage) -> None:
    opened = stage(pair, "occupied")
    timing = opened.launch("occupied", timeout_s=20)
    assert timing.facts["cpu_ms"] > 55  # two threads, 30 ms each
    pid = next(iter(opened._arms.values())).child.pid
    states = [path.read_text().rpartition(")")[2].split()[0] for path in _threads(pid)]
    assert states == ["T"] * 2
    before = _ticks(pid)
    time.sleep(0.05)
    assert _ticks(pid) == before


def test_one_that_never_ends_stands_still_between_launches(pair: CpuDevice, stage) -> None:
    opened = stage(pair, "endless")
    pid = next(iter(opened._arms.values())).child.pid
    for _ in range(2):  # it goes on where it stood, in the next launch
        opened.launch("endless", timeout_s=20)
        states = [path.read_text().rpartition(")")[2].split()[0] for path in _threads(pid)]
        assert states == ["T"] * 3  # the caller, the lent one, and one that lent it
        before = _ticks(pid)
        time.sleep(0.1)
        assert _ticks(pid) == before


def test_what_a_thread_writes_after_the_answer_does_not_count(pair: CpuDevice, stage) -> None:
    opened = stage(pair, "late")
    opened.launch("late", timeout_s=5)
    time.sleep(0.5)  # in which it would have written
    assert ((opened.bits("late").reshape(-1)[:64] & 0x7F81) == 0x7F81).all()  # poison


def test_nobody_leaves_while_others_work(pair: CpuDevice, stage) -> None:
    with pytest.raises(ArmFailed, match="SIGABRT"):
        stage(pair, "thrower").launch("thrower", timeout_s=5)


def test_the_ceiling_is_the_fastest_unit_and_all_are_named(pair: CpuDevice) -> None:
    ceiling = pair.ceiling()
    told = pair.observe()["ceilings_tflops"]
    assert max(told.values()) == pytest.approx(ceiling, abs=1e-4)
    assert next(iter(told)) == "FP32 FMA"
    assert min(told.values()) > 1e-4
    flags = pair.environment()["flags"]
    assert any("vdpbf16ps" in unit for unit in told) == ("avx512_bf16" in flags)


def _threads(pid: int) -> list[Path]:
    return sorted(Path(f"/proc/{pid}/task").glob("*/stat"))


def _ticks(pid: int) -> list[str]:
    return [" ".join(path.read_text().rpartition(")")[2].split()[11:13]) for path in _threads(pid)]
