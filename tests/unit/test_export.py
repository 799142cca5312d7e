# SPDX-License-Identifier: MIT
"""Other tools' formats, read back by those tools where they install."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from avo_pytest.entries import NOTE, Entry
from avo_pytest.loading import _module
from avo_pytest.report import export, trace
from avo_pytest.score import ArmRecord, Check, ConfigurationRecord, Record, Sample, Status

synthetic = _module(Path(__file__).parents[1] / "synthetic_ledger.py")
NAMES = ("b2-h8-s512-d128-full", "b2-h8-s512-d128-causal")
TRACE_KEYS = {"definition", "workload", "solution", "evaluation"}


def record(*checks: Check) -> Record:
    samples = [
        Sample(block=b, configuration=c, turn=t, position=0, arm=a, ms=ms + 0.01 * b, host_ms=2.0)
        for c in NAMES
        for b in range(4)
        for t in (0, 1)
        for a, ms in (("candidate", 1.0), ("base", 1.5))
    ]
    return Record(
        run="20260101-000000-abcdef", created="2026-01-01T00:00:00+00:00", mode="measure",
        kernel="attention", target="sm90", set="mha", regime="refreshed", subset=False, seed=1,
        isolation="device-only", harness="h", environment={"device": "H100", "torch": "2.13"},
        arms=(ArmRecord(name="candidate", role="candidate", dtype="bf16", identity="c" * 64),
              ArmRecord(name="base", role="baseline", dtype="bf16")),
        configurations=tuple(
            ConfigurationRecord(name=n, group=n.split("-")[-1], flops=4e11) for n in NAMES
        ),
        checks=checks, samples=tuple(samples),
    )  # fmt: skip


def test_pytest_benchmark_compares_it(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(export.pytest_benchmark(record()))
    line = [sys.executable, "-m", "pytest_benchmark", "compare", str(path), "--columns=median,iqr"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert f"attention-sm90[{name}-candidate]" in done.stdout + done.stderr


def test_pytest_benchmark_gets_every_sample_in_seconds() -> None:
    raw = json.loads(export.pytest_benchmark(record()))
    first = raw["benchmarks"][0]
    mine = [s for s in record().samples if (s.configuration, s.arm) == (NAMES[0], "candidate")]
    assert first["stats"]["data"] == [s.ms / 1e3 for s in mine]
    assert first["stats"]["rounds"] == 8 and first["stats"]["median"] == pytest.approx(1.015e-3)
    assert first["extra_info"]["ratios"]["base"][0] == pytest.approx(1.5, rel=0.02)


def test_github_action_benchmark_has_its_keys() -> None:
    rows = json.loads(export.github_action_benchmark(record()))
    for row in rows:
        assert row.keys() == {"name", "unit", "value", "range", "extra"}
        assert isinstance(row["value"], float) and row["range"].startswith("± ")
    named = {row["name"]: row for row in rows}
    assert named["attention/sm90 geomean"]["unit"] == "TFLOPS"
    assert named["attention/sm90 geomean"]["value"] == pytest.approx(400 / 1.015, rel=0.01)
    assert len(rows) == len(NAMES) + 3


def test_github_action_benchmark_of_a_ledger_is_what_main_has() -> None:
    (row,) = json.loads(export.github_action_benchmark_of(synthetic.ledger(60, promotions=4)))
    assert row["name"] == "attention/sm90 on NVIDIA H100 geomean"
    assert row["extra"].startswith("version 4, audited")


def test_a_trace_a_configuration_with_its_axes() -> None:
    lines = [json.loads(x) for x in trace.flashinfer_trace(record()).splitlines()]
    assert len(lines) == len(NAMES)
    first = lines[0]
    assert first.keys() == TRACE_KEYS
    assert first["workload"]["axes"] == {"b": 2, "h": 8, "s": 512, "d": 128}
    assert first["evaluation"]["status"] == "PASSED"
    performance = first["evaluation"]["performance"]
    assert performance["latency_ms"] == pytest.approx(1.015)
    assert performance["speedup_factor"] == pytest.approx(1.515 / 1.015)


@pytest.mark.parametrize(
    ("status", "word", "keys"),
    [
        (Status.INCORRECT, "INCORRECT_NUMERICAL", {"correctness"}),
        (Status.BUILD_ERROR, "COMPILE_ERROR", set()),
        (Status.TIMEOUT, "TIMEOUT", set()),
        (Status.CRASHED, "RUNTIME_ERROR", set()),
    ],
)
def test_a_failure_has_only_what_the_format_allows(
    status: Status, word: str, keys: set[str]
) -> None:
    failed = Check(configuration=NAMES[0], arm="candidate", status=status, reason="why")
    first = json.loads(trace.flashinfer_trace(record(failed)).splitlines()[0])["evaluation"]
    assert (first["status"], first["log"]) == (word, "why")
    assert first.keys() & {"correctness", "performance"} == keys


def test_what_the_machine_spoiled_is_no_trace() -> None:
    spoiled = Check(configuration=NAMES[0], arm="candidate", status=Status.INVALID)
    assert len(trace.flashinfer_trace(record(spoiled)).splitlines()) == len(NAMES) - 1


def test_flashinfer_bench_reads_its_traces() -> None:
    data = pytest.importorskip("flashinfer_bench.data", reason="flashinfer-bench is not installed")
    failed = Check(configuration=NAMES[1], arm="candidate", status=Status.INCORRECT, reason="why")
    traces = [
        data.Trace.model_validate_json(line)
        for line in trace.flashinfer_trace(record(failed)).splitlines()
    ]
    assert [t.is_successful() for t in traces] == [True, False]


def test_samples_come_back_out_of_the_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(export.samples_csv(record()))))
    assert [float(r["ms"]) for r in rows] == [s.ms for s in record().samples]


def test_the_ledger_as_csv_has_a_row_an_entry_and_no_formula() -> None:
    reason = {"rule": "note", "text": "a,\nb"}
    evil = Entry(
        id="20260101-000000-abcd", kind=NOTE, created="2026", kernel="k", target="cpu",
        idea='=HYPERLINK("http://x")', reasons=(reason,),
    )  # fmt: skip
    entries = [*synthetic.ledger(40, promotions=3), evil]
    rows = list(csv.DictReader(io.StringIO(export.ledger_csv(entries))))
    assert [r["id"] for r in rows] == [e.id for e in entries]
    assert rows[-1]["idea"].startswith("'=") and rows[-1]["reason"] == "note: a,\nb"
    promoted = next(r for r in rows if r["version"] == "1")
    assert float(promoted["gain"]) > 0 and promoted["best_baseline"] == "cudnn"


def test_a_record_without_samples_exports_nothing_and_does_not_fail() -> None:
    empty = replace(record(), samples=())
    assert json.loads(export.pytest_benchmark(empty))["benchmarks"] == []
    assert json.loads(export.github_action_benchmark(empty)) == []
    assert trace.flashinfer_trace(empty) == ""
