# SPDX-License-Identifier: MIT
"""Memory shared with the children of the CPU device, handed over by descriptor.

The slack between the end of the contents and the end of the page holds a canary; children map the
block between unreachable pages. Inputs are sealed (Linux): once mapped here, nobody else can write.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import sys
import tempfile

import numpy as np
from numpy.typing import NDArray

SEALABLE = sys.platform.startswith("linux")
_F_SEAL_SEAL, _F_SEAL_SHRINK, _F_SEAL_GROW, _F_SEAL_FUTURE_WRITE = 1, 2, 4, 16


class Shared:
    """`bytes` of memory, mapped writable here. `fd` is what a child maps."""

    def __init__(self, name: str, size: int, *, sealed: bool = False) -> None:
        self.name, self.bytes = name, size
        self.mapped_bytes = max(1, -(-size // mmap.PAGESIZE)) * mmap.PAGESIZE
        self.fd = _anonymous_file(name)
        os.ftruncate(self.fd, self.mapped_bytes)
        self._mapping = mmap.mmap(self.fd, self.mapped_bytes)
        if sealed and SEALABLE:
            seals = _F_SEAL_FUTURE_WRITE | _F_SEAL_SHRINK | _F_SEAL_GROW | _F_SEAL_SEAL
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
        everything = np.frombuffer(self._mapping, dtype=np.uint8)
        self.contents: NDArray[np.uint8] = everything[:size]
        self._slack: NDArray[np.uint8] = everything[size:]
        self._canary = np.frombuffer(secrets.token_bytes(self._slack.size), dtype=np.uint8)
        self._slack[:] = self._canary

    @property
    def lanes(self) -> NDArray[np.uint16]:
        """The contents as 16-bit elements."""
        return self.contents[: self.bytes // 2 * 2].view(np.uint16)

    def trespass(self) -> int:
        """How many canary bytes were changed since the last call."""
        changed = int(np.count_nonzero(self._slack != self._canary))
        if changed:
            self._slack[:] = self._canary
        return changed

    def close(self) -> None:
        """Give the memory back once no array uses it. Safe to call twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _anonymous_file(name: str) -> int:
    if SEALABLE:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
