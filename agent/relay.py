# SPDX-License-Identifier: MIT
"""Inside a confined command's sandbox: starts the command, and is its way to the proxy.

`python -I -S relay.py SOCKET PROGRAM ARGUMENT…` listens on the sandbox's own loopback, and sets
HTTPS_PROXY to that place for the command alone. A connection is passed on only if the socket is
the command's own: what it spawns is refused. Standard library only; knows nothing of this package.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading

CHUNK = 65_536
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def main(path: str, command: list[str]) -> int:
    """Run the command; its exit status."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    environment = {**os.environ, **dict.fromkeys(PROXIES, f"http://127.0.0.1:{port}")}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    threading.Thread(target=_accept, args=(server, path, process.pid), daemon=True).start()
    return process.wait()


def owned(pid: int, port: int, peer: int) -> bool:
    """Whether the connection from `peer` to our `port` is one of the process's own descriptors, and
    of nobody's below it."""
    inode = _inode(port, peer)
    return bool(inode) and _holds(pid, inode) and not any(_holds(p, inode) for p in _others(pid))


def _accept(server: socket.socket, path: str, pid: int) -> None:
    while True:
        client, (_, peer) = server.accept()
        if owned(pid, server.getsockname()[1], peer):
            threading.Thread(target=_pass, args=(client, path), daemon=True).start()
        else:
            client.close()


def _pass(client: socket.socket, path: str) -> None:
    with client, socket.socket(socket.AF_UNIX) as upstream, contextlib.suppress(OSError):
        upstream.connect(path)
        open_ = {client: upstream, upstream: client}
        while open_:
            for source in select.select(list(open_), [], [])[0]:
                chunk = source.recv(CHUNK)
                sink = upstream if source is client else client
                if chunk:
                    sink.sendall(chunk)
                    continue
                del open_[source]
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)


def _inode(port: int, peer: int) -> str:
    """Of the client's end, as the kernel lists it (/proc/net/tcp)."""
    with open("/proc/net/tcp") as file:  # noqa: PTH123 - started with -S, before any path is set up
        rows = [line.split() for line in file.readlines()[1:]]
    wanted = (f"0100007F:{peer:04X}", f"0100007F:{port:04X}")
    return next((row[9] for row in rows if (row[1], row[2]) == wanted), "")


def _holds(pid: int, inode: str) -> bool:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{name}") == f"socket:[{inode}]":  # noqa: PTH115
                    return True
    return False


def _others(pid: int) -> list[int]:
    """Every other process of this sandbox but ourselves."""
    found = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    return [other for other in found if other not in (pid, os.getpid())]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
