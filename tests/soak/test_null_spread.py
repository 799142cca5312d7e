# SPDX-License-Identifier: MIT
"""A/A on a GPU: the candidate against its own code, in fresh processes.

    pytest -m soak -s tests/soak/test_null_spread.py     (needs an NVIDIA GPU)

prints the process values, what they say about the smallest difference that can be told, and which
configuration they owe it to.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from avo_pytest import arms, measuring
from avo_pytest.assignment import Request, assign
from avo_pytest.devices.probe import find_cuda
from avo_pytest.draw import points
from avo_pytest.run import Run
from avo_pytest.statistics import process_value
from avo_pytest.summary import paired_log_ratios

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 16
BLOCKS = 16
LIMIT = 0.0015  # upper 90 % limit of the sd of a process's geomean log ratio

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(find_cuda(0)[0] is None, reason="needs an NVIDIA GPU"),
]


def null_ratios(scratch: Path) -> dict[str, np.ndarray]:
    """Log ratios of candidate and twin, one a block, by configuration, from one fresh process."""
    request = Request(
        root=ROOT, kernel="attention", target="sm80", set="mha", incumbent="none", baselines=(),
        twin=True,
    )  # fmt: skip
    run = Run.begin(assign(request), lambda *_, **__: None)
    source = arms.candidate_source(run, scratch)
    arms.assemble(run, source, points(run.assignment, source.path), scratch)
    measuring.measure(run, BLOCKS)
    assert not run.failure, run.failure
    names = [c.name for c in run.assignment.throughput]
    ratios = {n: paired_log_ratios(run.samples, n, "candidate", "twin") for n in names}
    return {n: np.array(list(r.values())) for n, r in ratios.items()}


def test_the_spread_of_nothing(tmp_path: Path) -> None:
    processes = []
    for number in range(PROCESSES):
        processes.append(null_ratios(tmp_path))
        halves = [[r[i::2] for r in processes[-1].values()] for i in (0, 1)]
        values = [process_value(list(p.values())) for p in processes]
        even, odd = map(process_value, halves)
        print(f"process {number:2}: {values[-1]:+.5%} (half of its blocks {even:+.5%} {odd:+.5%})")
    for name in processes[0]:
        medians = [float(np.median(p[name])) for p in processes]
        block = statistics.median(float(np.std(p[name], ddof=1)) for p in processes)
        print(f"{name:28} sd: medians {statistics.stdev(medians):.4%}, blocks {block:.4%}")
    sd = statistics.stdev(values)
    degrees = len(values) - 1
    upper = sd * math.sqrt(degrees / chi2.ppf(0.10, degrees))
    print(f"mean {statistics.mean(values):+.5%}  sd {sd:.5%}  upper 90 % limit {upper:.5%}")
    assert upper <= LIMIT
