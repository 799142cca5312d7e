# SPDX-License-Identifier: MIT
"""The judge's own kernels compile for every architecture, without a driver."""

from __future__ import annotations

import pytest

pytest.importorskip("cuda.core", reason="needs the CUDA packages (avo-pytest[cuda])")

from avo_pytest.devices.cuda_trusted import Segments, compile_trusted  # noqa: E402

KERNELS = ["refresh", "fingerprint", "flush", "wipe_shared", "stamp", "hold", "canary"]


@pytest.mark.parametrize("arch", ["sm_80", "sm_86", "sm_90", "sm_100", "sm_120"])
def test_trusted_kernels_compile_and_keep_no_state(arch: str) -> None:
    cubin = compile_trusted(arch)
    assert cubin.startswith(b"\x7fELF")
    for kernel in KERNELS:
        assert f".text.{kernel}\0".encode() in cubin
    assert b".nv.global" not in cubin


def test_segments_are_laid_out_as_in_the_source() -> None:
    import ctypes

    assert (Segments.bytes.offset, Segments.key.offset) == (512, 1024)
    assert ctypes.sizeof(Segments) == 1536
