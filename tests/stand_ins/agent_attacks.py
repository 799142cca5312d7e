# SPDX-License-Identifier: MIT
"""Attacks of a program on what is around it: prints, as JSON, the names of those that succeeded.

With `TARGETS` (JSON) it attacks; without, it prints the names of all. Standard library alone.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Targets = dict[str, Any]


def reads(path: str, wanted: str = "") -> bool:
    """Whether a file can be read and holds what is looked for."""
    with Path(path).open("rb") as file:
        return wanted.encode() in file.read(1 << 20)


def opens(path: str) -> bool:
    """Whether a file that is there can be opened for writing."""
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError:
        return False
    return True


def appends(path: str) -> bool:
    """Whether something can be added to a file; one that is not there is made."""
    try:
        with Path(path).open("ab") as file:
            file.write(b"#")
    except OSError:
        return False
    return True


def environment(targets: Targets) -> bool:
    """Our own, which we got from our parent."""
    return targets["secret"] in repr(dict(os.environ))


def parents(targets: Targets) -> bool:
    """The environment of the agent, our parent, or any process that can be found."""
    found = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    pids = [targets["pid"], os.getppid(), 1, *found]
    return any(_holds(f"/proc/{pid}/environ", targets["secret"]) for pid in pids)


def _holds(path: str, secret: str) -> bool:
    try:
        return reads(path, secret)
    except OSError:
        return False


def memory(targets: Targets) -> bool:
    """The agent's memory."""
    os.close(os.open(f"/proc/{targets['pid']}/mem", os.O_RDONLY))
    return True


def signals(targets: Targets) -> bool:
    """The agent as a process."""
    os.kill(targets["pid"], 0)
    return True


def tcp(targets: Targets) -> bool:
    """The network."""
    socket.create_connection(("127.0.0.1", targets["port"]), 2).close()
    return True


def local(targets: Targets) -> bool:
    """A service of this machine."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(targets["unix"])
    return True


def links(targets: Targets) -> bool:
    """A trusted file under a second name, in a folder of ours."""
    own = Path(__file__).with_name("linked")
    try:
        own.hardlink_to(targets["trusted"][2])
        return appends(str(own))
    finally:
        own.unlink(missing_ok=True)


def gpu(targets: Targets) -> bool:
    """A GPU's device files, or the driver without them."""
    found = [str(path) for path in Path("/dev").glob("nvidia*")]
    return any([opens(path) for path in (*found, "/dev/nvidia0", "/dev/nvidiactl")])


def device(targets: Targets) -> bool:
    """A device that no command needs."""
    return opens("/dev/full")


ATTACKS: dict[str, Callable[[Targets], bool]] = {
    "key in the environment": environment,
    "key in another process's environment": parents,
    "read the agent's memory": memory,
    "key in a file": lambda t: reads(t["key"], t["secret"]),
    "ledger": lambda t: reads(t["ledger"]),
    "another worktree": lambda t: reads(t["worktree"]),
    "the run's own files": lambda t: reads(t["evaluations"]),
    "trusted files": lambda t: any([appends(path) for path in t["trusted"]]),
    "a link to a trusted file": links,
    "signal the agent": signals,
    "TCP": tcp,
    "UNIX socket": local,
    "GPU": gpu,
    "device": device,
    "list the machine": lambda t: bool(list(Path("/").iterdir())),
}


def main() -> None:
    """Every attack, whatever became of the others."""
    if len(sys.argv) < 2:
        print(json.dumps(sorted(ATTACKS)))
        return
    targets, reached = json.loads(sys.argv[1]), []
    for name, attack in ATTACKS.items():
        try:
            if attack(targets):
                reached.append(name)
        except OSError:
            continue
    print(json.dumps(sorted(reached)))


if __name__ == "__main__":
    main()
