# SPDX-License-Identifier: MIT
"""Attention: `pytest bench/attention` for a quick look, `pytest --avo-score` for a score."""


def test_correctness(judged, configuration):
    check = judged.correctness(configuration)
    assert check.ok, check.reason


def test_throughput(judged, configuration, replay):
    samples = judged.throughput(configuration)
    assert samples, judged.failure(configuration)
    replay(samples)  # into pytest-benchmark's table and JSON
