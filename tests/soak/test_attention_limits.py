# SPDX-License-Identifier: MIT
"""The study behind the limits of `correctness.py`: honest attention kernels on random points.

    pytest -m soak -s tests/soak/test_attention_limits.py

prints how much of each limit honest variants use; none may be refused.
"""

from __future__ import annotations

import importlib.util
import random
from collections import defaultdict
from pathlib import Path

import pytest

from avo_pytest.loading import load_problem

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 2000
NEAR_THROUGHPUT = 40  # one seed in so many is drawn near a throughput configuration

pytestmark = pytest.mark.soak


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def point(problem, seed):
    generator = random.Random(seed)
    bases = problem.throughput["cpu"]["cpu"]
    return problem.draw(generator, None if seed % NEAR_THROUGHPUT else generator.choice(bases))


def test_no_honest_variant_is_refused():
    problem = load_problem("attention", root=ROOT)
    variants = load(ROOT / "tests" / "attention_variants.py")
    used_rms, used_worst = defaultdict(list), defaultdict(list)
    checks, refused = 0, []
    for seed in range(SEEDS):
        c = point(problem, seed)
        for variant, kind, check in variants.verdicts(problem, c, seed):
            checks += 1
            if not check.ok:
                refused.append(f"seed {seed} {c.name} {variant} {kind}: {check.reason}")
            if kind != "exact" and check.error_rms is not None:
                for key in (kind, f"{kind}, {variant}", f"{kind}, {c.values}"):
                    used_rms[key].append(check.error_rms / check.limit_rms)
                    used_worst[key].append(check.error_worst / check.limit_worst)
    print(f"\n{SEEDS} points, {checks} checks, {len(refused)} refused")
    print(f"{'largest share of a limit used':40s}   RMS  worst")
    for key in sorted(used_rms):
        print(f"{key:40s} {max(used_rms[key]):5.2f}  {max(used_worst[key]):5.2f}")
    assert not refused, "\n".join(refused[:20])
