# SPDX-License-Identifier: MIT
"""What a run's seed decides, contents and order of launches, is out of a candidate's reach while it
runs: it is in the memory of judge and worker, and in none of a candidate's process."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from avo_pytest.architectures import typical_facts
from avo_pytest.build import build
from avo_pytest.job import Job
from avo_pytest.loading import _module, load_problem
from avo_pytest.process import WorkerProcess
from avo_pytest.run import timed_inputs_seed

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux"),
]

repository = _module(Path(__file__).parents[1] / "simulated_repository.py")
REFERENCE = "bench/toy/problem.py:PROBLEM"
KERNEL = """\
#include <cstdint>
#include <cstring>
extern "C" void toy(const uint16_t* x, uint16_t* y, int64_t rows) {
    for (int64_t i = 0; i < rows * 8; ++i) {
        uint32_t word = uint32_t(x[i]) << 16;
        float value;
        std::memcpy(&value, &word, 4);
        value *= 2;
        std::memcpy(&word, &value, 4);
        y[i] = uint16_t(word >> 16);
    }
}
"""
MANIFEST = """\
schema = 1
target = "cpu"
[compile]
source = "toy.cpp"
flags = ["-O2"]
[[launch]]
function = "toy"
arguments = ["x", "y", { i64 = "rows" }]
"""
ARMS = ("candidate", "incumbent", "null")
SEED = secrets.randbits(62) | 1 << 62
KEY = timed_inputs_seed(SEED)
# However it may have been written down; the order of launches is drawn from KEY and a small number.
NEEDLES = (str(SEED).encode(), SEED.to_bytes(8, "little"), KEY.encode(), bytes.fromhex(KEY))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = repository.write(tmp_path_factory.mktemp("judge"))
    folder = root / "kernels" / "toy" / "cpu"
    folder.mkdir(parents=True)
    (folder / "kernel.toml").write_text(MANIFEST)
    (folder / "toy.cpp").write_text(KERNEL)
    problem = load_problem(REFERENCE, root=root)
    (configurations,) = problem.throughput["cpu"].values()
    cache = root / "cache"
    made = build(folder, problem, configurations, typical_facts("cpu"), cache)
    return Job(
        problem=REFERENCE,
        root=str(root),
        device="cpu",
        threads=1,
        seed=KEY,
        cache=str(cache),
        arms=tuple({"name": a, "role": a, "artifact": str(made.path)} for a in ARMS),
        throughput=tuple(asdict(c) for c in configurations),
        blocks=1000,  # more than there is time for
        shuffle=True,
        replicate=3,
    )


@contextmanager
def timing(job: Job) -> Iterator[int]:
    """A worker that stands still in the midst of its timed launches; its process id."""
    worker = WorkerProcess(job, silence_s=120)
    told = []
    try:
        for message in worker.messages():
            told.append(message)
            if message["kind"] == "sample":
                break
        assert told and told[-1]["kind"] == "sample", (told[-3:], worker.death())
        pid = worker._process.pid
        os.kill(pid, signal.SIGSTOP)
        yield pid
    except PermissionError as error:
        pytest.skip(f"this machine lets nobody look into a child: {error}")
    finally:
        worker.close()


def children(pid: int) -> list[int]:
    """Those whose parent it is."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):  # it has ended meanwhile
            continue
        found += [int(path.parent.name)] if parent == pid else []
    return found


def memory(pid: int) -> bytes:
    """All that a process can read in its own memory."""
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            if not rights.startswith("r") or line.endswith(("[vvar]", "[vsyscall]")):
                continue
            begin, end = (int(part, 16) for part in place.split("-"))
            file.seek(begin)
            with suppress(OSError):  # a device's, or a page past the end of a file
                parts.append(file.read(end - begin))
    return b"\0".join(parts)


def told(pid: int) -> bytes:
    """What others can see of a process: its command line and its environment."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


def test_no_process_of_a_candidate_holds_the_seed(job: Job) -> None:
    with timing(job) as worker:
        own = memory(worker)
        assert KEY.encode() in own or bytes.fromhex(KEY) in own  # so a look like this finds it
        arms = children(worker)
        assert len(arms) >= len(ARMS) * len(job.throughput)
        for pid in arms:
            seen = memory(pid)
            assert b"avo_entry" in seen  # and it was a look at the loader
            assert [needle for needle in NEEDLES if needle in seen] == []


def test_nobody_is_told_on_a_command_line_or_in_an_environment(job: Job) -> None:
    with timing(job) as worker:
        for pid in (worker, *children(worker)):
            assert [needle for needle in NEEDLES if needle in told(pid)] == []
        for pid in children(worker):
            assert Path(f"/proc/{pid}/environ").read_bytes() == b""


def test_a_candidate_holds_no_file_but_its_channel_and_its_log(job: Job) -> None:
    with timing(job) as worker:
        for pid in children(worker):
            links = {int(p.name): str(p.readlink()) for p in Path(f"/proc/{pid}/fd").iterdir()}
            channel = [n for n, link in links.items() if link.startswith("socket:")]
            assert links.pop(0) == os.devnull and len(channel) == 1
            assert set(links) == {1, 2, *channel} and links[1] == links[2]


def test_a_worker_writes_it_nowhere(job: Job) -> None:
    with timing(job):
        for path in Path(job.root).rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert [needle for needle in NEEDLES if needle in content] == [], path
