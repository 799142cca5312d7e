# SPDX-License-Identifier: MIT
"""Device buffers that notice a stray write.

Each buffer has an address range of its own: unmapped pages around it (an access there is a fault)
and random canary bytes in the slack between the pages' ends and the data. The data ends where its
last page ends, up to the alignment of 1024 bytes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cuda.bindings import driver

from avo_pytest.devices.cuda_driver import CudaError, LaunchRefused, attribute, call
from avo_pytest.devices.cuda_trusted import Trusted

ALIGNMENT = 1024
MARGIN_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Buffer:
    """`bytes` at `address`, inside the accessible range [start, start + length)."""

    name: str
    address: int
    bytes: int
    start: int
    length: int
    free: Callable[[], None]

    @property
    def slack(self) -> tuple[tuple[str, int, int], ...]:
        """(where, address, bytes) of the canaries."""
        end = self.address + self.bytes
        return (
            (f"before the start of {self.name}", self.start, self.address - self.start),
            (f"after the end of {self.name}", end, self.start + self.length - end),
        )


class Memory:
    """Allocates guarded buffers; `guard` says how they are guarded on this device."""

    def __init__(self, ordinal: int, *, guard_pages: bool = True) -> None:
        self._property = driver.CUmemAllocationProp()
        self._property.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        self._property.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        self._property.location.id = ordinal
        self._page = 0
        self.guard = "unmapped pages and canaries"
        try:
            if not guard_pages:
                raise NotImplementedError("guard pages are not wanted")
            if not attribute(ordinal, "VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED"):
                raise NotImplementedError("the driver has no virtual memory management")
            minimum = driver.CUmemAllocationGranularity_flags
            flag = minimum.CU_MEM_ALLOC_GRANULARITY_MINIMUM
            self._page = call(driver.cuMemGetAllocationGranularity(self._property, flag))
            self.allocate("trial", 1).free()
        except (CudaError, LaunchRefused, NotImplementedError) as error:
            self._page = 0
            self.guard = f"canaries only: {error}"

    def allocate(self, name: str, n_bytes: int) -> Buffer:
        """A buffer of at least one byte. Raises LaunchRefused when memory is short."""
        size = max(n_bytes, 1)
        try:
            return self._mapped(name, size) if self._page else self._plain(name, size)
        except CudaError as error:
            raise LaunchRefused(f"{name}: {n_bytes} bytes of device memory: {error}") from error

    def _mapped(self, name: str, n_bytes: int) -> Buffer:
        page = self._page
        used = _round_up(n_bytes, ALIGNMENT)
        length = _round_up(used, page)
        handle = call(driver.cuMemCreate(length, self._property, 0))
        reserved = int(call(driver.cuMemAddressReserve(length + 2 * page, 0, 0, 0)))
        start = reserved + page
        call(driver.cuMemMap(start, length, 0, handle, 0))
        call(driver.cuMemRelease(handle))  # the mapping keeps it alive
        access = driver.CUmemAccessDesc()
        access.location = self._property.location
        access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
        call(driver.cuMemSetAccess(start, length, [access], 1))

        def free() -> None:
            call(driver.cuMemUnmap(start, length))
            call(driver.cuMemAddressFree(reserved, length + 2 * page))

        return Buffer(name, start + length - used, n_bytes, start, length, free)

    def _plain(self, name: str, n_bytes: int) -> Buffer:
        length = _round_up(n_bytes, ALIGNMENT) + ALIGNMENT + 2 * MARGIN_BYTES
        pointer = call(driver.cuMemAlloc(length))
        start = int(pointer)
        address = _round_up(start + MARGIN_BYTES, ALIGNMENT)
        return Buffer(
            name, address, n_bytes, start, length, lambda: call(driver.cuMemFree(pointer))
        )


class Canaries:
    """Random bytes in the slack of buffers. The keys are on the device only while it checks."""

    def __init__(self, trusted: Trusted, buffers: Sequence[Buffer]) -> None:
        self._trusted = trusted
        self._segments = [
            (where, address, n_bytes, secrets.randbits(64))
            for buffer in buffers
            for where, address, n_bytes in buffer.slack
            if n_bytes
        ]
        self.paint()

    def paint(self) -> None:
        """(Re)write all of them."""
        self._trusted.paint(self._geometry())

    def damage(self) -> str | None:
        """Where they were overwritten, or None; damaged ones are painted again."""
        counts = self._trusted.differing(self._geometry())
        broken = [
            f"wrote outside its buffers: {count} of the bytes {segment[0]}"
            for segment, count in zip(self._segments, counts, strict=True)
            if count
        ]
        if not broken:
            return None
        self.paint()
        return "; ".join(broken)

    def _geometry(self) -> list[tuple[int, int, int]]:
        return [segment[1:] for segment in self._segments]


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
