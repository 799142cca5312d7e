# SPDX-License-Identifier: MIT
"""From a resolved launch of a plan to cuLaunchKernelEx: functions, limits, arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import addressof, c_void_p, create_string_buffer
from math import prod
from typing import Any

from cuda.bindings import driver

from avo_pytest.devices.cuda_arguments import pack
from avo_pytest.devices.cuda_driver import SUCCESS, Context, CudaError, LaunchRefused, call
from avo_pytest.plan import Launch

PORTABLE_CLUSTER = 8
PARAMETER_BYTES = 4096
GRID_LIMITS = (2**31 - 1, 65535, 65535)
_FUNCTION = driver.CUfunction_attribute


class Code:
    """A loaded cubin. Each arm loads its own copy."""

    def __init__(self, cubin: bytes) -> None:
        self._library = call(driver.cuLibraryLoadData(cubin, [], [], 0, [], [], 0))

    def kernel(self, name: str) -> Any:
        """The CUkernel of that name, loaded now and not at its first launch."""
        code, kernel = driver.cuLibraryGetKernel(self._library, name.encode())
        if code != SUCCESS:
            raise LaunchRefused(f'the code has no kernel {name!r}: is it extern "C"?')
        call(driver.cuKernelGetFunction(kernel))
        return kernel

    def close(self) -> None:
        """Unload."""
        call(driver.cuLibraryUnload(self._library))


class PreparedLaunch:
    """One launch with its arguments packed: `enqueue` does nothing but the driver call."""

    def __init__(
        self,
        context: Context,
        code: Code,
        launch: Launch,
        addresses: Mapping[str, int],
        maps: Mapping[str, bytes],
    ) -> None:
        self._launch = launch
        self._limits = context.limits
        self._device = context.device
        self._kernel = code.kernel(launch.function)
        self._check(context.facts.smem_optin)
        allow(self._kernel, launch, context.device)
        packed = [self._packed(i, maps, addresses) for i in range(len(launch.arguments))]
        self._check_arity(len(packed))
        # Room to spare: a kernel that takes a larger argument reads zeros, not the heap.
        self._values = [create_string_buffer(value, PARAMETER_BYTES) for value in packed]
        self._pointers = (c_void_p * max(1, len(packed)))(*map(addressof, self._values))
        self._at = addressof(self._pointers)
        self._config = launch_config(launch, context.stream)

    def enqueue(self) -> None:
        """Launch. Raises LaunchRefused, or CudaError when the context is lost."""
        result = driver.cuLaunchKernelEx(self._config, self._kernel, self._at, 0)
        if result[0] != SUCCESS:
            error = CudaError(result[0])
            raise error if error.sticky else LaunchRefused(self._sentence(str(error)))

    def _packed(self, index: int, maps: Mapping[str, bytes], addresses: Mapping[str, int]) -> bytes:
        argument = self._launch.arguments[index]
        what = f"argument {index + 1} ({argument.name or argument.kind})"
        try:
            value = pack(argument, addresses, maps)
        except ValueError as error:
            raise LaunchRefused(f"{self._launch.function}: {what}: {error}") from error
        code, _, size = driver.cuKernelGetParamInfo(self._kernel, index)
        if code == SUCCESS and size != len(value):
            raise LaunchRefused(
                f"{self._launch.function}: {what} has {len(value)} bytes, the kernel takes {size}"
            )
        return value

    def _check_arity(self, given: int) -> None:
        beyond = driver.cuKernelGetParamInfo(self._kernel, given)[0] == SUCCESS
        short = given and driver.cuKernelGetParamInfo(self._kernel, given - 1)[0] != SUCCESS
        if beyond or short:
            more = "more" if beyond else "fewer"
            raise LaunchRefused(
                f"{self._launch.function}: the kernel takes {more} than {given} arguments"
            )

    def _check(self, optin: int) -> None:
        launch = self._launch
        static = self._attribute("SHARED_SIZE_BYTES")
        asked = launch.shared_bytes + static
        if asked > optin:
            raise LaunchRefused(
                f"{launch.function}: {asked} bytes of shared memory per block asked "
                f"({launch.shared_bytes} dynamic + {static} static), the limit is {optin}"
            )
        threads = prod(launch.block)
        limit = self._attribute("MAX_THREADS_PER_BLOCK")
        if not 1 <= threads <= limit:
            raise LaunchRefused(
                f"{launch.function}: block {launch.block} has {threads} threads, the limit is "
                f"{limit}"
            )
        for size, most, axis in zip(launch.grid, GRID_LIMITS, "xyz", strict=True):
            if not 1 <= size <= most:
                raise LaunchRefused(
                    f"{launch.function}: grid {launch.grid}: {axis} must be 1 to {most}"
                )
        if launch.cluster and any(g % c for g, c in zip(launch.grid, launch.cluster, strict=True)):
            raise LaunchRefused(
                f"{launch.function}: cluster {launch.cluster} does not divide grid {launch.grid}"
            )

    def _attribute(self, name: str) -> int:
        return function_attribute(self._kernel, name, self._device)

    def _sentence(self, error: str) -> str:
        launch = self._launch
        asked = {
            "shared memory per block": launch.shared_bytes + self._attribute("SHARED_SIZE_BYTES"),
            "threads per block": prod(launch.block),
            "registers per block": self._attribute("NUM_REGS") * prod(launch.block),
        }
        limits = ", ".join(f"{what} {asked[what]} of {most}" for what, most in self._limits.items())
        shape = f"grid {launch.grid}, block {launch.block}, cluster {launch.cluster}"
        return f"{launch.function}: {error}; {shape}; asked of limit: {limits}"


def function_attribute(kernel: Any, name: str, device: Any) -> int:
    """One CU_FUNC_ATTRIBUTE_… of a kernel."""
    what = getattr(_FUNCTION, f"CU_FUNC_ATTRIBUTE_{name}")
    return int(call(driver.cuKernelGetAttribute(what, kernel, device)))


def allow(kernel: Any, launch: Launch, device: Any) -> None:
    """Set on the kernel what a launch needs: shared memory, carve-out, large clusters."""
    shared = "MAX_DYNAMIC_SHARED_SIZE_BYTES"
    wanted = {shared: max(launch.shared_bytes, function_attribute(kernel, shared, device))}
    if launch.carveout_percent is not None:
        wanted["PREFERRED_SHARED_MEMORY_CARVEOUT"] = launch.carveout_percent
    if launch.cluster and prod(launch.cluster) > PORTABLE_CLUSTER:
        wanted["NON_PORTABLE_CLUSTER_SIZE_ALLOWED"] = 1
    for name, value in wanted.items():
        what = getattr(_FUNCTION, f"CU_FUNC_ATTRIBUTE_{name}")
        call(driver.cuKernelSetAttribute(what, value, kernel, device))


def launch_config(launch: Launch, stream: Any) -> Any:
    """The CUlaunchConfig; its grid counts blocks, with or without clusters."""
    config = driver.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = launch.grid
    config.blockDimX, config.blockDimY, config.blockDimZ = launch.block
    config.sharedMemBytes = launch.shared_bytes
    config.hStream = stream
    attributes = _attributes(launch)
    config.numAttrs = len(attributes)
    config.attrs = attributes
    return config


def _attributes(launch: Launch) -> Sequence[Any]:
    attributes = []
    if launch.cluster:
        cluster = _launch_attribute("CLUSTER_DIMENSION")
        dimension = cluster.value.clusterDim
        dimension.x, dimension.y, dimension.z = launch.cluster
        attributes.append(cluster)
    if launch.cooperative:
        cooperative = _launch_attribute("COOPERATIVE")
        cooperative.value.cooperative = 1
        attributes.append(cooperative)
    if launch.programmatic:
        programmatic = _launch_attribute("PROGRAMMATIC_STREAM_SERIALIZATION")
        programmatic.value.programmaticStreamSerializationAllowed = 1
        attributes.append(programmatic)
    return attributes


def _launch_attribute(name: str) -> Any:
    attribute = driver.CUlaunchAttribute()
    attribute.id = getattr(driver.CUlaunchAttributeID, f"CU_LAUNCH_ATTRIBUTE_{name}")
    return attribute
