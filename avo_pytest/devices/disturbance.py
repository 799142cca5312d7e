# SPDX-License-Identifier: MIT
"""Was the machine ours while an arm ran? Evidence that the arm itself can neither hide nor fake.

Two witnesses: the FMA rate of every core just before and just after the launch (slow cores,
hypervisor, frequency), and the CPU time that other processes used during it.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from avo_pytest.devices.native import Trusted

PROBE_S = 0.001
PATIENCE_S, PAUSE_S = 0.3, 0.01  # a neighbour on the same core comes and goes within 0.1 to 1 s
WAITING = 0.3  # of all time, at most
WINDOW = 128  # probes that the usual rate of a core is taken from
SLOW_MEAN, SLOW_CORE = 0.90, 0.70  # of the usual rate, all cores together and the slowest one
FOREIGN_SHARE = 0.05  # of the CPU time that the arm's threads could have used


class Probes:
    """FMA rates of the cores this process may use, and what is usual for each."""

    def __init__(self, trusted: Trusted) -> None:
        self._trusted = trusted
        self.cpus = available_cpus()
        self._past: deque[list[float]] = deque(maxlen=WINDOW)
        self._begun, self._waited = time.monotonic(), 0.0
        for _ in range(5):
            self.read()

    def read(self) -> NDArray[np.float64]:
        """GFLOPS of each core, from a burst of one millisecond."""
        rates = self._trusted.probe(self.cpus, PROBE_S)
        self._past.append(rates)
        return np.array(rates)

    def settled(self) -> NDArray[np.float64]:
        """The same once no core is slow, or after PATIENCE_S: most bursts of others are shorter.

        One reading a call counts for what is usual, so that waiting does not make slowness usual;
        and waiting takes no more than WAITING of the time, for where it does not help.
        """
        rates = self.read()
        begun = now = time.monotonic()
        most = min(PATIENCE_S, WAITING * (begun - self._begun) - self._waited)
        while self.slow(rates) is not None and now - begun < most:
            time.sleep(PAUSE_S)
            rates = np.array(self._trusted.probe(self.cpus, PROBE_S))
            now = time.monotonic()
        self._waited += now - begun
        return rates

    def usual(self) -> NDArray[np.float64]:
        """Each core's upper quartile: unmoved by load for up to three quarters of the time."""
        quartile: NDArray[np.float64] = np.quantile(np.array(self._past), 0.75, axis=0)
        return quartile

    def slow(self, rates: NDArray[np.float64]) -> str | None:
        """None, or how far these rates fall below the usual ones."""
        share = rates / self.usual()
        mean, worst = float(share.mean()), float(share.min())
        if mean >= SLOW_MEAN and worst >= SLOW_CORE:
            return None
        return f"cores at {mean:.0%} of their usual FMA rate (slowest {worst:.0%})"


def available_cpus() -> list[int]:
    """The CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def process_cpu_ns(pid: int) -> int | None:
    """CPU time of all threads of a process, living and dead; None where it cannot be read."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)  # the kernel's encoding of "CPU clock of pid"
    except OSError:
        return None


def cpu_times() -> dict[int, int]:
    """CPU time of every process that can be seen, in ns; empty where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return {}
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - faster
    return {pid: ns for pid in pids if (ns := process_cpu_ns(pid)) is not None}


def foreign_ms(before: Mapping[int, int], after: Mapping[int, int], own: Collection[int]) -> float:
    """CPU time that processes other than `own` used between two readings of `cpu_times`."""
    return sum(ns - before.get(pid, 0) for pid, ns in after.items() if pid not in own) / 1e6


def crowded(foreign: float, ms: float, *, threads: int, cpus: int) -> str | None:
    """None, or how much foreign load (ms of CPU) an arm of so many threads had to bear."""
    excess = foreign - max(0, cpus - threads) * ms
    if excess <= FOREIGN_SHARE * threads * ms:
        return None
    return f"other processes used {foreign:.1f} ms of CPU during {ms:.1f} ms"
