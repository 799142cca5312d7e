# SPDX-License-Identifier: MIT
"""The fork server with real processes: quick starts, kills on every side, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from avo_pytest.devices.cuda_nvml import descendants
from avo_pytest.forkserver import ForkServer
from avo_pytest.job import Job
from avo_pytest.loading import _module, load_problem
from avo_pytest.process import WorkerProcess

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")

helper = _module(Path(__file__).parents[1] / "simulated_repository.py")
REFERENCE = "bench/toy/problem.py:PROBLEM"
JUDGE = """
import sys
from avo_pytest.forkserver import ForkServer
with open(sys.argv[1], "w+b") as stderr:
    server = ForkServer("simulated")
    forked = server.start(stderr)
    print(server.pid, forked.pid, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """One that takes a while: many blocks of a scripted arm."""
    from avo_pytest.devices import scripts

    root = helper.write(tmp_path / "repository")
    artifact = scripts.build(root / "kernels" / "toy" / "simulated", "toy", tmp_path / "cache")
    problem = load_problem(REFERENCE, root=root)
    return Job(
        problem=REFERENCE, root=str(root), device="simulated", threads=1, seed="00" * 32,
        cache=str(tmp_path / "cache"),
        arms=({"name": "candidate", "role": "candidate", "artifact": str(artifact.path)},),
        throughput=tuple(asdict(c) for c in problem.throughput["cpu"]["two"]),
        blocks=100_000,
    )  # fmt: skip


@pytest.fixture
def server() -> Iterator[ForkServer]:
    made = ForkServer("simulated")
    yield made
    made.close()


@contextmanager
def worker(server: ForkServer, job: Job, silence_s: float = 60) -> Iterator[WorkerProcess]:
    made = WorkerProcess(job, silence_s=silence_s, start=server.start)
    try:
        yield made
    finally:
        made.close()


def wait_for_blocks(process: WorkerProcess) -> int:
    """The worker's process id, once it measures."""
    for message in process.messages():
        if message["kind"] == "block":
            return process._process.pid
    raise AssertionError(process.death())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(*pids: int) -> None:
    deadline = time.monotonic() + 60
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, [pid for pid in pids if alive(pid)]
        time.sleep(0.01)


def test_a_second_replicate_starts_at_once_and_is_another_process(server, job):
    with worker(server, job) as first:
        before = wait_for_blocks(first)
    took: list[float] = []
    while len(took) < 5 and min(took, default=60.0) >= 3:  # a machine may be busy for a while
        begun = time.monotonic()
        with worker(server, job) as second:
            wait_for_blocks(second)
            took.append(time.monotonic() - begun)
    assert min(took) < 3
    with worker(server, job) as second:
        pid = wait_for_blocks(second)
        assert pid != before and os.getsid(pid) == pid != os.getsid(0)
        assert {pid, server.pid} <= descendants(os.getpid())  # no strangers on a GPU
    wait_until_gone(pid)


def test_one_that_is_done_ends_with_its_status(server, job):
    with worker(server, replace(job, blocks=1)) as process:
        kinds = [message["kind"] for message in process.messages()]
        assert kinds[-1] == "done"
        assert process.death() == "worker exit status 0"


def test_a_failure_is_told_with_what_was_printed(server, job):
    with worker(server, replace(job, problem="bench/none.py:PROBLEM")) as process:
        (message,) = list(process.messages())
        assert message["kind"] == "error" and "none.py" in message["reason"]
        assert "exit status 1: FileNotFoundError" in process.death()


def test_a_killed_fork_says_so_and_the_server_goes_on(server, job):
    with worker(server, job) as first:
        os.kill(wait_for_blocks(first), signal.SIGKILL)
        assert all(message["kind"] != "done" for message in first.messages())
        assert first.death() == "worker ended by SIGKILL"
    with worker(server, job) as second:
        wait_for_blocks(second)


def test_a_killed_server_takes_its_forks_with_it_and_is_replaced(server, job):
    with worker(server, job) as first:
        pid = wait_for_blocks(first)
        os.kill(server.pid, signal.SIGKILL)
        wait_until_gone(pid)
        assert first.death() == "worker ended by SIGKILL"
    with worker(server, job) as second:
        assert wait_for_blocks(second) != pid


def test_a_silent_fork_is_killed_in_time(server, job):
    with worker(server, job, silence_s=0.3) as process:
        pid = wait_for_blocks(process)
        os.kill(pid, signal.SIGSTOP)
        assert all(message["kind"] != "done" for message in process.messages())
        wait_until_gone(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_nothing_survives_the_judge(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-c", JUDGE, str(tmp_path / "stderr")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2 and all(map(alive, pids))
        process.send_signal(number)
    wait_until_gone(*pids)


def test_a_server_that_touched_a_gpu_would_not_fork(tmp_path):
    """Checked with a stand-in for the driver's library that says a context is there."""
    source, library = tmp_path / "fake.c", tmp_path / "libcuda.so.1"
    source.write_text("int cuCtxGetCurrent(void** c) { *c = 0; return 0; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    code = (
        f"import ctypes; from avo_pytest import forkserver; forkserver._untouched();"
        f"ctypes.CDLL({str(library)!r}); forkserver._untouched()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "has touched a GPU" in done.stderr
