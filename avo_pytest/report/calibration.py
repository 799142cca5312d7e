# SPDX-License-Identifier: MIT
"""A calibration in plain words: how still the device is, and what a confirm finds on it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from avo_pytest.calibration import Calibration
from avo_pytest.policy import Policy
from avo_pytest.report.figures import percent
from avo_pytest.report.power import Resolution
from avo_pytest.sample_size import effective_min_gain

SHOWN = (8, 16, 32)  # replicates


def text(found: Calibration, policy: Policy) -> str:
    """A line a subject."""
    held = found.conditions
    title = (
        f"AVO calibration {held.kernel}/{held.target} · set {held.set} · "
        f"{len(found.values)} processes of {held.blocks} blocks · {held.device}"
    )
    return "\n".join([title, *_noise(found, policy), *_power(found, policy)]) + "\n"


def _noise(found: Calibration, policy: Policy) -> Iterator[str]:
    yield _line("process", f"the same code against itself varies by {found.process_sd:.3%} (sd)")
    yield _line("block", f"{found.block_sd:.3%} (sd) within a process")
    noisiest = max(range(len(found.medians[0])), key=lambda c: _sd(found, c))
    name = found.conditions.configurations[noisiest]
    yield _line("noisiest", f"{name}: {_sd(found, noisiest):.3%} (sd) between processes")
    yield _line(
        "bias",
        f"{percent(found.bias)} for the arm called candidate, skewness {found.skewness:+.1f}",
    )
    yield _line("order", _effect(found.order_effects, "between blocks that it began and others"))
    yield _line("carry-over", _effect(found.carry_overs, "after the other arm or after itself"))
    minimum = effective_min_gain(policy, found)
    why = "of the policy" if minimum == policy.min_gain else "three times the bias"
    yield _line("min gain", f"{minimum:.2%}, {why}")


def _power(found: Calibration, policy: Policy) -> Iterator[str]:
    resolution = Resolution(
        told="",
        sd=found.process_sd,
        min_gain=effective_min_gain(policy, found),
        alpha=policy.alpha_confirm,
        wanted=policy.power,
        replicate_s=replicate_s(found),
    )
    for count in SHOWN:
        gain = resolution.smallest(count)
        what = f"confirms {gain:.2%}" if math.isfinite(gain) else "never confirms anything"
        yield _line(
            f"{count} replicates",
            f"{what} with {policy.power:.0%} probability, in about {resolution.seconds(count)}",
        )


def replicate_s(found: Calibration) -> float:
    """Seconds of one process."""
    start_s, block_s = map(statistics.median, (found.start_seconds, found.block_seconds))
    return start_s + found.conditions.blocks * block_s


def _sd(found: Calibration, configuration: int) -> float:
    return statistics.stdev(row[configuration] for row in found.medians)


def _effect(values: Sequence[float], between: str) -> str:
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{percent(statistics.fmean(values))} (standard error {error:.2%}) {between}"


def _line(title: str, said: str) -> str:
    return f"{title:<14} {said}"
