# SPDX-License-Identifier: MIT
"""What a confined child can and cannot do, by trying."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from avo_pytest import confine, sandbox

PYTHON = (Path(sys.prefix), Path(sys.base_prefix), Path(os.__file__).parent)
LEVEL, REASON = sandbox.level()
confined = pytest.mark.skipif(LEVEL != "child", reason=f"needs a sandbox: {REASON}")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


needs_landlock = pytest.mark.skipif(not confine.landlock_abi(), reason="needs Landlock")
needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
each_mechanism = pytest.mark.parametrize(
    "mechanism",
    [
        pytest.param("landlock", marks=needs_landlock),
        pytest.param("bubblewrap", marks=needs_bubblewrap),
    ],
)


def run(code: str, *arguments: object, **options: Any) -> sandbox.Result:
    """Python code in the sandbox."""
    settings = {
        "readable": (),
        "writable": (),
        "timeout_s": 20.0,
        "memory_bytes": 1 << 30,
        **options,
    }
    settings["readable"] = (*PYTHON, *settings["readable"])
    command = [sys.executable, "-I", "-S", "-c", code, *map(str, arguments)]
    return sandbox.run(command, **settings)


def outcome(act: str) -> str:
    """Code that prints `done` or the name of the error that `act` meets."""
    return f"""
import os, socket, sys
try:
    {act}
except OSError as error:
    print(type(error).__name__)
else:
    print("done")
"""


@confined
@each_mechanism
def test_files_are_readable_only_where_allowed(mechanism: str, tmp_path: Path) -> None:
    shown, hidden = tmp_path / "shown", tmp_path / "hidden"
    for folder in (shown, hidden):
        folder.mkdir()
        (folder / "file").write_text("text")
    read = outcome("open(sys.argv[1]).read()")
    options = {"readable": [shown], "mechanism": mechanism}
    assert run(read, shown / "file", **options).stdout == "done\n"
    assert run(read, hidden / "file", **options).stdout != "done\n"
    assert run(read, "/etc/passwd", **options).stdout != "done\n"


@confined
@each_mechanism
def test_files_are_writable_only_where_allowed(mechanism: str, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    write = outcome("open(sys.argv[1], 'w').write('x')")
    options = {"readable": [outside], "writable": [inside], "mechanism": mechanism}
    assert run(write, inside / "new", **options).stdout == "done\n"
    assert run(write, outside / "new", **options).stdout != "done\n"
    assert [path.name for path in tmp_path.rglob("new")] == ["new"]
    assert (inside / "new").read_text() == "x"


@confined
@each_mechanism
def test_no_network(mechanism: str) -> None:
    connect = outcome("socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2)")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert run(connect, port, mechanism=mechanism).stdout != "done\n"


@confined
def test_no_unix_sockets_no_tracing_and_no_new_namespaces() -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for call, arguments in (("socket", (1, 1, 0)), ("ptrace", (0, 0, 0, 0)), ("unshare", (1 << 28,))):
    print(call, getattr(libc, call)(*arguments), os.strerror(ctypes.get_errno()))
"""
    denied = os.strerror(1)
    expected = "".join(f"{call} -1 {denied}\n" for call in ("socket", "ptrace", "unshare"))
    assert run(code).stdout == expected


@confined
def test_other_processes_cannot_be_signalled() -> None:
    result = run(outcome("os.kill(int(sys.argv[1]), 0)"), os.getpid())
    assert result.stdout in ("ProcessLookupError\n", "PermissionError\n")


def test_environment_is_empty_but_for_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    code = (
        "import os; print(sorted(set(os.environ) - {'LC_CTYPE', 'PWD', '__CF_USER_TEXT_ENCODING'}))"
    )
    result = run(code, env={"GIVEN": "1"})
    assert result.stdout == "['GIVEN', 'LC_ALL', 'PATH', 'TMPDIR']\n"


def test_the_private_temporary_folder_vanishes() -> None:
    code = "import os; p = os.environ['TMPDIR'] + '/f'; open(p, 'w').write('x'); print(p)"
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert not Path(result.stdout.strip()).parent.exists()


def test_inherits_no_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        code = "import os, sys; os.fstat(int(sys.argv[1]))"
        result = run(code, file.fileno())
    assert "Bad file descriptor" in result.stderr


def test_timeout_kills_the_whole_tree(tmp_path: Path) -> None:
    code = """
import os, sys, time
if os.fork() == 0:
    while True:
        with open(sys.argv[1], "a") as file:
            file.write("x")
        time.sleep(0.02)
time.sleep(60)
"""
    beat = tmp_path / "beat"
    start = time.monotonic()
    result = run(code, beat, writable=[tmp_path], timeout_s=1.0)
    assert result.timed_out
    assert time.monotonic() - start < 10
    assert beat.stat().st_size > 0
    time.sleep(0.1)
    size = beat.stat().st_size
    time.sleep(0.2)
    assert beat.stat().st_size == size


@linux
def test_memory_is_limited() -> None:
    result = run("bytearray(1 << 30)", memory_bytes=512 << 20)
    assert "MemoryError" in result.stderr


def test_output_is_cut_and_status_is_reported() -> None:
    result = run("import sys; print('x' * (1 << 20)); sys.exit(7)")
    assert result.returncode == 7
    assert not result.timed_out
    assert len(result.stdout) < 300_000
    assert result.stdout.endswith("(cut)")


def test_a_signal_is_reported() -> None:
    result = run("import os; os.abort()")
    assert result.returncode < 0


def test_unknown_program() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        sandbox.run(
            ["no-such-program"], readable=[], writable=[], timeout_s=1, memory_bytes=1 << 30
        )


def test_without_confinement_the_result_says_so(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    result = run("print('ran')", mechanism="none")
    assert (result.stdout, result.level) == ("ran\n", "none")


@needs_landlock
def test_rules_that_cannot_be_applied_run_nothing(tmp_path: Path) -> None:
    code = """
import json, os, sys
from avo_pytest import confine
confine.drop_privileges()
for _ in range(16):  # the kernel refuses a deeper stack of domains
    confine.restrict_files(["/"], ["/"])
command = json.loads(sys.argv[1])
os.execv(command[0], command)
"""
    inner = sandbox.wrapped(
        ["/bin/echo", "ran"], readable=[Path("/")], limits={}, env={}, namespaces=()
    )
    root = Path(sandbox.__file__).parents[1]
    command = [sys.executable, "-c", code, json.dumps(inner)]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert result.returncode == confine.NOT_CONFINED
    assert result.stderr.startswith(confine.COMPLAINT)
    assert result.stdout == ""


def test_level_is_explained() -> None:
    assert LEVEL in ("child", "none")
    assert REASON


@linux
@each_mechanism
def test_the_child_dies_with_a_parent_that_is_killed(mechanism: str, tmp_path: Path) -> None:
    """Nobody is left to end a compiler when the judge was killed."""
    code = f"""
import sys
from pathlib import Path
from avo_pytest import sandbox
python = [Path(p) for p in {[str(p) for p in PYTHON]!r}]
act = "import time; open('started', 'w').close(); time.sleep(60)"
sandbox.run([sys.executable, "-I", "-S", "-c", act], readable=python, cwd=Path({str(tmp_path)!r}),
            writable=[Path({str(tmp_path)!r})], timeout_s=60, memory_bytes=1 << 30,
            mechanism={mechanism!r})
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert _working_in(str(tmp_path))
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 60
    while _working_in(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _working_in(str(tmp_path))


def _working_in(folder: str) -> list[int]:
    """Processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == Path(folder):
                found.append(int(process.name))
    return found
