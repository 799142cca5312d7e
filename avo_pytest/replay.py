# SPDX-License-Identifier: MIT
"""Hands launches that were timed elsewhere to pytest-benchmark, by its public interface only.

Its timer is set to a clock that we wind: the clock shows 0 before a round and the sample after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from avo_pytest.score import Sample

PLUGIN_NAMES = ("benchmark", "pytest_benchmark.plugin")


def replayer(
    request: pytest.FixtureRequest, group: str, facts: Mapping[str, Any]
) -> Callable[[Sequence[Sample]], None]:
    """A function that gives samples to the test's benchmark; it does nothing where that is absent.

    `facts` go to the benchmark's extra_info.
    """
    if not any(request.config.pluginmanager.has_plugin(name) for name in PLUGIN_NAMES):
        return lambda samples: None
    now = 0.0

    def device_clock() -> float:
        return now

    def replay(samples: Sequence[Sample]) -> None:
        request.node.add_marker(pytest.mark.benchmark(timer=device_clock, group=group or None))
        benchmark = request.getfixturevalue("benchmark")
        times = iter([sample.ms / 1000 for sample in samples])

        def reset() -> None:
            nonlocal now
            now = 0.0

        def launch() -> None:
            nonlocal now
            now = next(times)

        benchmark.extra_info.update(facts)
        benchmark.pedantic(launch, setup=reset, rounds=len(samples), iterations=1)

    return replay
