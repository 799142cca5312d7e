# SPDX-License-Identifier: MIT
"""Claims against an audit: honest lineages hold, inflated ones do not, and only what adds up is
added up."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from avo_pytest.claims import HOLDS, claims, compare
from avo_pytest.confirm import confirm
from avo_pytest.entries import AUDIT, REVERT, SEED, VERDICT, Entry
from avo_pytest.intervals import Estimate, estimate, t_quantile
from avo_pytest.lineage import Lineage, lineage, lineages

ALPHA, MIN_GAIN, PROCESSES, SD = 0.005, 0.001, 8, 0.0008
HARNESS = "a" * 64


def entry(number: int, **facts: object) -> Entry:
    base = {
        "kind": VERDICT, "created": "", "kernel": "k", "target": "sm90", "device": "d",
        "identities": {"harness": HARNESS}, "replicates": PROCESSES,
        "plan": {"effective_min_gain": MIN_GAIN},
    }  # fmt: skip
    return Entry(id=f"20260101-000000-{number:06d}", **(base | facts))


def promoted(number: int, gain: tuple[float, float, float], **facts: object) -> Entry:
    return entry(number, verdict="PROMOTE", version=number, gain=gain, **facts)


def of(*entries: Entry) -> Lineage:
    (found,) = lineages(entries)
    return found


def by_confirm(random: np.random.Generator, true: np.ndarray) -> Iterator[tuple[float, Entry]]:
    """What the confirm makes of candidates of these true gains: those it lets through."""
    for number, gain in enumerate(true, 1):
        found = confirm(gain + SD * random.standard_normal(PROCESSES), min_gain=MIN_GAIN)
        if found.confirmed:
            yield gain, promoted(number, (found.estimate, found.lower, found.upper))


def compared(made: Lineage, audited: Estimate):
    found = claims(made, HARNESS, alpha=ALPHA, min_gain=MIN_GAIN)
    assert found is not None
    return compare(found, audited, alpha=ALPHA, min_gain=MIN_GAIN)


def test_honest_lineages_are_refuted_no_more_often_than_promised() -> None:
    """Small gains, so that most claims are lucky ones: selection is at its strongest."""
    random, refuted, total, versions = np.random.default_rng(1), 0, 200, []
    for _ in range(total):
        kept = list(by_confirm(random, np.abs(random.normal(0.0015, 0.001, 60))))
        versions.append(len(kept))
        made = of(entry(0, kind=SEED, version=0), *(one for _, one in kept))
        true = math.fsum(gain for gain, _ in kept)
        audited = estimate(true + SD * random.standard_normal(PROCESSES))
        refuted += not compared(made, audited).holds
    assert sum(versions) / total > 15
    assert refuted <= 8  # 2 α of 200 are 2; more than 8 has a chance below 1 in 1000


@pytest.mark.parametrize("inflation", [0.03, -0.03])
def test_an_inflated_chain_is_refuted(inflation: float) -> None:
    random = np.random.default_rng(2)
    for _ in range(20):
        kept = list(by_confirm(random, np.full(20, 0.005)))
        made = of(entry(0, kind=SEED, version=0), *(one for _, one in kept))
        true = math.fsum(gain for gain, _ in kept) - inflation
        beside = compared(made, estimate(true + SD * random.standard_normal(PROCESSES)))
        assert not beside.holds and beside.difference * inflation > 0


def test_the_parts_are_those_of_the_formula() -> None:
    spread = 0.001 * t_quantile(15, ALPHA)
    gains = [(0.02, 0.02 - spread, 0.02 + spread)] * 2
    made = of(
        entry(0, kind=SEED, version=0),
        *(promoted(n, g, replicates=16) for n, g in enumerate(gains, 1)),
    )
    beside = compared(made, Estimate(0.041, 0.002, 7))
    total = 2 * 0.001**2 + 0.002**2
    degrees = total**2 / (2 * 0.001**4 / 15 + 0.002**4 / 7)
    assert beside.claimed == pytest.approx(0.04)
    assert beside.sampling == pytest.approx(
        t_quantile(math.floor(degrees), ALPHA) * math.sqrt(total)
    )
    assert beside.session == pytest.approx(3 * MIN_GAIN / 3)
    assert 0 <= beside.selection < 1e-9  # 16 standard errors above what had to be passed
    assert beside.holds


def test_a_claim_that_barely_passed_may_be_too_large() -> None:
    half = 0.001 * t_quantile(PROCESSES - 1, ALPHA)
    barely = (MIN_GAIN + half, MIN_GAIN, MIN_GAIN + 2 * half)
    beside = compared(
        of(entry(0, kind=SEED, version=0), promoted(1, barely)), Estimate(0.0, 1e-4, 7)
    )
    assert beside.selection == pytest.approx(0.001 * 2 / math.sqrt(2 * math.pi))
    assert beside.most - beside.selection == pytest.approx(-beside.least)


def test_what_was_reverted_is_not_claimed() -> None:
    gains = ((0.02, 0.019, 0.021), (0.5, 0.49, 0.51))
    made = [entry(0, kind=SEED, version=0)]
    made += [promoted(n, g) for n, g in enumerate(gains, 1)]
    made += [entry(9, kind=REVERT, version=2)]
    assert compared(of(*made), Estimate(0.02, 0.001, 7)).claimed == pytest.approx(0.02)


def test_figures_of_another_harness_are_not_added_up() -> None:
    """Before the first audit of an epoch there is nothing to compare; then it stands for them."""
    other = {"identities": {"harness": "b" * 64}}
    old = [entry(0, kind=SEED, version=0, **other), promoted(1, (9.0, 8.9, 9.1), **other)]
    assert claims(of(*old), HARNESS, alpha=ALPHA, min_gain=MIN_GAIN) is None
    audit = entry(2, kind=AUDIT, version=1, verdict=HOLDS, gain=(0.3, 0.29, 0.31))
    later = entry(3, kind=AUDIT, version=1, verdict=HOLDS, gain=(0.4, 0.39, 0.41))
    new = promoted(4, (0.02, 0.019, 0.021))
    beside = compared(lineage(of(*old).series, [*old, audit, later, new]), Estimate(0.3, 0.01, 7))
    assert beside.claimed == pytest.approx(0.32)  # the first: an anchor that moves would creep
