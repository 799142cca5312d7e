# SPDX-License-Identifier: MIT
"""A/A on a GPU: the candidate against its own code, in fresh processes.

    pytest -m soak -s tests/soak/test_null_spread.py     (needs an NVIDIA GPU)

prints the process values and what they say about the smallest difference that can be told.
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


def null_value(scratch: Path) -> float:
    """Geomean log ratio of candidate and twin in one fresh process."""
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
    ratios = [paired_log_ratios(run.samples, n, "candidate", "twin") for n in names]
    return process_value([np.array(list(r.values())) for r in ratios])


def test_the_spread_of_nothing(tmp_path: Path) -> None:
    values = []
    for number in range(PROCESSES):
        values.append(null_value(tmp_path))
        print(f"process {number:2}: {values[-1]:+.5%}", flush=True)
    sd = statistics.stdev(values)
    degrees = len(values) - 1
    upper = sd * math.sqrt(degrees / chi2.ppf(0.10, degrees))
    print(f"mean {statistics.mean(values):+.5%}  sd {sd:.5%}  upper 90 % limit {upper:.5%}")
    assert upper <= LIMIT
