# SPDX-License-Identifier: MIT
"""The judge's own kernels (trusted.cu): compiled once per process, run on the worker's stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ctypes import Array, Structure, addressof, c_uint32, c_uint64, c_void_p
from importlib.resources import files
from typing import Any

import numpy as np
from cuda.bindings import driver

from avo_pytest.devices.cuda_driver import Context, call

HOLD_LIMIT_NS = 80_000_000  # a held stream goes on by itself, should the host be this late
SEGMENTS = 64
THREADS = 256
STAMP_BYTES = 3 * 8


class Segments(Structure):
    """`struct Segments` of trusted.cu."""

    _fields_ = (
        ("address", c_uint64 * SEGMENTS),
        ("bytes", c_uint64 * SEGMENTS),
        ("key", c_uint64 * SEGMENTS),
    )
    address: Array[c_uint64]
    bytes: Array[c_uint64]
    key: Array[c_uint64]


def compile_trusted(arch: str) -> bytes:
    """The cubin of trusted.cu; needs NVRTC but no driver."""
    from cuda.core import Program, ProgramOptions

    source = files("avo_pytest.devices").joinpath("trusted.cu").read_text("utf-8")
    program = Program(source, "c++", ProgramOptions(std="c++17", arch=arch))
    return bytes(program.compile("cubin").code)


class Trusted:
    """Enqueues trusted kernels; a method that returns numbers waits for them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        code = compile_trusted(context.facts.arch)
        self._library = call(driver.cuLibraryLoadData(code, [], [], 0, [], [], 0))
        self._kernels: dict[str, Any] = {}
        self._sms = context.facts.num_sms
        self._flush_bytes = max(2 * context.facts.l2_bytes, 1 << 20)
        self._flushed = int(call(driver.cuMemAlloc(self._flush_bytes)))
        call(driver.cuMemsetD32(self._flushed, 0, self._flush_bytes // 4))
        self._shared_bytes = self._allow_all_shared_memory()
        self._stamps = int(call(driver.cuMemAlloc(2 * self._sms * STAMP_BYTES)))
        self._counts = int(call(driver.cuMemAlloc(8 * SEGMENTS)))
        self._fingerprints, self._fingerprint_bytes = 0, 0
        flags = driver.CU_MEMHOSTALLOC_DEVICEMAP
        self._gate = int(call(driver.cuMemHostAlloc(8, flags)))
        self._gate_on_device = int(call(driver.cuMemHostGetDevicePointer(self._gate, 0)))
        self._ticket = 0
        self.release()

    def refresh(self, address: int, elements: int, base: int, table: int) -> None:
        """Contents of a BF16 tensor (inputs.py); `table` is the device address of its quantiles."""
        values = (c_uint64(address), c_uint64(elements), c_uint64(base), c_uint64(table))
        self._launch("refresh", self._blocks(-(-elements // 4)), *values)

    def wipe_shared(self, pattern: int) -> None:
        """Overwrite the shared memory of every SM."""
        values = (c_uint32(self._shared_bytes // 4), c_uint32(pattern))
        self._launch("wipe_shared", self._sms, *values, threads=1024, shared=self._shared_bytes)

    def flush(self) -> None:
        """Read twice the L2's size."""
        count = self._flush_bytes // 16
        values = (c_uint64(self._flushed), c_uint64(count), c_uint32(1), c_uint64(self._counts))
        self._launch("flush", self._blocks(count), *values)

    def stamp(self, which: int) -> None:
        """Note every SM's cycle counter and the common clock, before (0) or after (1) a launch."""
        at = self._stamps + which * self._sms * STAMP_BYTES
        self._launch("stamp", self._sms, c_uint64(at), threads=1024)

    def sm_mhz(self) -> float:
        """Median SM clock between the two stamps; 0 when no SM appears in both."""
        stamps = np.empty((2, self._sms, 3), np.int64)
        self._context.to_host(stamps, self._stamps)
        _, at0, at1 = np.intersect1d(stamps[0, :, 0], stamps[1, :, 0], return_indices=True)
        cycles, ns = (stamps[1, at1, 1:] - stamps[0, at0, 1:]).T
        return float(np.median(cycles[ns > 0] / ns[ns > 0]) * 1e3) if (ns > 0).any() else 0.0

    def hold(self) -> None:
        """Keep the stream from going on until `release` (or HOLD_LIMIT_NS)."""
        self._ticket += 1
        values = (c_uint64(self._gate_on_device), c_uint32(self._ticket), c_uint64(HOLD_LIMIT_NS))
        self._launch("hold", 1, *values, threads=1)

    def release(self) -> None:
        """Let every held stream go on."""
        c_uint32.from_address(self._gate).value = self._ticket

    def fingerprint(self, address: int, rows: int, width: int, secret: int) -> Any:
        """float32 [rows, 3] (inputs.py); nothing of it stays on the device."""
        result = np.empty((rows, 3), np.float32)
        at = self._room(result.nbytes)
        lanes = min(32, 1 << (-(-width // 32) - 1).bit_length())
        values = (c_uint64(address), c_uint64(rows), c_uint32(width), c_uint32(lanes))
        blocks = self._blocks(rows * lanes)
        self._launch("fingerprint", blocks, *values, c_uint64(secret), c_uint64(at))
        self._context.to_host(result, at)
        self._context.fill(at, result.nbytes, 0)
        return result

    def paint(self, segments: Sequence[tuple[int, int, int]]) -> None:
        """Write canaries: (address, bytes, key) each."""
        for chunk in _chunks(segments):
            self._canary(chunk, 0)

    def differing(self, segments: Sequence[tuple[int, int, int]]) -> list[int]:
        """How many bytes of each canary differ."""
        counts: list[int] = []
        for chunk in _chunks(segments):
            result = np.empty(len(chunk), np.uint32)
            self._context.fill(self._counts, result.nbytes, 0)
            self._canary(chunk, self._counts)
            self._context.to_host(result, self._counts)
            counts += result.tolist()
        return counts

    def close(self) -> None:
        """Free what the kernels used."""
        for address in (self._flushed, self._stamps, self._counts, self._fingerprints):
            if address:
                call(driver.cuMemFree(address))
        call(driver.cuMemFreeHost(self._gate))
        call(driver.cuLibraryUnload(self._library))

    def _allow_all_shared_memory(self) -> int:
        wanted = self._context.facts.smem_optin
        limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        call(driver.cuFuncSetAttribute(self._kernel("wipe_shared"), limit, wanted))
        return wanted

    def _room(self, n_bytes: int) -> int:
        if n_bytes > self._fingerprint_bytes:
            if self._fingerprints:
                call(driver.cuMemFree(self._fingerprints))
            self._fingerprints = int(call(driver.cuMemAlloc(n_bytes)))
            self._fingerprint_bytes = n_bytes
        return self._fingerprints

    def _canary(self, segments: Sequence[tuple[int, int, int]], wrong: int) -> None:
        table = Segments()
        for i, (address, n_bytes, key) in enumerate(segments):
            table.address[i], table.bytes[i], table.key[i] = address, n_bytes, key
        blocks = max(8, 8 * self._sms // len(segments))
        self._launch("canary", blocks, table, c_uint64(wrong), grid_y=len(segments))

    def _blocks(self, threads: int) -> int:
        return max(1, min(-(-threads // THREADS), self._sms * 8))

    def _kernel(self, name: str) -> Any:
        if name not in self._kernels:
            kernel = call(driver.cuLibraryGetKernel(self._library, name.encode()))
            self._kernels[name] = call(driver.cuKernelGetFunction(kernel))
        return self._kernels[name]

    def _launch(
        self,
        name: str,
        blocks: int,
        *values: Any,
        threads: int = THREADS,
        shared: int = 0,
        grid_y: int = 1,
    ) -> None:
        pointers = (c_void_p * len(values))(*map(addressof, values))
        shape = (blocks, grid_y, 1, threads, 1, 1, shared)
        at = addressof(pointers)
        call(driver.cuLaunchKernel(self._kernel(name), *shape, self._context.stream, at, 0))


def _chunks(segments: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(segments), SEGMENTS):
        yield segments[first : first + SEGMENTS]
