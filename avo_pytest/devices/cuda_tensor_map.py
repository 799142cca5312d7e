# SPDX-License-Identifier: MIT
"""TMA descriptors of a plan's tensor maps."""

from __future__ import annotations

from ctypes import string_at
from typing import Any

from cuda.bindings import driver

from avo_pytest.devices.cuda_driver import CudaError, LaunchRefused, call
from avo_pytest.plan import TensorMap

TENSOR_MAP_BYTES = 128
_DTYPES = {
    "bf16": "BFLOAT16",
    "f16": "FLOAT16",
    "f32": "FLOAT32",
    "i32": "INT32",
    "u32": "UINT32",
    "u8": "UINT8",
}


def encode(map: TensorMap, address: int) -> bytes:
    """The 128-byte TMA descriptor of a view of the buffer at `address`."""
    wide, narrow = driver.cuuint64_t, driver.cuuint32_t
    fill = "NONE" if map.oob_fill == "zero" else "NAN_REQUEST_ZERO_FMA"
    try:
        encoded = call(
            driver.cuTensorMapEncodeTiled(
                _choice("DataType", "DATA_TYPE", _DTYPES[map.dtype]),
                len(map.dims),
                address + map.offset_bytes,
                [wide(n) for n in map.dims],
                [wide(n) for n in map.strides_bytes],
                [narrow(n) for n in map.box],
                [narrow(n) for n in map.element_strides],
                _choice("Interleave", "INTERLEAVE", _bytes_or_none(map.interleave)),
                _choice("Swizzle", "SWIZZLE", _bytes_or_none(map.swizzle)),
                _choice("L2promotion", "L2_PROMOTION", _l2_promotion(map.l2_promotion)),
                _choice("FloatOOBfill", "FLOAT_OOB_FILL", fill),
            )
        )
    except CudaError as error:
        raise LaunchRefused(f"tensor map {map.name!r} ({map}): {error}") from error
    return string_at(encoded.getPtr(), TENSOR_MAP_BYTES)


def _choice(enumeration: str, prefix: str, name: str) -> Any:
    return getattr(getattr(driver, f"CUtensorMap{enumeration}"), f"CU_TENSOR_MAP_{prefix}_{name}")


def _bytes_or_none(n_bytes: int) -> str:
    return f"{n_bytes}B" if n_bytes else "NONE"


def _l2_promotion(n_bytes: int) -> str:
    return f"L2_{n_bytes}B" if n_bytes else "NONE"
