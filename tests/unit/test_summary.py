# SPDX-License-Identifier: MIT
"""Derived figures: on samples whose answer is known in advance."""

from __future__ import annotations

import math

import pytest

from avo_pytest import summary as summaries
from avo_pytest.score import ArmRecord, Check, ConfigurationRecord, Record, Sample, Status


def sample(block: int, turn: int, arm: str, ms: float, configuration: str = "a-full") -> Sample:
    return Sample(
        block=block, configuration=configuration, turn=turn, position=0, arm=arm, ms=ms, host_ms=ms
    )


def record(
    samples: list[Sample], *, checks: tuple[Check, ...] = (), subset: bool = False
) -> Record:
    names = list(dict.fromkeys(s.configuration for s in samples)) or ["a-full"]
    return Record(
        run="r", created="2026-01-01T00:00:00+00:00", mode="measure", kernel="k", target="cpu",
        set="cpu", regime="refreshed", subset=subset, seed=1, isolation="none", harness="h",
        environment={},
        arms=(
            ArmRecord(name="candidate", role="candidate", dtype="bf16"),
            ArmRecord(name="base", role="baseline", dtype="bf16"),
        ),
        configurations=tuple(
            ConfigurationRecord(name=n, group=n.rpartition("-")[2], flops=2e9) for n in names
        ),
        checks=checks,
        samples=tuple(samples),
    )  # fmt: skip


def drifting(blocks: int, ratio: float, configuration: str = "a-full") -> list[Sample]:
    """Both arms slow down together by 10 % a block; the baseline takes `ratio` times as long."""
    made = []
    for block in range(blocks):
        for turn in (0, 1):
            ms = 1.0 * 1.1**block
            made.append(sample(block, turn, "candidate", ms, configuration))
            made.append(sample(block, turn, "base", ms * ratio, configuration))
    return made


def test_common_drift_cancels_in_the_paired_ratio() -> None:
    ratios = summaries.paired_log_ratios(drifting(6, 1.25), "a-full", "candidate", "base")
    assert list(ratios.values()) == pytest.approx([math.log(1.25)] * 6)


def test_a_turn_without_both_arms_is_not_paired() -> None:
    samples = [sample(0, 0, "candidate", 1.0), sample(0, 1, "base", 9.0)]
    assert summaries.paired_log_ratios(samples, "a-full", "candidate", "base") == {}


def test_summary_reports_tflops_ratio_and_geomeans() -> None:
    samples = drifting(5, 2.0, "a-full") + drifting(5, 0.5, "a-causal")
    summary = summaries.summarise(record(samples))
    row = summary.rows[0]
    assert row.tflops == pytest.approx(2e9 / 1e9 / 1.1**2)
    assert row.ratios["base"][0] == pytest.approx(2.0)
    assert summary.groups["full"].ratios["base"][0] == pytest.approx(2.0)
    assert summary.overall is not None
    assert summary.overall.ratios["base"][0] == pytest.approx(1.0)


def test_one_outlier_block_does_not_move_the_ratio() -> None:
    samples = drifting(7, 1.1)
    samples[0] = sample(0, 0, "candidate", 500.0)
    summary = summaries.summarise(record(samples))
    assert summary.rows[0].ratios["base"][0] == pytest.approx(1.1)


def test_a_failed_check_takes_the_geomean_away() -> None:
    failed = Check(configuration="x", arm="candidate", status=Status.INCORRECT, reason="row 3")
    summary = summaries.summarise(record(drifting(5, 2.0), checks=(failed,)))
    assert summary.overall is None and summary.groups == {}
    assert summary.first_failure == "x: row 3"
    assert (summary.correct, summary.checked) == (0, 1)


def test_a_subset_has_rows_but_no_geomean() -> None:
    summary = summaries.summarise(record(drifting(5, 2.0), subset=True))
    assert summary.rows[0].tflops > 0 and summary.overall is None


def test_an_untimed_configuration_scores_zero() -> None:
    summary = summaries.summarise(record([]))
    assert summary.rows[0].tflops == 0.0 and summary.rows[0].status == "not timed"
    assert summary.overall is None
