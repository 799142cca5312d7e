# SPDX-License-Identifier: MIT
"""What NVML says of one GPU: identity and limits for the record, readings around a block.

Every reading may be missing (no rights, another driver, MIG): it is then None.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_THROTTLE = {
    0x2: "applications clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
    0x100: "display clocks",
}


class Nvml:
    """One GPU by UUID; `absent` says why there are no readings.

    `family`: a process whose descendants are ours too, as the judge's other replicates are.
    """

    def __init__(self, uuid: str, family: int = 0) -> None:
        self._handle: Any = None
        self._family = family or os.getpid()
        self._own = {os.getpid()}
        self.absent = ""
        try:
            from cuda.bindings import nvml

            self._nvml: Any = nvml
            nvml.init_v2()
            self._handle = nvml.device_get_handle_by_uuid(uuid)
        except Exception as error:  # a missing library raises what its loader likes
            self.absent = f"{type(error).__name__}: {error}"

    def identity(self) -> dict[str, Any]:
        """What does not change while we run."""
        read = self._read
        sm, memory = (int(k) for k in (1, 2))  # nvmlClockType_t
        limit_mw, ecc = read("device_get_enforced_power_limit"), read("device_get_ecc_mode")
        mig = read("device_get_mig_mode")
        return {
            "device": read("device_get_name"),
            "driver": None if self.absent else self._nvml.system_get_driver_version(),
            "vbios": read("device_get_vbios_version"),
            "ecc": None if ecc is None else bool(ecc[0]),
            "mig": None if mig is None else bool(mig[0]),
            "persistence": _bool(read("device_get_persistence_mode")),
            "power_limit_w": _thousandth(limit_mw),
            "sm_mhz_max": read("device_get_max_clock_info", sm),
            "memory_mhz_max": read("device_get_max_clock_info", memory),
        }

    def readings(self) -> dict[str, Any]:
        """What changes from block to block."""
        read = self._read
        reasons = read("device_get_current_clocks_event_reasons")
        return {
            "sm_mhz": read("device_get_clock_info", 1),
            "memory_mhz": read("device_get_clock_info", 2),
            "power_w": _thousandth(read("device_get_power_usage")),
            "temperature_c": read("device_get_temperature_v", 0),
            "energy_j": _thousandth(read("device_get_total_energy_consumption")),
            "throttle": reasons,
            "throttle_reasons": throttle_reasons(reasons or 0),
            "foreign_processes": self.foreign(),
        }

    def pids(self) -> set[int]:
        """Processes with a compute context, by the ids that NVML uses."""
        processes = self._read("device_get_compute_running_processes_v3")
        return set() if processes is None else {int(pid) for pid in _pids(processes)}

    def claim(self, before: set[int]) -> None:
        """Call after creating the context: in a container NVML may know us by another id."""
        new = self.pids() - before
        if os.getpid() not in self.pids() and len(new) == 1:
            self._own |= new

    def foreign(self) -> list[int]:
        """Processes on this GPU that are neither we nor started by us or our judge."""
        strangers = self.pids() - self._own
        return sorted(strangers - descendants(self._family)) if strangers else []

    def _read(self, function: str, *arguments: Any) -> Any:
        if self._handle is None:
            return None
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        except (self._nvml.NvmlError, AttributeError):
            return None


def throttle_reasons(bits: int) -> list[str]:
    """Names of the clocks-event bits that slow a GPU down (idle is none)."""
    return [name for bit, name in _THROTTLE.items() if bits & bit]


def descendants(pid: int) -> set[int]:
    """All processes below `pid` (Linux)."""
    children: dict[int, list[int]] = {}
    for child, parent in _processes():
        children.setdefault(parent, []).append(child)
    found: set[int] = set()
    pending = [pid]
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in found:
                found.add(child)
                pending.append(child)
    return found


def _processes() -> Iterator[tuple[int, int]]:
    """(pid, parent) of every process that can be seen."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        yield int(stat.parent.name), int(after_name[1])


def _pids(processes: Any) -> Iterable[Any]:
    try:
        return [process.pid for process in processes]
    except TypeError:  # one process comes as the record itself
        return [processes.pid]


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1000


def _bool(value: int | None) -> bool | None:
    return None if value is None else bool(value)
