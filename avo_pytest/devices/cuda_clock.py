# SPDX-License-Identifier: MIT
"""One timed launch: trusted events around exactly the arm's work, with everything enqueued ahead.

The device works on poison, flush and stamp while the host enqueues what follows, so it never idles
before the launch. Where the host was too slow all the same (the start event had passed before the
end event was enqueued), the time would contain the host's: the sample is disturbed, and the stage's
later launches wait behind a held stream until all of it is enqueued.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from cuda.bindings import driver

from avo_pytest.devices import Timing
from avo_pytest.devices.cuda_driver import SUCCESS, Context, call
from avo_pytest.devices.cuda_trusted import Trusted


class Work(Protocol):
    """An arm, as the clock sees it. All enqueue on the worker's stream; `enqueue` is timed."""

    @property
    def facts(self) -> Mapping[str, float]:
        """Readings of the arm itself, for the record."""

    def scrub(self, poison: int) -> None:
        """Leave nothing of this arm's last launch: called before the next launch of any arm."""

    def prepare(self, poison: int) -> None:
        """Before this arm's clock starts."""

    def enqueue(self) -> None:
        """What is timed."""

    def finish(self) -> None:
        """After the clock was stopped."""

    def damage(self) -> str | None:
        """What the launch changed in workspaces that it must not, after it is complete."""


class LaunchClock:
    """Times launches on the worker's stream, one at a time."""

    def __init__(self, context: Context, trusted: Trusted) -> None:
        self._context, self._trusted = context, trusted
        self._start, self._end, self._done = (self._event() for _ in range(3))

    def time(
        self,
        work: Work,
        prepare: Callable[[], None],
        *,
        held: bool,
        rest_ms: float,
        timeout_s: float,
    ) -> Timing:
        """Prepare, flush, launch, wait. A rest is spent behind the held stream, whose one waiting
        thread keeps the clocks up. Raises TimeoutError, CudaError, LaunchRefused."""
        begun = time.perf_counter_ns()
        if held:
            self._trusted.hold()
        try:
            prepare()
            self._trusted.flush()
            self._trusted.stamp(0)
            self._record(self._start)
            work.enqueue()
            self._record(self._end)
            late = driver.cuEventQuery(self._start)[0] == SUCCESS
            self._trusted.stamp(1)
            self._record(self._done)
            enqueued = time.perf_counter_ns()
            time.sleep(max(0.0, rest_ms / 1e3 - (enqueued - begun) / 1e9))
        finally:
            self._trusted.release()
        work.finish()
        self._context.wait(self._done, timeout_s=timeout_s)
        host_ms = (time.perf_counter_ns() - begun) / 1e6
        self._context.synchronize()
        return Timing(
            ms=float(call(driver.cuEventElapsedTime(self._start, self._end))),
            host_ms=host_ms,
            disturbed="host-bound: the device waited for the launch" if late else None,
            facts={
                "sm_mhz": self._trusted.sm_mhz(),
                "enqueue_ms": (enqueued - begun) / 1e6,
                "held": float(held),
                **work.facts,
            },
        )

    def close(self) -> None:
        """Destroy the events."""
        for event in (self._start, self._end, self._done):
            call(driver.cuEventDestroy(event))

    def _event(self) -> Any:
        return call(driver.cuEventCreate(int(driver.CUevent_flags.CU_EVENT_DEFAULT)))

    def _record(self, event: Any) -> None:
        call(driver.cuEventRecord(event, self._context.stream))
