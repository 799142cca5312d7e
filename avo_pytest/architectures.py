# SPDX-License-Identifier: MIT
"""GPU architectures: what a target is compiled for, and typical facts without a device."""

from __future__ import annotations

import platform

from avo_pytest.plan import DeviceFacts
from avo_pytest.specification import Target

_KIB = 1024
# One common device of each, for `avo build` on a machine without it; a judge passes the real facts.
TYPICAL = {
    facts.arch: facts
    for facts in (
        DeviceFacts("sm_80", num_sms=108, l2_bytes=40 << 20, smem_optin=163 * _KIB),  # A100
        DeviceFacts("sm_86", num_sms=84, l2_bytes=6 << 20, smem_optin=99 * _KIB),  # A40, RTX 3090
        DeviceFacts("sm_89", num_sms=142, l2_bytes=96 << 20, smem_optin=99 * _KIB),  # L40S
        DeviceFacts("sm_90", num_sms=132, l2_bytes=50 << 20, smem_optin=227 * _KIB),  # H100 SXM
        DeviceFacts("sm_100", num_sms=148, l2_bytes=126 << 20, smem_optin=227 * _KIB),  # B200
        DeviceFacts("sm_103", num_sms=148, l2_bytes=126 << 20, smem_optin=227 * _KIB),  # B300
        DeviceFacts("sm_120", num_sms=170, l2_bytes=96 << 20, smem_optin=99 * _KIB),  # RTX 5090
    )
}
_FAMILY = {"sm90": {90: "sm_90a"}, "sm100": {100: "sm_100a", 103: "sm_103a"}}
_OLDEST = 80


def capability(arch: str) -> int:
    """90 for "sm_90"; 0 for a CPU."""
    digits = arch.removeprefix("sm_").rstrip("af")
    return int(digits) if arch.startswith("sm_") and digits.isdigit() else 0


def compile_arch(target: Target, device_arch: str) -> str | None:
    """The compiler's architecture for a target on a device, or None where the target cannot run."""
    number = capability(device_arch)
    if target == "cpu":
        return device_arch if number == 0 else None
    if target == "sm80":
        return f"sm_{number}" if number >= _OLDEST else None
    return _FAMILY[target].get(number)


def typical_facts(target: Target, arch: str | None = None) -> DeviceFacts:
    """Facts to build with when there is no device. Raises KeyError naming what is known."""
    if target == "cpu":
        if arch not in (None, platform.machine()):
            raise KeyError(f"target cpu is built for this machine: {platform.machine()}")
        return DeviceFacts(arch=platform.machine())
    wanted = (arch or {"sm80": "sm_80", "sm90": "sm_90", "sm100": "sm_100"}[target]).rstrip("af")
    if wanted not in TYPICAL or compile_arch(target, wanted) is None:
        able = ", ".join(a for a in TYPICAL if compile_arch(target, a))
        raise KeyError(f"target {target} cannot be built for {arch}; it can for {able}")
    return TYPICAL[wanted]
