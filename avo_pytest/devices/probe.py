# SPDX-License-Identifier: MIT
"""Is there a CUDA device? For the judge and `avo doctor`: creates no context, raises nothing."""

from __future__ import annotations

import ctypes
from typing import Any

from avo_pytest.plan import DeviceFacts

DRIVER_LIBRARY = "libcuda.so.1"


def find_cuda(index: int = 0) -> tuple[DeviceFacts | None, dict[str, Any], str]:
    """(facts, identity by NVML, "") of device `index`, or (None, {}, why there is none)."""
    try:
        ctypes.CDLL(DRIVER_LIBRARY)  # the bindings may hang when asked without a driver
    except OSError:
        return None, {}, f"no NVIDIA driver ({DRIVER_LIBRARY} not found)"
    try:
        from cuda.bindings import driver

        from avo_pytest.devices.cuda_driver import call, device_facts, device_uuid
        from avo_pytest.devices.cuda_nvml import Nvml
    except ImportError as error:
        return None, {}, f"the CUDA packages are missing ({error}): pip install 'avo-pytest[cuda]'"
    try:
        call(driver.cuInit(0))
        count = int(call(driver.cuDeviceGetCount()))
        if not 0 <= index < count:
            return None, {}, f"no CUDA device {index}: the driver shows {count}"
        uuid = device_uuid(index)
        return device_facts(index), {**Nvml(uuid).identity(), "uuid": uuid}, ""
    except Exception as error:  # a half-installed driver fails in many ways
        return None, {}, f"{type(error).__name__}: {error}"
