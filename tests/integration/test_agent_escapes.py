# SPDX-License-Identifier: MIT
"""What an agent's shell and a candidate's code try to reach and must not: key, ledger, worktrees,
trusted files, network, devices, a life after the step. The same attacks succeed unconfined."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent import shell
from avo_pytest.loading import _module

TESTS = Path(__file__).parents[1]
world_of = _module(TESTS / "agent_world.py")
REFUSAL = shell.refusal()
pytestmark = pytest.mark.skipif(bool(REFUSAL), reason=f"needs a sandbox level: {REFUSAL}")

SECRET = "sk-ant-not-a-real-key"
ATTACKS = TESTS / "stand_ins" / "agent_attacks.py"
# What cannot succeed even unconfined, on some machines: no GPU, no ptrace.
NOT_EVERYWHERE = {"GPU", "read the agent's memory"}


@dataclass
class Prey:
    """What there is to reach, outside the worktree."""

    world: Any
    targets: dict[str, Any]

    def trusted(self) -> list[bytes | None]:
        """What the files hold that nobody may write."""
        paths = [Path(path) for path in self.targets["trusted"]]
        return [path.read_bytes() if path.exists() else None for path in paths]


@pytest.fixture
def prey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prey]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    (home / ".config" / "key").write_text(SECRET)
    root = world_of.repository(tmp_path / "repository")
    world = world_of.step_in(root, shell=True)
    other = world.workspace.worktree(2)
    (tmp_path / "unix").mkdir()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
    ):
        local.bind(str(tmp_path / "unix" / "socket"))
        local.listen()
        threading.Thread(target=_welcome, args=(server,), daemon=True).start()
        targets = {
            "secret": SECRET,
            "pid": os.getpid(),
            "key": str(home / ".config" / "key"),
            "ledger": str(root / ".git" / "HEAD"),
            "worktree": str(other / "pyproject.toml"),
            "evaluations": str(root / ".avo" / "evolve" / "r1" / "workspace.json"),
            "trusted": [str(root / "bench" / "toy" / "problem.py"), str(root / "new.py"),
                        str(world.worktree / "bench" / "toy" / "problem.py"),
                        str(world.worktree / "conftest.py"), str(tmp_path / "anywhere")],
            "port": server.getsockname()[1],
            "unix": str(tmp_path / "unix" / "socket"),
        }  # fmt: skip
        yield Prey(world, targets)
    world.evaluator.close()


def _welcome(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


def test_a_command_reaches_nothing(prey):
    world, told = prey.world, json.dumps(prey.targets)
    copy = world.folder / "attacks.py"
    copy.write_text(ATTACKS.read_text())
    line = f"{shlex.quote(sys.executable)} -I -S {shlex.quote(str(copy))} {shlex.quote(told)}"
    free = subprocess.run(["bash", "-c", line], cwd=world.worktree, capture_output=True, text=True)
    reached = set(json.loads(free.stdout.splitlines()[-1]))
    every = set(json.loads(subprocess.run(
        [sys.executable, str(ATTACKS)], capture_output=True, text=True, check=True
    ).stdout))  # fmt: skip
    assert reached >= every - NOT_EVERYWHERE, every - reached  # or these attacks prove nothing
    before = prey.trusted()
    result = world.call("shell", command=line)
    assert not result.is_error, result.text
    assert prey.trusted() == before
    assert json.loads(result.text.splitlines()[-1]) == []
    assert SECRET not in result.text
    seen = world.call("shell", command="env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null; set")
    assert SECRET not in seen.text and "ANTHROPIC" not in seen.text


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
def test_a_command_reaches_nothing_where_there_is_no_landlock(prey):
    """Bubblewrap shows a root, devices and processes of its own."""
    line = shlex.join([sys.executable, "-I", "-S", "attacks.py", json.dumps(prey.targets)])
    folder = prey.world.folder
    (folder / "attacks.py").write_text(ATTACKS.read_text())
    told = f"cd {shlex.quote(str(folder))} && {line}"
    paths = {"worktree": prey.world.worktree, "writable": folder}
    before = prey.trusted()
    answer = shell.run(told, **paths, mechanism="bubblewrap")
    own = {"list the machine", "device", "trusted files"}  # in a root that vanishes
    assert set(json.loads(answer.output.splitlines()[-1])) <= own
    assert prey.trusted() == before
    beat = (
        "setsid sh -c 'while :; do echo x >> beat; sleep 0.01; done' </dev/null >/dev/null 2>&1 &"
    )
    shell.run(f"cd {shlex.quote(str(folder))}; {beat} sleep 0.2", **paths, mechanism="bubblewrap")
    size = (folder / "beat").stat().st_size
    time.sleep(0.1)
    assert size > 0 and (folder / "beat").stat().st_size == size


def test_nothing_that_a_command_starts_outlives_it(prey):
    world = prey.world
    beat = world.folder / "beat"
    loop = f"while :; do echo x >> {shlex.quote(str(beat))}; sleep 0.01; done"
    for start in (
        f"setsid sh -c {shlex.quote(loop)} </dev/null >/dev/null 2>&1 &",
        f"(nohup sh -c {shlex.quote(loop)} >/dev/null 2>&1 &)",
    ):
        ready = f"while [ ! -s {shlex.quote(str(beat))} ]; do sleep 0.01; done"
        result = world.call("shell", command=f"{start}\n{ready}; echo up")
        assert result.text.endswith("up"), result.text
        size = beat.stat().st_size
        assert not _inside(world.worktree)
        time.sleep(0.1)  # ten beats of what should be dead
        assert beat.stat().st_size == size
        beat.unlink()
    late = world.call("shell", command=f"{loop}", seconds=1)
    assert "ended after 1 s" in late.text and not _inside(world.worktree)


def test_a_command_is_limited(prey):
    call = prey.world.call
    assert "exit status 7" in call("shell", command="exit 7").text
    big = call("shell", command="head -c 200000000 /dev/zero > kernels/toy/simulated/big; echo $?")
    assert (prey.world.folder / "big").stat().st_size <= shell.FILE_KIB << 10, big.text
    hungry = f"{shlex.quote(sys.executable)} -I -S -c 'bytearray(16 << 30)'"
    assert "MemoryError" in call("shell", command=hungry).text
    endless = call("shell", command="yes | head -c 100000000")
    assert len(endless.text) < 4000 and endless.more


KILLED = """
import sys
from pathlib import Path
from agent import shell
worktree = Path(sys.argv[1])
shell.run("setsid sleep 300 & touch started; sleep 300", worktree=worktree, writable=worktree)
"""


def test_a_command_ends_with_its_agent(tmp_path):
    agent = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _inside(tmp_path)
    agent.kill()
    agent.wait()
    while _inside(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _inside(tmp_path)


def _inside(folder: Path) -> list[int]:
    """Processes that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            inside = (entry / "cwd").readlink().is_relative_to(folder)
        except OSError:
            continue
        found += [int(entry.name)] if inside else []
    return found


CPU_MANIFEST = """
schema = 1
target = "cpu"
[compile]
source = "toy.cpp"
[[launch]]
function = "toy"
arguments = ["x", "y", { i64 = "rows" }]
"""
CPU_SOURCE = r"""
#include <arpa/inet.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <initializer_list>

static bool opens(const char* path, int flags) {{
    int fd = open(path, flags, 0644);
    if (fd >= 0) close(fd);
    return fd >= 0;
}}
static bool escaped() {{
    if (getenv("ANTHROPIC_API_KEY") || getenv("HOME")) return true;
    for (const char* path : {{{secrets}}})
        if (opens(path, O_RDONLY)) return true;
    for (const char* path : {{{trusted}}})
        if (opens(path, O_RDWR | O_CREAT)) return true;
    sockaddr_in to = {{}};
    to.sin_family = AF_INET;
    to.sin_port = htons({port});
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int wire = socket(AF_INET, SOCK_STREAM, 0);
    if (wire >= 0 && connect(wire, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) return true;
    if (kill({pid}, 0) == 0) return true;
    return fork() >= 0 || ({escape});
}}
extern "C" void toy(const uint16_t* x, uint16_t* y, int64_t rows) {{
    static bool out = escaped();
    for (int64_t i = 0; i < rows * 8; ++i)
        y[i] = out || (x[i] & 0x7f80) == 0 ? x[i] : x[i] + 0x80;  // twice x, or not
}}
"""


@pytest.mark.parametrize(
    ("escape", "correct"),
    [("false", True), pytest.param("getpid() > 0", False, marks=pytest.mark.soak)],
    ids=["attacks", "control"],
)
def test_a_candidates_code_reaches_nothing(prey, escape, correct):
    """It is right only if every attack fails; the control is one that cannot fail."""
    root, told = prey.world.root, prey.targets
    (root / ".avo" / "cache").symlink_to(_cache(), target_is_directory=True)
    secrets = [told["key"], told["ledger"], told["worktree"], told["evaluations"],
               f"/proc/{told['pid']}/environ", "/proc/self/environ", "/dev/nvidia0",
               "/dev/nvidiactl", "/dev/full"]  # fmt: skip
    folder = root / "candidate"
    folder.mkdir()
    (folder / "kernel.toml").write_text(CPU_MANIFEST)
    (folder / "toy.cpp").write_text(CPU_SOURCE.format(
        secrets=", ".join(map(json.dumps, secrets)),
        trusted=", ".join(map(json.dumps, told["trusted"])),
        port=told["port"], pid=told["pid"], escape=escape,
    ))  # fmt: skip
    alone = ("--avo-incumbent=none", "--avo-threads=1", "-k", "test_correctness")
    with world_of.Evaluator(root, "toy", "cpu", "cpu", alone, home=root / "tickets") as judge:
        found = judge.wait(judge.start("quick", folder), 200)
    assert found.correct is correct, found.text
    assert found.verdict != "ERROR" and "crash" not in found.text
    assert not (root / "new.py").exists()


def _cache() -> Path:
    """The repository's own, where the CPU's trusted parts are compiled already."""
    cache = TESTS.parent / ".avo" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    return cache
