# SPDX-License-Identifier: MIT
"""The inside of the sandbox: takes rights away from its own process, then executes a program.

`sandbox.py` and the CPU device start it as `python -I -S confine.py RULES`, the rules as JSON. It
needs no privilege and only the standard library: rlimits, namespaces, Landlock, seccomp (ctypes).
Rules that cannot be had end it with exit status 126 before anything ran (mechanism "none": it
goes on with those that can).
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

NOT_CONFINED = 126
COMPLAINT = "avo sandbox: "

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 24, 22, 38
_CLONE = {"mount": 1 << 17, "ipc": 1 << 27, "user": 1 << 28, "pid": 1 << 29, "net": 1 << 30}
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 1 << 14, 1 << 18
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446

# Landlock file rights by the ABI that brought them; one bit each.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: 1 << 13, 3: _TRUNCATE, 5: _IOCTL_DEV}

# Refused with EPERM whatever the namespaces allow; number on (x86_64, aarch64).
_REFUSED = {
    "socket": (41, 198),
    "ptrace": (101, 117),
    "mount": (165, 40),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "perf_event_open": (298, 241),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06

_libc = ctypes.CDLL(None, use_errno=True)


def landlock_abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)))


def limit(limits: Mapping[str, int]) -> None:
    """Set rlimits by name ("AS", "CPU", …), never above what is in force."""
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (OSError, ValueError):
            if sys.platform.startswith("linux"):
                raise


def enter_namespaces(names: Iterable[str]) -> bool:
    """Move into fresh namespaces, "user" among them. False where the kernel refuses.

    Tried in a throw-away process first: where AppArmor restricts user namespaces the first step
    succeeds, the second fails, and there is no way back.
    """
    flags = sum(_CLONE[name] for name in names)
    if not flags or not _succeeds(lambda: _unshare(flags)):
        return False
    _unshare(flags)
    if flags & _CLONE["mount"]:
        _libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
    return True


def _unshare(flags: int) -> None:
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare refused")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _succeeds(act: Callable[[], None]) -> bool:
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    try:
        act()
    except OSError:
        os._exit(1)
    os._exit(0)


def fork_into_pid_namespace() -> None:
    """Continue as process 1 of the new namespace; outside, wait and pass the status on."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            signal.signal(-code, signal.SIG_DFL) if -code not in (9, 19) else None
            os.kill(os.getpid(), -code)
        os._exit(code if code >= 0 else 128 - code)
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _libc.mount(b"proc", b"/proc", b"proc", flags, None)  # refused in some containers: harmless


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends, even while stopped (Linux)."""
    if sys.platform.startswith("linux"):
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def drop_privileges() -> None:
    """No capability survives the coming exec, even for root."""
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs refused")


def restrict_files(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Landlock: read and execute below `readable`, everything below `writable`, nothing else.

    Also, where the kernel's version has it: no TCP, no abstract sockets, no signals to the outside.
    """
    abi = landlock_abi()
    if abi < 1:
        raise OSError("this kernel has no Landlock")
    handled = sum(rights for since, rights in _RIGHTS_BY_ABI.items() if since <= abi)
    attributes = [handled] + [3] * (abi >= 4) + [3] * (abi >= 6)
    packed = struct.pack(f"={len(attributes)}Q", *attributes)
    ruleset = _libc.syscall(_LANDLOCK_CREATE, packed, ctypes.c_size_t(len(packed)), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "Landlock refused the ruleset")
    for path in readable:
        _allow(ruleset, path, _READ_FILE | _READ_DIR | _EXECUTE)
    for path in writable:
        _allow(ruleset, path, handled)
    if _libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) != 0:
        raise OSError(ctypes.get_errno(), "Landlock refused to restrict")
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # nothing there to allow
    if not os.path.isdir(path):  # noqa: PTH112 - the object just opened, by the same name
        rights &= _FILE_RIGHTS
    rule = struct.pack("=Qi", rights, fd)
    if _libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0) != 0:
        raise OSError(ctypes.get_errno(), f"Landlock refused the rule for {path}")
    os.close(fd)


def refuse_system_calls() -> None:
    """seccomp: no sockets, no tracing, no io_uring, no new namespaces, native calls only."""
    if platform.machine() not in _ARCHITECTURES:
        raise OSError(f"no seccomp filter for {platform.machine()}")
    column, audit = _ARCHITECTURES[platform.machine()]
    numbers = [pair[column] for pair in _REFUSED.values()]
    last = 5 + len(numbers)  # index of the final "refuse"; a jump counts from the next instruction
    steps = [
        (_LOAD, 0, 0, 4),  # the architecture
        (_IF_EQUAL, 0, last - 2, audit),
        (_LOAD, 0, 0, 0),  # the call's number
        (_IF_AT_LEAST, last - 4, 0, 0x40000000),  # x32 calls
        *((_IF_EQUAL, last - 5 - i, 0, number) for i, number in enumerate(numbers)),
        (_RETURN, 0, 0, 0x7FFF0000),  # allow
        (_RETURN, 0, 0, 0x00050001),  # refuse with EPERM
    ]
    filters = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(filters))
    if _libc.prctl(_PR_SET_SECCOMP, 2, program, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp refused the filter")


def main(rules: Mapping[str, Any]) -> None:
    """Apply the rules in the one order that works, then execute `argv` in exactly `env`."""
    limit(rules["limits"])
    if sys.platform.startswith("linux") and rules["mechanism"] != "bubblewrap":
        entered = enter_namespaces(rules["namespaces"])
        die_with_parent()
        if entered and "pid" in rules["namespaces"]:
            fork_into_pid_namespace()
            die_with_parent()  # a fork does not inherit it
        drop_privileges()
        try:
            restrict_files(rules["readable"], rules["writable"])
            refuse_system_calls()
        except OSError:
            if rules["mechanism"] == "landlock":
                raise
    argv = rules["argv"]
    os.execve(argv[0], argv, rules["env"])


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except OSError as error:
        print(f"{COMPLAINT}{error}", file=sys.stderr)
        sys.exit(NOT_CONFINED)
