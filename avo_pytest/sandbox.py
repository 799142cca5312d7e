# SPDX-License-Identifier: MIT
"""Run a child confined, or say plainly at which level it is not.

"child": the child sees only the files it was given and no network, proven by trying once. "none":
it has limits, an empty environment and a timeout, but is as free as its user. For compilers
(`build.py`); the CPU device starts its loader by the same rules. How: see `confine.py`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from avo_pytest import confine

Level = Literal["child", "none"]
Mechanism = Literal["landlock", "bubblewrap", "none"]

# What any program needs to start; compilers and their headers live here too.
SYSTEM = tuple(
    Path(p)
    for p in (
        *("/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/include"),
        *("/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives"),
        *("/dev/zero", "/dev/urandom"),
    )
)
_NAMESPACES = ("user", "mount", "net", "ipc", "pid")
_OUTPUT_BYTES = 256 * 1024
_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Result:
    """How a child ended. `returncode` is negative for a signal; output is cut at 256 KiB each."""

    returncode: int
    stdout: str
    stderr: str
    timed_out: bool
    level: Level


def run(
    argv: Sequence[str],
    *,
    readable: Sequence[Path],
    writable: Sequence[Path],
    timeout_s: float,
    memory_bytes: int,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    mechanism: Mechanism | None = None,
) -> Result:
    """Run `argv` with these paths (and SYSTEM) readable and executable, those writable, no network.

    The environment is empty but for PATH, LC_ALL, `env` and a private TMPDIR that vanishes.
    `mechanism` overrides the best one that works here; RuntimeError where it cannot be applied.
    """
    how = mechanism or _best()[0]
    environment = {"PATH": _PATH, "LC_ALL": "C", **(env or {})}
    program = shutil.which(argv[0], path=environment["PATH"])
    if program is None:
        raise FileNotFoundError(f"{argv[0]}: no such program")
    with tempfile.TemporaryDirectory(prefix="avo-") as private:
        folder = cwd or Path(private)
        given = [path.resolve() for path in (*SYSTEM, Path(program), *readable)]
        own = [path.resolve() for path in (*writable, Path(private))]
        command = [program, *argv[1:]]
        if how == "bubblewrap":
            command = _bubblewrap(command, given, own, folder)
        command = wrapped(
            command,
            readable=given,
            writable=own,
            limits=_limits(timeout_s, memory_bytes),
            env={"TMPDIR": private, **environment},
            mechanism=how,
        )
        code, out, err, late = _execute(command, folder, timeout_s)
    if how != "none" and code == confine.NOT_CONFINED and err.startswith(confine.COMPLAINT):
        raise RuntimeError(err.strip())
    return Result(code, out, err, late, "none" if how == "none" else "child")


def level() -> tuple[Level, str]:
    """The level that `run` reaches on this machine, and what it rests on or how to get further."""
    how, explanation = _best()
    return ("none" if how == "none" else "child"), explanation


def mechanism() -> Mechanism:
    """What `run` uses on this machine; a caller may pass it on to processes of its own."""
    return _best()[0]


def wrapped(
    argv: Sequence[str],
    *,
    readable: Sequence[Path],
    writable: Sequence[Path] = (),
    limits: Mapping[str, int],
    env: Mapping[str, str],
    namespaces: Sequence[str] = _NAMESPACES,
    mechanism: Mechanism = "landlock",
) -> list[str]:
    """The command line that confines itself as `confine.py` does and then becomes `argv`.

    With "none" it takes what rights it can from itself and goes on; with "bubblewrap" `argv` begins
    with that program, and only limits are set before it.
    """
    rules = {
        "argv": list(argv),
        "env": dict(env),
        "readable": [str(path) for path in readable],
        "writable": [str(path) for path in (*writable, Path("/dev/null"))],
        "limits": dict(limits),
        "namespaces": list(namespaces),
        "mechanism": mechanism,
    }
    return [sys.executable, "-I", "-S", str(Path(confine.__file__).resolve()), json.dumps(rules)]


def _limits(timeout_s: float, memory_bytes: int) -> dict[str, int]:
    cpu_s = int(timeout_s * (os.cpu_count() or 1)) + 1
    return {"AS": memory_bytes, "CPU": cpu_s, "FSIZE": 4 << 30, "NOFILE": 512, "CORE": 0}


def _execute(command: Sequence[str], cwd: Path, timeout_s: float) -> tuple[int, str, str, bool]:
    process = subprocess.Popen(
        command,
        env={},  # the wrapper's own; the program's is among the rules
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    readers = [_Reader(process.stdout), _Reader(process.stderr)]
    late = False
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        late = True
    finally:  # the whole session, also when we are interrupted
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    out, err = (reader.text() for reader in readers)
    return process.returncode, out, err, late


class _Reader:
    """Keeps the first bytes of a pipe and empties the rest, in a thread."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe, self.kept = pipe, bytearray()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        while chunk := os.read(self.pipe.fileno(), 65536):
            self.kept += chunk[: _OUTPUT_BYTES - len(self.kept)]
        self.pipe.close()

    def text(self) -> str:
        """What came; a grandchild that escaped and still holds the pipe is not waited for."""
        self.thread.join(1.0)
        cut = "\n… (cut)" if len(self.kept) == _OUTPUT_BYTES else ""
        return bytes(self.kept).decode(errors="replace") + cut


def _bubblewrap(
    argv: Sequence[str], readable: Sequence[Path], writable: Sequence[Path], cwd: Path
) -> list[str]:
    program = shutil.which("bwrap")
    assert program is not None
    command = [program, "--unshare-all", "--die-with-parent", "--new-session"]
    command += ["--proc", "/proc", "--dev", "/dev"]
    for path in readable:
        if not path.is_relative_to("/dev"):
            command += ["--ro-bind-try", str(path), str(path)]
    for name in ("/bin", "/lib", "/lib64"):  # links into /usr on merged systems; resolved above
        if Path(name).is_symlink():
            command += ["--symlink", str(Path(name).readlink()), name]
    for path in writable:
        command += ["--bind", str(path), str(path)]
    return [*command, "--chdir", str(cwd), "--", *argv]


@functools.cache
def _best() -> tuple[Mechanism, str]:
    """The mechanism that holds when a child tries to break out, and an explanation."""
    if not sys.platform.startswith("linux"):
        return "none", f"no sandbox on {sys.platform}: run on Linux to confine candidates"
    failures = []
    abi = confine.landlock_abi()
    if abi:
        if (failure := _break_out("landlock")) is None:
            return "landlock", f"Landlock (ABI {abi}), seccomp, namespaces where allowed"
        failures.append(f"Landlock: {failure}")
    else:
        failures.append("Landlock: not in this kernel (needs Linux 5.13 with lsm=…,landlock)")
    if shutil.which("bwrap"):
        if (failure := _break_out("bubblewrap")) is None:
            return "bubblewrap", "bubblewrap (this kernel has no Landlock)"
        failures.append(f"bubblewrap: {failure}")
    else:
        failures.append("bubblewrap: not installed (apt install bubblewrap)")
    if _switch("kernel/apparmor_restrict_unprivileged_userns") == "1":
        failures.append(
            "AppArmor restricts user namespaces: give bwrap a profile, or "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        )
    if _switch("user/max_user_namespaces") == "0":
        failures.append("user namespaces are off: sysctl user.max_user_namespaces=16384")
    return "none", "; ".join(failures)


def _switch(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""


_BREAK_OUT = """
import os, socket, sys
held = []
def read():
    os.close(os.open(sys.argv[1], os.O_RDONLY))
def connect():
    socket.create_connection(("127.0.0.1", int(sys.argv[2])), 2).close()
for name, act in (("file", read), ("network", connect)):
    try:
        act()
    except OSError:
        held.append(name)
print(*held)
"""


def _break_out(how: Mechanism) -> str | None:
    """None if a child under this mechanism can neither read a secret file nor reach the network."""
    with (
        tempfile.NamedTemporaryFile(prefix="avo-secret-") as secret,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        interpreter = [Path(sys.prefix), Path(sys.base_prefix), Path(os.__file__).parent]
        attack = ("-I", "-S", "-c", _BREAK_OUT, secret.name, str(server.getsockname()[1]))
        try:
            result = run(
                [sys.executable, *attack],
                readable=interpreter,
                writable=[],
                timeout_s=20,
                memory_bytes=4 << 30,
                mechanism=how,
            )
        except RuntimeError as error:
            return str(error)
    if result.returncode != 0:
        return (result.stderr.strip() or f"exit status {result.returncode}").splitlines()[-1]
    escaped = {"file", "network"} - set(result.stdout.split())
    return f"{' and '.join(sorted(escaped))} still reachable" if escaped else None
