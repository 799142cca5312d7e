# SPDX-License-Identifier: MIT
"""Ten thousand confirms of no change, drawn from the processes of a real calibration.

    AVO_RECORDS='.avo/runs/*/record.json' pytest -m soak -s tests/soak/test_resampled_confirms.py

takes records of `avo calibrate`, and of confirms without a screen whose candidate is the incumbent
but for its name (together 64 processes or more), draws the processes of each confirm with
replacement, and lets the real `decide` speak. Prints the share that it promotes with its upper
confidence limit; then, of values without their bias and at no gain, how many p-values are below
alpha (so many as alpha says, or fewer), and how far from uniform they are beside those of as many
normal values.
"""

from __future__ import annotations

import glob
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, kstest
from scipy.stats import t as student

from avo_pytest.calibration import calibrate, to_dict
from avo_pytest.confirm import confirm
from avo_pytest.policy import Policy
from avo_pytest.policy import from_dict as policy_of
from avo_pytest.promotion import decide
from avo_pytest.sample_size import plan
from avo_pytest.score import Record, Replicate, Sample

CONFIRMS = 10_000
REPLICATES = 16

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif("AVO_RECORDS" not in os.environ, reason="needs records of a GPU"),
]


@dataclass(frozen=True, slots=True)
class Process:
    """What one process left behind."""

    replicate: Replicate
    samples: Sequence[Sample]
    blocks: Sequence[Any]

    def numbered(self, number: int) -> Process:
        return Process(
            replace(self.replicate, number=number),
            [replace(s, replicate=number) for s in self.samples],
            [{**b, "replicate": number} for b in self.blocks],
        )


def processes(record: Record) -> list[Process]:
    return [
        Process(
            r,
            [s for s in record.samples if s.replicate == r.number],
            [b for b in record.blocks if b["replicate"] == r.number],
        )
        for r in record.replicates
    ]


def as_calibration(record: Record) -> Record:
    """A confirm's candidate differs from its incumbent in name: nothing else was changed in it."""
    name = next(arm.artifact for arm in record.arms if arm.role == "incumbent")
    arms = tuple(replace(a, artifact=name) if a.role == "candidate" else a for a in record.arms)
    return replace(record, mode="calibrate", arms=arms)


def template(record: Record, policy: Policy) -> Record:
    """A confirm of another artifact on the same device, without its samples."""
    arms = tuple(replace(a, artifact="other") if a.role == "candidate" else a for a in record.arms)
    checks = [replace(c, replicate=None) for c in record.checks if c.replicate in (None, 0)]
    late = [c for c in record.checks if c.replicate == 0]
    every = [replace(c, replicate=n) for n in range(REPLICATES) for c in late]
    return replace(
        record, mode="confirm", arms=arms, checks=(*checks, *every), policy=asdict(policy),
        attempts={"artifact": "other", "confirms": 0, "invalid": 0, "all_confirms": 0},
    )  # fmt: skip


def confirmed(template: Record, chosen: Sequence[Process]) -> Record:
    held = [p.numbered(number) for number, p in enumerate(chosen)]
    return replace(
        template,
        replicates=tuple(p.replicate for p in held),
        samples=tuple(s for p in held for s in p.samples),
        blocks=tuple(b for p in held for b in p.blocks),
    )


def test_confirms_of_no_change_are_not_promoted() -> None:
    paths = sorted(glob.glob(os.environ["AVO_RECORDS"]))  # noqa: PTH207 - an absolute pattern
    records = [Record.from_json(Path(path).read_text()) for path in paths]
    records = [r for r in records if r.mode == "calibrate" or not r.policy["screen_blocks"]]
    records.sort(key=lambda r: r.mode != "calibrate")
    pool = [p for record in records for p in processes(record)]
    assert len(pool) >= 64
    rules = replace(policy_of(records[0].policy), screen_blocks=0, replicates=REPLICATES)
    found = calibrate(as_calibration(records[0]))
    base = replace(template(records[0], rules), calibration=to_dict(found), plan=plan(rules, found))
    generator = random.Random(0)
    kinds: Counter[str] = Counter()
    p_values = []
    reasons: Counter[str] = Counter()
    for _ in range(CONFIRMS):
        verdict = decide(confirmed(base, generator.choices(pool, k=REPLICATES)), rules)
        kinds[verdict.kind] += 1
        reasons.update({f"{verdict.kind}: {r.rule}": 1 for r in verdict.reasons})
        if verdict.p_value is not None:
            p_values.append(verdict.p_value)
    promoted = kinds["PROMOTE"]
    upper = float(beta.ppf(0.95, promoted + 1, CONFIRMS - promoted))
    print(f"{len(pool)} processes of {len(records)} records; {CONFIRMS} confirms: {kinds}")
    print(f"promoted {promoted / CONFIRMS:.3%}, upper 95 % limit {upper:.3%}; {reasons}")
    print(f"p-values at min_gain: quartiles {np.quantile(p_values, [0, 0.25, 0.5, 0.75])}")
    assert upper <= rules.alpha_confirm
    values = centred(records)
    nothing = p_values_of_nothing(values, generator)
    border = int(np.sum(nothing <= rules.alpha_confirm))
    limits = (
        float(beta.ppf(0.05, border, CONFIRMS - border + 1)) if border else 0.0,
        float(beta.ppf(0.95, border + 1, CONFIRMS - border)),
    )
    distance, usual = kstest(nothing, "uniform").statistic, distances_of_normal_values(len(values))
    print(
        f"at a gain of 0: {border / CONFIRMS:.3%} below alpha = {rules.alpha_confirm:.3%}, "
        f"95 % limits {limits[0]:.3%} and {limits[1]:.3%}"
    )
    print(
        f"p-values: Kolmogorov distance {distance:.3f}; as many normal values: {usual:.3f} (99 %)"
    )
    assert limits[0] <= rules.alpha_confirm  # an exact test is at alpha there, not below
    assert distance <= usual


def centred(records: Sequence[Record]) -> np.ndarray:
    """The processes' values without the bias that those of one record have in common."""
    found = [np.array(calibrate(as_calibration(record)).values) for record in records]
    return np.concatenate([values - values.mean() for values in found])


def p_values_of_nothing(values: np.ndarray, generator: random.Random) -> np.ndarray:
    """The confirm's own test at its border: no bias, and no gain asked for."""
    draws = (generator.choices(values.tolist(), k=REPLICATES) for _ in range(CONFIRMS))
    return np.array([confirm(draw, min_gain=0.0).p_value for draw in draws])


def distances_of_normal_values(count: int, pools: int = 400) -> float:
    """Drawn from few values p-values are never quite uniform: the 99 % quantile of their distance
    where the values are normal."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(pools):
        pool = generator.standard_normal(count)
        draws = generator.choice(pool - pool.mean(), size=(CONFIRMS, REPLICATES))
        ratio = draws.mean(axis=1) / draws.std(axis=1, ddof=1) * np.sqrt(REPLICATES)
        p_values = student.sf(ratio, REPLICATES - 1)
        found.append(kstest(p_values, "uniform").statistic)
    return float(np.quantile(found, 0.99))
