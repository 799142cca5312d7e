# SPDX-License-Identifier: MIT
"""The CPU device with real processes: honest, broken and cheating candidates, torch baselines."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from avo_pytest import fingerprints, inputs
from avo_pytest.artifact import store
from avo_pytest.devices import Arm, ArmFailed, native
from avo_pytest.devices.cpu import CpuDevice
from avo_pytest.devices.cpu_stage import CpuStage
from avo_pytest.devices.disturbance import available_cpus, cpu_times
from avo_pytest.loading import load_problem
from avo_pytest.plan import Argument, Launch, LaunchPlan, Workspace
from avo_pytest.problem import Configuration, TensorSpec

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux"),
]

HERE = Path(__file__).parent / "cpu_device"
ROWS = 1001  # does not fill its last page, so that there is room for a canary
CONFIGURATION = Configuration("rows1001", {"rows": ROWS})
PROBLEM = load_problem("problem.py:PROBLEM", root=HERE)
SEED = bytes(range(32))

# The modes of candidate.cpp, in its order, and the attempts of its spy.
MODES = (
    *("honest", "crash", "hang", "write-input", "past-end", "far-past-end", "half", "spy"),
    *("ordinary", "late", "forever", "answer-twice", "exit", "abort", "busy", "workspace"),
)
ATTEMPTS = (
    *("open in a constructor", "socket in a constructor", "open /etc/passwd", "open /proc"),
    *("create a file", "open for writing", "TCP socket", "UNIX socket", "fork", "execve", "ptrace"),
    *("signal the parent", "signal itself by kill", "memfd_create", "sched_setaffinity"),
    *("setpriority", "PR_SET_DUMPABLE", "PR_SET_PDEATHSIG", "perf_event_open", "io_uring_setup"),
    *("process_vm_readv", "shmget", "prlimit of the parent", "unshare", "unprotect an input"),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def code(cache: Path) -> Path:
    """candidate.cpp, compiled."""
    made = cache / "candidate.so"
    flags = ("-std=c++17", "-O2", "-shared", "-fPIC", "-pthread")
    command = [native.compiler(), *flags, str(HERE / "candidate.cpp"), "-o", str(made)]
    subprocess.run(command, check=True)
    return made


@pytest.fixture(scope="module")
def device(cache: Path) -> Iterator[CpuDevice]:
    device = CpuDevice(
        problem_ref="problem.py:PROBLEM", root=HERE, threads=2, seed=SEED, cache=cache
    )
    yield device
    device.close()


class Bench:
    """Stages candidates by mode and closes everything."""

    def __init__(self, device: CpuDevice, cache: Path, code: Path) -> None:
        self.device, self._cache, self._code = device, cache, code
        self._stages: list[CpuStage] = []

    def artifact(self, mode: str, *workspaces: Workspace, code: Path | None = None) -> Path:
        arguments = (
            Argument("tensor", "x"),
            Argument("tensor", "y"),
            Argument("scalar", type="i64", value=ROWS),
            Argument("scalar", "scale", type="f32", value=2.0),
            Argument("threads", type="i32"),
            Argument("scalar", type="i32", value=MODES.index(mode)),
            *(Argument("workspace", workspace.name) for workspace in workspaces),
        )
        one = (1, 1, 1)
        launch = Launch("f", "run", one, one, None, False, False, 0, None, arguments)
        plan = LaunchPlan(CONFIGURATION.name, "default", "c", workspaces, (), (launch,))
        code = code or self._code
        description = {
            **{"kernel": "double", "target": "cpu", "arch": "x86_64", "report": {}},
            **{"hash": code.name, "plans": [asdict(plan)]},
        }
        return store(self._cache, description, {"c": code})

    def stage(self, *modes: str) -> CpuStage:
        """One arm for each mode, named after it; those that begin with torch are baselines."""
        return self.stage_arms(
            Arm(mode, "baseline")
            if mode.startswith("torch")
            else Arm(mode, "candidate", self.artifact(mode))
            for mode in modes
        )

    def stage_arms(self, arms: Iterator[Arm] | list[Arm]) -> CpuStage:
        stage = self.device.stage(PROBLEM, CONFIGURATION, list(arms))
        self._stages.append(stage)
        stage.refresh(1)
        return stage

    def close(self) -> None:
        for stage in self._stages:
            stage.close()


@pytest.fixture
def bench(device: CpuDevice, cache: Path, code: Path) -> Iterator[Bench]:
    bench = Bench(device, cache, code)
    yield bench
    bench.close()


def expected(key: int) -> np.ndarray:
    """The right output for a key: bf16 patterns doubled, which is exact."""
    x = inputs.from_bf16(inputs.fill(PROBLEM.tensors(CONFIGURATION)[0], SEED, key, 3.0))
    return inputs.to_bf16(2 * x)


def is_poison(bits: np.ndarray) -> np.ndarray:
    return (bits & 0x7F81) == 0x7F81


def own_cpu_ns() -> int:
    """CPU time so far of all children of this process."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    times = cpu_times()
    return sum(times.get(int(pid), 0) for pid in children)


def test_an_honest_candidate_and_a_baseline_agree(bench: Bench) -> None:
    stage = bench.stage("honest", "torch")
    for key in (1, 2, 3):
        for arm in ("honest", "torch"):
            stage.refresh(key)
            timing = stage.launch(arm, timeout_s=20)
            assert 0 < timing.ms < 20_000
            assert timing.facts["cpu_ms"] > 0
            assert timing.facts["probe_before"] > 0
            np.testing.assert_array_equal(stage.bits(arm), expected(key), strict=True)
            assert stage.damage(arm) is None


def test_one_baseline_process_serves_all_stages(bench: Bench) -> None:
    first, second = bench.stage("torch"), bench.stage("torch")
    first.refresh(5)
    second.refresh(6)
    for stage, key in ((second, 6), (first, 5)):
        stage.launch("torch", timeout_s=20)
        np.testing.assert_array_equal(stage.bits("torch"), expected(key))
    second.close()
    first.launch("torch", timeout_s=20)


def test_a_failing_baseline_says_why(bench: Bench) -> None:
    stage = bench.stage("torch-failing")
    with pytest.raises(ArmFailed, match="no kernel for these rows") as failure:
        stage.launch("torch-failing", timeout_s=20)
    assert failure.value.status == "crashed"
    with pytest.raises(ArmFailed, match="not on this CPU"):
        bench.stage("torch-absent")


def test_given_contents_rows_and_fingerprint(bench: Bench) -> None:
    stage = bench.stage("honest")
    x = inputs.to_bf16(np.random.default_rng(0).normal(size=(ROWS, 128)))
    x[7, 5] = 0x7FC0  # NaN
    stage.write({"x": x})
    np.testing.assert_array_equal(stage.oracle_inputs()["x"], x)
    stage.launch("honest", timeout_s=5)
    y = 2 * inputs.from_bf16(x).astype(np.float64)
    rows = np.array([3, 999, 7])
    np.testing.assert_array_equal(stage.rows("honest", rows), y[rows])
    secret = 0xDEADBEEFCAFEF00D
    fingerprint = stage.fingerprint("honest", secret)
    assert fingerprint.dtype == np.float32
    assert np.isnan(fingerprint[7]).all()
    definition = fingerprints.fingerprint(stage.bits("honest"), secret)
    np.testing.assert_allclose(fingerprint, definition, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("elements", [1, 3, 4, 257, 99_999])
def test_fast_inputs_are_bitwise_those_of_the_definition(elements: int, cache: Path) -> None:
    spec = TensorSpec("x", (elements,), "bf16", "input")
    out = np.full(elements + 4, 0xAAAA, dtype=np.uint16)
    trusted = native.Trusted(cache, threads=3)
    trusted.fill(out[:elements], inputs.base(SEED, 9, "x"), inputs.table(0.5))
    np.testing.assert_array_equal(out[:elements], inputs.fill(spec, SEED, 9, 0.5))
    assert (out[elements:] == 0xAAAA).all()


@pytest.mark.parametrize(
    ("mode", "status", "reason"),
    [
        ("crash", "crashed", "SIGSEGV"),
        ("abort", "crashed", "SIGABRT"),
        ("write-input", "crashed", "SIGSEGV"),
        ("far-past-end", "crashed", "SIGSEGV"),
        ("exit", "crashed", "exit status 0"),
        ("hang", "timeout", "0.3 s"),
    ],
)
def test_broken_candidates_fail_alone(bench: Bench, mode: str, status: str, reason: str) -> None:
    stage = bench.stage(mode, "honest")
    before = stage.oracle_inputs()["x"].copy()
    with pytest.raises(ArmFailed, match=reason) as failure:
        stage.launch(mode, timeout_s=0.3)
    assert failure.value.arm == mode
    assert failure.value.status == status
    assert not failure.value.fatal
    assert CONFIGURATION.name in failure.value.reason
    with pytest.raises(ArmFailed, match="not running"):
        stage.launch(mode, timeout_s=0.3)
    np.testing.assert_array_equal(stage.oracle_inputs()["x"], before)
    stage.launch("honest", timeout_s=5)
    np.testing.assert_array_equal(stage.bits("honest"), expected(1))


def test_a_new_stage_starts_a_dead_arm_again(bench: Bench) -> None:
    for _ in range(2):
        stage = bench.stage("crash")
        with pytest.raises(ArmFailed, match="SIGSEGV"):
            stage.launch("crash", timeout_s=5)


def test_unwritten_rows_hold_fresh_poison(bench: Bench) -> None:
    stage = bench.stage("half")
    seen = set()
    for _ in range(8):
        stage.launch("half", timeout_s=5)
        bits = stage.bits("half")
        np.testing.assert_array_equal(bits[: ROWS // 2], expected(1)[: ROWS // 2])
        rest = bits[ROWS // 2 :]
        assert is_poison(rest).all()
        assert np.isnan(stage.rows("half", np.array([ROWS - 1]))).all()
        seen.add(int(rest[0, 0]))
    assert len(seen) > 2


def test_writing_past_the_end_is_damage(bench: Bench) -> None:
    stage = bench.stage("past-end")
    for _ in range(2):
        stage.launch("past-end", timeout_s=5)
        damage = stage.damage("past-end")
        assert damage is not None
        assert "past the end of y" in damage


def test_a_candidate_can_do_nothing_but_compute(bench: Bench) -> None:
    if bench.device.isolation != "child":
        pytest.skip(f"needs isolation: {bench.device.isolation_reason}")
    stage = bench.stage("spy")
    stage.launch("spy", timeout_s=5)
    lanes = [int(value) for value in stage.bits("spy").reshape(-1)[: len(ATTEMPTS) + 2]]
    succeeded = [what for what, errno in zip(ATTEMPTS, lanes, strict=False) if errno == 0]
    assert succeeded == []
    environment, descriptors = lanes[len(ATTEMPTS) :]
    assert environment == 0
    assert descriptors == 0
    assert not Path("/tmp/avo-candidate").exists()


def test_honest_code_gets_what_it_needs(bench: Bench) -> None:
    stage = bench.stage("ordinary")
    stage.launch("ordinary", timeout_s=5)
    assert stage.bits("ordinary")[0, 0] == 0


def test_work_after_done_does_not_count(bench: Bench) -> None:
    stage = bench.stage("late", "honest")
    stage.launch("late", timeout_s=5)
    time.sleep(0.05)
    stage.launch("honest", timeout_s=5)
    assert is_poison(stage.bits("late")).all()


def test_arms_stand_still_unless_launched(bench: Bench) -> None:
    stage = bench.stage("forever", "honest", "torch")
    for arm in ("forever", "torch", "honest"):
        stage.launch(arm, timeout_s=20)
    before = own_cpu_ns()
    time.sleep(0.1)
    assert own_cpu_ns() == before
    stage.launch("forever", timeout_s=5)
    first = stage.bits("forever")
    time.sleep(0.02)
    np.testing.assert_array_equal(stage.bits("forever"), first)


def test_answering_out_of_turn_is_refused(bench: Bench) -> None:
    stage = bench.stage("answer-twice")
    stage.launch("answer-twice", timeout_s=5)
    assert is_poison(stage.bits("answer-twice")).all()
    with pytest.raises(ArmFailed, match="unasked"):
        stage.launch("answer-twice", timeout_s=5)


@pytest.mark.parametrize("kind", ["zeroed", "scratch", "restored"])
def test_workspaces(bench: Bench, kind: str) -> None:
    artifact = bench.artifact("workspace", Workspace("tiles", kind, 1000))
    stage = bench.stage_arms([Arm("arm", "candidate", artifact)])
    for _ in range(3):
        stage.launch("arm", timeout_s=5)
        found = stage.bits("arm")[0, 0]
        assert is_poison(found) if kind == "scratch" else found == 0
        damage = stage.damage("arm")
        if kind == "restored":
            assert damage is not None
            assert "tiles" in damage
        else:
            assert damage is None


def test_what_cannot_be_loaded_fails_its_arm(bench: Bench, tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_text("not an object")
    artifact = bench.artifact("honest", code=broken)
    with pytest.raises(ArmFailed, match="cannot load") as failure:
        bench.stage_arms([Arm("broken", "candidate", artifact)])
    assert failure.value.status == "launch_error"
    with pytest.raises(ArmFailed, match="no launch plan for other"):
        other = Configuration("other", {"rows": ROWS})
        bench.device.stage(PROBLEM, other, [Arm("arm", "candidate", bench.artifact("honest"))])


def test_foreign_load_is_noticed(bench: Bench) -> None:
    stage = bench.stage("busy")
    loop = [sys.executable, "-c", "while True: pass"]
    load = [subprocess.Popen(loop) for _ in range(2 * len(available_cpus()))]
    try:
        time.sleep(0.3)
        timings = [stage.launch("busy", timeout_s=20) for _ in range(3)]
    finally:
        for process in load:
            process.kill()
            process.wait()
    assert any("other processes" in (timing.disturbed or "") for timing in timings)
    assert max(timing.facts["foreign_ms"] for timing in timings) > 20


def test_device_describes_itself(device: CpuDevice) -> None:
    environment = device.environment()
    assert environment["threads"] == 2
    assert environment["isolation"] in ("child", "none")
    assert environment["device"]
    assert device.ceiling() > 1e-4
    observed = device.observe()
    assert len(observed["probe_gflops"]) == len(available_cpus())
    assert (environment["torch"] is None) == (importlib.util.find_spec("torch") is None)


WORKER = """
import os, sys, time
from pathlib import Path
from avo_pytest.devices import Arm
from avo_pytest.devices.cpu import CpuDevice
from avo_pytest.loading import load_problem
from avo_pytest.problem import Configuration
here, cache, artifact = map(Path, sys.argv[1:4])
problem = "problem.py:PROBLEM"
device = CpuDevice(problem_ref=problem, root=here, threads=2, seed=bytes(32), cache=cache)
arms = [Arm("busy", "candidate", artifact), Arm("torch", "baseline")]
configuration = Configuration(sys.argv[4], {"rows": int(sys.argv[5])})
stage = device.stage(load_problem(problem, root=here), configuration, arms)
print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
time.sleep(60)
"""


def test_no_process_outlives_its_worker(bench: Bench, cache: Path) -> None:
    paths = [str(path) for path in (HERE, cache, bench.artifact("busy"))]
    arguments = [*paths, CONFIGURATION.name, str(ROWS)]
    root = Path(native.__file__).parents[3]
    command = [sys.executable, "-c", WORKER, *arguments]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        children = [Path("/proc", pid) for pid in worker.stdout.readline().split()]
        assert len(children) == 2
        assert all(child.exists() for child in children)  # and are stopped
        worker.kill()
    deadline = time.monotonic() + 60
    while any(child.exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(child.exists() for child in children)


def test_closing_ends_every_process(device: CpuDevice, cache: Path, code: Path) -> None:
    def children() -> set[str]:
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    before = children()
    bench = Bench(device, cache, code)
    bench.stage("honest", "busy")
    assert len(children() - before) == 2
    bench.close()
    bench.close()
    assert children() == before
