# SPDX-License-Identifier: MIT
"""Readings of a GPU, as far as they need none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avo_pytest.devices.cuda_nvml import Nvml, descendants, throttle_reasons

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


def test_throttle_bits_have_names_and_idle_is_none() -> None:
    assert throttle_reasons(0x1) == []
    assert throttle_reasons(0x4 | 0x40) == ["power cap", "hardware thermal"]


@needs_proc
def test_descendants_are_found_over_generations() -> None:
    grandchild = f"import subprocess, sys; subprocess.run([{sys.executable!r}, '-c', 'input()'])"
    before = descendants(os.getpid())
    process = subprocess.Popen(
        [sys.executable, "-c", f"print(flush=True); {grandchild}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        while len(found := descendants(os.getpid()) - before) < 2:
            assert process.poll() is None
        assert process.pid in found and os.getpid() not in found
        process.stdin.close()


def test_an_unknown_gpu_has_no_readings_and_raises_nothing() -> None:
    nvml = Nvml("GPU-00000000-0000-0000-0000-000000000000")
    assert nvml.absent
    assert set(nvml.identity().values()) == {None}
    readings = nvml.readings()
    assert readings["power_w"] is None and readings["foreign_processes"] == []
