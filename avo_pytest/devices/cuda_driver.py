# SPDX-License-Identifier: MIT
"""The CUDA driver API with exceptions, and the device, context and stream of a worker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from cuda.bindings import driver

from avo_pytest.plan import DeviceFacts

SUCCESS = driver.CUresult.CUDA_SUCCESS
NOT_READY = driver.CUresult.CUDA_ERROR_NOT_READY

SPIN_S = 0.05  # a nap delays the next enqueue by more than a short launch takes
NAP_S = 0.0005

# After one of these the context is lost: every later call fails.
STICKY = frozenset(
    {
        "CUDA_ERROR_ASSERT",
        "CUDA_ERROR_CONTAINED",
        "CUDA_ERROR_ECC_UNCORRECTABLE",
        "CUDA_ERROR_EXTERNAL_DEVICE",
        "CUDA_ERROR_HARDWARE_STACK_ERROR",
        "CUDA_ERROR_ILLEGAL_ADDRESS",
        "CUDA_ERROR_ILLEGAL_INSTRUCTION",
        "CUDA_ERROR_INVALID_ADDRESS_SPACE",
        "CUDA_ERROR_INVALID_PC",
        "CUDA_ERROR_LAUNCH_FAILED",
        "CUDA_ERROR_LAUNCH_TIMEOUT",
        "CUDA_ERROR_MISALIGNED_ADDRESS",
        "CUDA_ERROR_TENSOR_MEMORY_LEAK",
        "CUDA_ERROR_UNKNOWN",
    }
)
MACHINE = frozenset({"CUDA_ERROR_ECC_UNCORRECTABLE", "CUDA_ERROR_CONTAINED"})


class CudaError(Exception):
    """A failed driver call. `sticky` says that the context is lost."""

    def __init__(self, code: Any) -> None:
        self.name = _text(driver.cuGetErrorName(code)) or f"CUDA error {code}"
        self.sticky = self.name in STICKY
        sentence = _text(driver.cuGetErrorString(code))
        super().__init__(f"{sentence} ({self.name})" if sentence else self.name)

    @property
    def status(self) -> str:
        """The `score.Status` value of an arm whose launch ended so."""
        if self.name in MACHINE:
            return "invalid"
        if self.name == "CUDA_ERROR_LAUNCH_TIMEOUT":
            return "timeout"
        return "crashed" if self.sticky else "launch_error"


class LaunchRefused(Exception):
    """A launch that this device cannot do; the sentence names function, asked and limit."""


def call(result: tuple[Any, ...]) -> Any:
    """The values of a driver call's (status, values…). Raises CudaError."""
    if result[0] != SUCCESS:
        raise CudaError(result[0])
    return result[1] if len(result) == 2 else result[1:]


def attribute(ordinal: int, name: str) -> int:
    """One CU_DEVICE_ATTRIBUTE_…; needs cuInit but no context."""
    wanted = getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
    return int(call(driver.cuDeviceGetAttribute(wanted, call(driver.cuDeviceGet(ordinal)))))


def device_facts(ordinal: int) -> DeviceFacts:
    """What a launch plan may depend on; needs cuInit but no context."""
    major = attribute(ordinal, "COMPUTE_CAPABILITY_MAJOR")
    minor = attribute(ordinal, "COMPUTE_CAPABILITY_MINOR")
    return DeviceFacts(
        arch=f"sm_{major}{minor}",
        num_sms=attribute(ordinal, "MULTIPROCESSOR_COUNT"),
        l2_bytes=attribute(ordinal, "L2_CACHE_SIZE"),
        smem_optin=attribute(ordinal, "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
    )


def device_uuid(ordinal: int) -> str:
    """The UUID by which NVML knows the device."""
    raw = bytes(call(driver.cuDeviceGetUuid(call(driver.cuDeviceGet(ordinal)))).bytes).hex()
    return f"GPU-{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"


def device_limits(ordinal: int) -> Mapping[str, int]:
    """Limits that explain a refused launch."""
    return {
        "shared memory per block": attribute(ordinal, "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
        "threads per block": attribute(ordinal, "MAX_THREADS_PER_BLOCK"),
        "registers per block": attribute(ordinal, "MAX_REGISTERS_PER_BLOCK"),
    }


class Context:
    """The primary context (torch's own) with one stream; `lost` after a sticky error or a hang.

    Persisting L2 lines are off, so that no arm can leave its data behind in the cache.
    """

    def __init__(self, ordinal: int) -> None:
        call(driver.cuInit(0))
        self.ordinal = ordinal
        self.facts = device_facts(ordinal)
        self.limits = device_limits(ordinal)
        self.lost = False
        self.device = call(driver.cuDeviceGet(ordinal))
        call(driver.cuCtxSetCurrent(call(driver.cuDevicePrimaryCtxRetain(self.device))))
        if attribute(ordinal, "MAX_PERSISTING_L2_CACHE_SIZE"):
            limit = driver.CUlimit.CU_LIMIT_PERSISTING_L2_CACHE_SIZE
            call(driver.cuCtxSetLimit(limit, 0))
            call(driver.cuCtxResetPersistingL2Cache())
        flags = driver.CUstream_flags.CU_STREAM_NON_BLOCKING
        self.stream = call(driver.cuStreamCreate(int(flags)))

    @property
    def stream_address(self) -> int:
        """The stream as torch.cuda.ExternalStream wants it."""
        return int(self.stream)

    def usable(self) -> bool:
        """False once an error has stuck or a kernel hangs: then nothing can be freed."""
        if not self.lost:
            self.lost = driver.cuStreamQuery(self.stream)[0] not in (SUCCESS, NOT_READY)
        return not self.lost

    def synchronize(self) -> None:
        """Wait for the whole device."""
        call(driver.cuCtxSynchronize())

    def wait(self, event: Any = None, *, timeout_s: float) -> None:
        """Wait for an event, or for all enqueued work. Raises TimeoutError and marks it lost: a
        kernel that hangs ends with its process only."""
        deadline = time.monotonic() + timeout_s
        spin_until = time.monotonic() + SPIN_S
        while True:
            code = (driver.cuEventQuery(event) if event else driver.cuStreamQuery(self.stream))[0]
            if code == SUCCESS:
                return
            if code != NOT_READY:
                raise CudaError(code)
            if (now := time.monotonic()) > deadline:
                self.lost = True
                raise TimeoutError(f"no result after {timeout_s:g} s")
            if now > spin_until:
                time.sleep(NAP_S)

    def fill(self, address: int, n_bytes: int, word: int) -> None:
        """Enqueue filling memory with a 32-bit word, cut off at the end."""
        if n_bytes >= 4:
            call(driver.cuMemsetD32Async(address, word, n_bytes // 4, self.stream))
        for i in range(n_bytes % 4):
            at = address + n_bytes - n_bytes % 4 + i
            call(driver.cuMemsetD8Async(at, word >> (8 * i) & 0xFF, 1, self.stream))

    def to_device(self, address: int, array: Any) -> None:
        """Copy a contiguous numpy array; returns when it has arrived."""
        if array.nbytes:
            call(driver.cuMemcpyHtoDAsync(address, array.ctypes.data, array.nbytes, self.stream))
            call(driver.cuStreamSynchronize(self.stream))

    def to_host(self, array: Any, address: int) -> None:
        """Fill a contiguous numpy array from the device, after all enqueued work."""
        if array.nbytes:
            call(driver.cuMemcpyDtoHAsync(array.ctypes.data, address, array.nbytes, self.stream))
            call(driver.cuStreamSynchronize(self.stream))

    def close(self) -> None:
        """Release stream and context; a lost context is left to the end of the process."""
        if self.usable():
            call(driver.cuStreamDestroy(self.stream))
            call(driver.cuDevicePrimaryCtxRelease(self.device))
        self.lost = True


def _text(result: tuple[Any, ...]) -> str:
    value = result[1] if result[0] == SUCCESS else None
    return value.decode() if isinstance(value, bytes) else str(value or "")
