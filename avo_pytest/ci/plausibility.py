# SPDX-License-Identifier: MIT
"""Could a machine have measured this? Bounds from data sheets and arithmetic, not from the record.

They catch a clumsy forger and a broken clock. Who invents samples below the bounds is caught by
witnesses and audits, if at all (docs/security.md).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from avo_pytest.problem import Problem
from avo_pytest.score import Record, Sample

MARGIN = 1.02  # clocks above the data sheet's
CPU_CEILING = 1.25  # of the peak that the machine itself showed: a probe runs for a millisecond
CPU_MOST_TFLOPS = 400.0  # no host has more; where it showed nothing


@dataclass(frozen=True, slots=True)
class Sheet:
    """What its maker says of a device: dense BF16, memory, cache, highest clock of its SMs."""

    tflops: float
    bytes_per_ms: float
    l2_bytes: int
    sm_mhz: int


def _sheet(tflops: float, terabytes_per_s: float, l2_mib: int, sm_mhz: int) -> Sheet:
    return Sheet(tflops, terabytes_per_s * 1e9, l2_mib << 20, sm_mhz)


# What NVML's name of a device begins with, the more special first. Sources: NVIDIA's data sheets of
# A100, H100 (SXM5, PCIe, NVL), H200, GH200, HGX B200 and HGX B300; dense BF16 is half of what they
# give with sparsity.
SHEETS: Mapping[str, Sheet] = {
    "NVIDIA A100": _sheet(312.0, 2.04, 40, 1410),
    "NVIDIA H100 PCIe": _sheet(756.5, 2.04, 50, 1980),
    "NVIDIA H100 NVL": _sheet(989.5, 3.94, 60, 1980),
    "NVIDIA H100": _sheet(989.5, 3.35, 50, 1980),
    "NVIDIA H200": _sheet(989.5, 4.80, 50, 1980),
    "NVIDIA GH200": _sheet(989.5, 4.90, 60, 1980),
    "NVIDIA B200": _sheet(2500.0, 8.0, 126, 2100),
    "NVIDIA GB200": _sheet(2500.0, 8.0, 126, 2100),
    "NVIDIA B300": _sheet(2500.0, 8.0, 126, 2100),
    "NVIDIA GB300": _sheet(2500.0, 8.0, 126, 2100),
}
GPU_MOST_TFLOPS = 2 * max(sheet.tflops for sheet in SHEETS.values())  # of one without a sheet
CLOCK_SLACK_S = 2.0  # a process's start and end are stamped by another process


def sheet_of(device: str) -> Sheet | None:
    """The data of a device; None where it has none here."""
    return next((sheet for name, sheet in SHEETS.items() if device.startswith(name)), None)


def findings(record: Record, problem: Problem) -> Iterator[str]:
    """What no machine of this name can have measured, a sentence each."""
    device = str(record.environment.get("device", ""))
    sheet = sheet_of(device)
    yield from _speed(record, problem, sheet)
    yield from _wall_clock(record)
    yield from _host_clock(record)
    yield from _frequencies(record, sheet)
    yield from _repetition(record)


def _speed(record: Record, problem: Problem, sheet: Sheet | None) -> Iterator[str]:
    """The median launch of an arm is not faster than arithmetic or memory allow."""
    if record.target == "simulated":  # whose times are scripted
        return
    flops = {c.name: c.flops for c in record.configurations}
    peak = _peak(record, sheet)
    bytes_of = _bytes(record, problem)
    for (name, arm), samples in _by_arm(record).items():
        ms = statistics.median(s.ms for s in samples)
        tflops = flops.get(name, 0.0) / (ms * 1e9) if ms > 0 else float("inf")
        if tflops > peak:
            yield f"{arm} on {name}: {tflops:.5g} TFLOPS, the device has {peak:.5g}"
        if sheet is not None:
            least = max(0, bytes_of.get(name, 0) - sheet.l2_bytes) / sheet.bytes_per_ms
            if ms < least:
                yield f"{arm} on {name}: {ms:.4g} ms, its memory alone takes {least:.4g} ms"


def _peak(record: Record, sheet: Sheet | None) -> float:
    """In TFLOPS. A host's is the highest rate that it showed between launches, with a margin: it is
    the record that says so, so no more is believed than any host has."""
    if record.target != "cpu":
        return MARGIN * sheet.tflops if sheet else GPU_MOST_TFLOPS
    shown = [_number(block.get("ceiling_tflops")) for block in record.blocks]
    return min(CPU_CEILING * max(shown, default=0.0) or CPU_MOST_TFLOPS, CPU_MOST_TFLOPS)


def _bytes(record: Record, problem: Problem) -> dict[str, int]:
    """Of the inputs and outputs of each configuration, each once."""
    kind = "cpu" if record.target == "cpu" else "cuda"
    found = problem.throughput.get(kind, {}).get(record.set, ())  # type: ignore[call-overload]
    return {c.name: sum(t.bytes for t in problem.tensors(c)) for c in found}


def _wall_clock(record: Record) -> Iterator[str]:
    """All launches of a process fit into its life."""
    spent: dict[int, float] = defaultdict(float)
    for sample in record.samples:
        spent[sample.replicate] += max(sample.ms, sample.host_ms) / 1e3
    for replicate in record.replicates:
        if spent[replicate.number] > replicate.seconds + CLOCK_SLACK_S:
            yield (
                f"replicate {replicate.number}: launches of {spent[replicate.number]:.1f} s in a "
                f"process that lived {replicate.seconds:.1f} s"
            )


def _host_clock(record: Record) -> Iterator[str]:
    """The host's span encloses the device's. (`decide` looks at each sample again.)"""
    wrong = [s for s in record.samples if not 0 < s.ms <= s.host_ms * 1.01 + 0.02]
    if wrong:
        first = wrong[0]
        yield f"{first.arm} on {first.configuration}: {first.ms} ms within {first.host_ms} ms"


def _frequencies(record: Record, sheet: Sheet | None) -> Iterator[str]:
    """Clocks that were read are not above the highest that the device has."""
    if sheet is None:
        return
    around = [block.get(when) for block in record.blocks for when in ("before", "after")]
    read = [_number(readings.get("sm_mhz")) for readings in around if isinstance(readings, dict)]
    if read and max(read) > sheet.sm_mhz * MARGIN:
        yield f"SM clocks of {max(read):g} MHz, the device has {sheet.sm_mhz}"


def _repetition(record: Record) -> Iterator[str]:
    """Times measured on a real clock do not repeat to the last digit for long."""
    if record.target == "simulated":
        return
    for (name, arm), samples in _by_arm(record).items():
        same = longest = 0
        for before, after in pairwise(samples):
            same = same + 1 if before.host_ms == after.host_ms else 0
            longest = max(longest, same)
        if longest >= 8:
            yield f"{arm} on {name}: {longest + 1} launches in a row of the same {samples[0].ms} ms"


def _number(value: Any) -> float:
    """A reading; 0 where there is none."""
    return value if isinstance(value, int | float) else 0.0


def _by_arm(record: Record) -> dict[tuple[str, str], list[Sample]]:
    found: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in record.samples:
        found[sample.configuration, sample.arm].append(sample)
    return found
