# SPDX-License-Identifier: MIT
"""The only way out of a confined command: CONNECT to allow-listed hosts, over a Unix socket.

Bytes are passed on as they are: TLS is between the command and the host that it asked for.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import threading
from collections.abc import Collection
from pathlib import Path

ASKED = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}):(\d{1,5}) HTTP/1\.[01]\r\n")
MOST_HEADER = 16_384
TIMEOUT_S = 30.0
IDLE_S = 900.0
CHUNK = 65_536


class Proxy:
    """Listens until it is closed. `allowed`: `host` (port 443) or `host:port`."""

    def __init__(self, path: Path, allowed: Collection[str]) -> None:
        self.allowed = {name if ":" in name else f"{name}:443" for name in allowed}
        self.refused: list[str] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No new connections; those that are open end with their command."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            client.settimeout(TIMEOUT_S)
            header, rest = _header(client)
            found = ASKED.match(header)
            place = "" if found is None else f"{found[1].decode().lower()}:{int(found[2])}"
            if place not in self.allowed:
                self.refused.append(place or "no CONNECT")
                with contextlib.suppress(OSError):
                    client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            host, _, port = place.rpartition(":")
            try:
                upstream = socket.create_connection((host, int(port)), TIMEOUT_S)
            except OSError:
                with contextlib.suppress(OSError):
                    client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                return
            with upstream, contextlib.suppress(OSError):
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                upstream.sendall(rest)
                pump(client, upstream)


def pump(one: socket.socket, other: socket.socket) -> None:
    """Bytes both ways until either side ends or nothing comes for long."""
    one.settimeout(IDLE_S)
    other.settimeout(IDLE_S)
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while selector.get_map():
            ready = selector.select(IDLE_S)
            if not ready:
                return
            for key, _ in ready:
                source, sink = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                chunk = source.recv(CHUNK)
                if chunk:
                    sink.sendall(chunk)
                    continue
                selector.unregister(source)
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)


def _header(client: socket.socket) -> tuple[bytes, bytes]:
    text = b""
    with contextlib.suppress(OSError):
        while b"\r\n\r\n" not in text and len(text) < MOST_HEADER:
            chunk = client.recv(4096)
            if not chunk:
                break
            text += chunk
    header, end, rest = text.partition(b"\r\n\r\n")
    return (header + end, rest)
