# SPDX-License-Identifier: MIT
"""The rules by which a launch counts as disturbed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from avo_pytest.devices.disturbance import (
    Probes,
    available_cpus,
    cpu_times,
    crowded,
    foreign_ms,
)

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


class Script:
    """Answers probes with given shares of 100 GFLOPS per core, then for ever the last."""

    def __init__(self, *shares: float) -> None:
        self.shares = list(shares)

    def probe(self, cpus: Sequence[int], seconds: float) -> list[float]:
        share = self.shares.pop(0) if len(self.shares) > 1 else self.shares[0]
        return [100.0 * share] * len(cpus)


def probes(*shares: float) -> Probes:
    return Probes(Script(*shares))


def test_usual_rates_are_not_slow() -> None:
    assert (probe := probes(1.0)).slow(probe.read()) is None
    assert probe.slow(0.95 * probe.usual()) is None


def test_slower_cores_are_reported_with_their_share() -> None:
    probe = probes(1.0)
    reason = probe.slow(0.8 * probe.usual())
    assert reason is not None
    assert "80%" in reason


def test_one_core_that_lost_a_third_is_enough() -> None:
    probe = probes(1.0)
    rates = probe.usual()
    rates[0] *= 0.66
    assert probe.slow(rates) is not None


def test_load_most_of_the_time_does_not_become_usual() -> None:
    probe = probes(*([0.5, 0.5, 1.0] * 20), 1.0)
    rates = [probe.read() for _ in range(55)]
    assert probe.usual() == pytest.approx([100.0] * len(available_cpus()))
    assert probe.slow(rates[0] * 0 + 50) is not None


def test_a_short_burst_is_waited_for() -> None:
    probe = probes(1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 1.0, 1.0)
    time.sleep(0.2)  # a part of which may be spent on waiting
    assert probe.slow(probe.settled()) is None
    assert probe.slow(probe.read()) is None


def test_a_lasting_load_is_not_waited_for_longer_than_a_share_of_the_time() -> None:
    probe = probes(*([1.0] * 5), *([0.5] * 10_000))
    begun = time.monotonic()
    time.sleep(0.1)
    reasons = [probe.slow(probe.settled()) for _ in range(10)]
    assert None not in reasons
    assert time.monotonic() - begun < 2.5  # ten times the longest wait is 3


@pytest.mark.parametrize(
    ("foreign", "threads", "cpus", "disturbed"),
    [
        (0.0, 2, 2, False),
        (4.0, 2, 2, False),  # 2 % of 200 ms
        (30.0, 2, 2, True),
        (30.0, 2, 8, False),  # there was room beside us
        (590.0, 2, 8, False),
        (620.0, 2, 8, True),
        (30.0, 4, 2, True),  # more threads than cores: no room at all
    ],
)
def test_foreign_load_counts_where_there_is_no_room(
    foreign: float, threads: int, cpus: int, disturbed: bool
) -> None:
    reason = crowded(foreign, 100.0, threads=threads, cpus=cpus)
    assert (reason is not None) == disturbed


def test_foreign_time_leaves_out_our_own_and_counts_newcomers() -> None:
    before, after = {1: 10_000_000, 2: 5_000_000}, {1: 12_000_000, 2: 9_000_000, 3: 1_000_000}
    assert foreign_ms(before, after, own={2}) == 3.0
    assert foreign_ms(before, after, own=set()) == 7.0


@linux
def test_cpu_times_sees_other_processes() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            before, deadline = cpu_times()[process.pid], time.monotonic() + 60
            while cpu_times()[process.pid] <= before:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.kill()
    assert process.pid not in cpu_times()
    assert cpu_times()[os.getpid()] > 0
