# SPDX-License-Identifier: MIT
"""What no machine can have measured is noticed; what one has measured is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from avo_pytest.ci.plausibility import SHEETS, findings, sheet_of
from avo_pytest.problem import Configuration, Oracle, Problem, TensorSpec
from avo_pytest.score import (
    ArmRecord,
    ConfigurationRecord,
    Record,
    Replicate,
    Sample,
    Stage,
)

FLOPS = 1e12
ROWS = 1 << 19  # of 256 bf16 values: 256 MiB in and as much out
H100 = "NVIDIA H100 80GB HBM3"


def problem() -> Problem:
    shape = (ROWS, 256)
    tensors = (
        TensorSpec("x", shape, "bf16", "input"),
        TensorSpec("y", shape, "bf16", "output"),
    )
    whole = (Configuration("big", {"rows": ROWS}, group="all"),)
    return Problem(
        name="copy",
        symbols=("rows",),
        specialisable=(),
        tensors=lambda c: tensors,
        scalars=lambda c: {},
        flops=lambda c: FLOPS,
        throughput={"cuda": {"one": whole}, "cpu": {"one": whole}},
        correctness=lambda kind: whole,
        draw=lambda generator, base: whole[0],
        inputs=lambda c, seed: {},
        oracle=lambda c, given, rows: Oracle(exact=0.0, honest=0.0),
    )


def record(*, device: str = H100, target: str = "sm90", ms: float = 2.0, **changes) -> Record:
    samples = tuple(
        Sample(block=n, configuration="big", turn=0, position=0, arm=arm, ms=ms + 1e-4 * n,
               host_ms=ms + 0.01 + 1.1e-4 * n, replicate=0)
        for n in range(12)
        for arm in ("candidate", "incumbent")
    )  # fmt: skip
    arms = tuple(ArmRecord(name=a, role=a, dtype="bf16") for a in ("candidate", "incumbent"))
    found = Record(
        run="20260101-000000-abcdef", created="2026-01-01T00:00:00+00:00", mode="confirm",
        kernel="copy", target=target, set="one", regime="refreshed", subset=False, seed=1,
        isolation="device-only", harness="h", environment={"device": device}, arms=arms,
        configurations=(ConfigurationRecord(name="big", group="all", flops=FLOPS),),
        replicates=(Replicate(number=0, stage=Stage.CONFIRM, device="cuda:0", blocks=12,
                              seconds=5.0),),
        samples=samples,
    )  # fmt: skip
    return replace(found, **changes)


def said(found: Record) -> str:
    return "; ".join(findings(found, problem()))


def test_an_honest_record_has_nothing_against_it():
    assert said(record()) == ""
    assert said(record(device="NVIDIA B200", ms=1.0)) == ""
    assert said(record(device="Some CPU", target="cpu", ms=20.0)) == ""
    assert said(record(device="NVIDIA of tomorrow", ms=1.0)) == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ms": 0.98}, "the device has 1009.3"),
        ({"ms": 0.1, "flops": 1.0}, "its memory alone takes"),
        ({"device": "NVIDIA B200", "ms": 0.3}, "the device has 2550"),
        ({"device": "NVIDIA of tomorrow", "ms": 0.1}, "the device has 5000"),
        ({"device": "Some CPU", "target": "cpu", "ms": 2.0}, "the device has 400"),
        (
            {"blocks": ({"before": {"sm_mhz": 1980}, "after": {"sm_mhz": 2500}},)},
            "SM clocks of 2500 MHz",
        ),
        ({"ms": 1e3}, "in a process that lived 5.0 s"),
    ],
)
def test_what_cannot_be_is_said(changes, words):
    flops = changes.pop("flops", None)
    found = record(**changes)
    if flops is not None:
        one = replace(found.configurations[0], flops=flops)
        found = replace(found, configurations=(one,))
    assert words in said(found)


def test_a_cpu_is_held_to_what_it_showed_itself():
    blocks = ({"ceiling_tflops": 0.04}, {"ceiling_tflops": 0.5}, {"ceiling_tflops": None}, {})
    slow, fast = (
        record(device="a CPU", target="cpu", ms=ms, blocks=blocks) for ms in (2000.0, 1000.0)
    )
    slow, fast = (replace(r, replicates=(replace(r.replicates[0], seconds=99.0),))
                  for r in (slow, fast))  # fmt: skip
    assert said(slow) == ""
    assert "the device has 0.625" in said(fast)


def test_a_cpu_is_not_believed_to_have_more_than_any_has():
    """The ceiling is the record's own word, and a forger writes the record."""
    forged = record(device="a CPU", target="cpu", ms=1e-3, blocks=({"ceiling_tflops": 1e9},))
    assert "the device has 400" in said(forged)


def test_times_out_of_order_or_copied_are_noticed():
    found = record()
    inside_out = [replace(s, host_ms=s.ms / 2) for s in found.samples]
    assert "within" in said(replace(found, samples=tuple(inside_out)))
    copied = [replace(s, ms=2.0, host_ms=2.01) for s in found.samples]
    assert "12 launches in a row of the same 2.0 ms" in said(replace(found, samples=tuple(copied)))


def test_odd_contents_are_no_crash():
    """Types are checked before, but a block may hold what its maker likes."""
    blocks = ({"ceiling_tflops": [1]}, {"before": "x"}, {"after": {"sm_mhz": "high"}})
    for target, device in (("cpu", "x"), ("sm90", H100), ("simulated", "simulated")):
        found = record(target=target, device=device, blocks=blocks, ms=20.0)
        assert isinstance(said(replace(found, environment={"device": None})), str)
        assert isinstance(said(replace(found, samples=())), str)
        zero = tuple(replace(s, ms=0.0, host_ms=0.0) for s in found.samples)
        assert said(replace(found, samples=zero)) != ""
        assert isinstance(said(replace(found, configurations=(), replicates=())), str)


def test_the_more_special_name_comes_first():
    assert sheet_of("NVIDIA H100 PCIe") == SHEETS["NVIDIA H100 PCIe"]
    assert sheet_of("NVIDIA H100 80GB HBM3") == SHEETS["NVIDIA H100"]
    assert sheet_of("NVIDIA GeForce RTX 4090") is None
