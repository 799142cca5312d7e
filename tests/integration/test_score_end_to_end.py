# SPDX-License-Identifier: MIT
"""Whole scoring runs of a small kernel made by `avo new`, in a folder with a space in its name."""

from __future__ import annotations

import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avo_pytest.commands.new import kernel_files
from avo_pytest.score import Record

pytestmark = pytest.mark.alone

PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
FULL_DISK = """
import errno, os
from avo_pytest import artifact

def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

artifact.shutil.copyfile = full
"""
QUICK = ("--avo-blocks=2", "--avo-baselines=none")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "a repository"
    for path, text in kernel_files("norm", "cpu").items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root


def run(root: Path, *line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, cwd=root, capture_output=True, text=True, timeout=100)


def score(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run(root, *PYTEST, "--avo-score", *QUICK, *options)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.stdout.rstrip().splitlines()[-1]


def change(root: Path, old: str, new: str) -> None:
    source = root / "kernels" / "norm" / "cpu" / "norm.cpp"
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new))


def test_a_score_against_an_incumbent(repository):
    before = repository.parent / "before"
    (repository / "kernels" / "norm" / "cpu").rename(before)
    for path, text in kernel_files("norm", "cpu").items():
        if path.parts[0] == "kernels":
            (repository / path).parent.mkdir(exist_ok=True)
            (repository / path).write_text(text + "\n", encoding="utf-8")
    done = score(
        repository,
        f"--avo-incumbent={before}",
        "--avo-json=record.json",
        "--benchmark-json=benchmark.json",
        "--avo-blocks=4",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(
        r"AVO score norm/cpu: [0-9.]+ [GT]FLOPS geomean · [0-9.]+x incumbent"
        r" · correct (\d+)/\1 · run \d{8}-\d{6}-[0-9a-f]{6}",
        last_line(done),
    )
    record = Record.from_json((repository / "record.json").read_text())
    assert record.run in last_line(done)
    assert {sample.arm for sample in record.samples} == {"candidate", "incumbent"}
    (saved,) = repository.glob(".avo/runs/*/record.json")
    assert saved.read_text() == (repository / "record.json").read_text()
    check_benchmarks(repository / "benchmark.json", record)


def check_benchmarks(path: Path, record: Record) -> None:
    """pytest-benchmark holds exactly the candidate's samples."""
    benchmarks = json.loads(path.read_text())["benchmarks"]
    assert {b["param"] for b in benchmarks} == {c.name for c in record.configurations}
    for found in benchmarks:
        ms = [
            sample.ms
            for sample in record.samples
            if (sample.configuration, sample.arm) == (found["param"], "candidate")
        ]
        assert found["stats"]["rounds"] == len(ms) == 8
        assert found["stats"]["min"] == pytest.approx(min(ms) / 1000)
        assert found["extra_info"]["kernel"] == "norm"


def test_the_errors_of_timed_launches_tell_of_a_kernel_that_is_careful_once(repository):
    before = repository.parent / "before"
    shutil.copytree(repository / "kernels" / "norm" / "cpu", before)
    change(repository, "namespace {\n", "namespace {\n\nint launches = 0;\n")
    change(repository, "* to_float(w[i])", "* to_float(w[i]) * (launches > 1 ? 1.0008f : 1.0f)")
    change(repository, "    const auto work", "    ++launches;\n    const auto work")
    done = score(repository, f"--avo-incumbent={before}", "--avo-json=record.json")
    assert done.returncode == 0, done.stdout + done.stderr
    record = Record.from_json((repository / "record.json").read_text())
    first = {c.arm: c.error_rms for c in record.checks if c.replicate is not None}
    assert first["candidate"] == first["incumbent"] > 0
    shares = {"candidate": [], "incumbent": []}
    for sample in record.samples:
        shares[sample.arm].append(sample.facts["error_share"])
    careless, honest = (statistics.geometric_mean(shares[a]) for a in ("candidate", "incumbent"))
    assert honest == pytest.approx(1 / 1.75, rel=0.01)  # 1.4 · (1 + 1/√16): as the oracle rounds
    assert 1.05 < careless / honest < 1.4


def test_a_wrong_kernel_scores_zero_with_the_reason(repository):
    change(repository, "* to_float(w[i])", "")
    done = score(repository, "--avo-exit-verdict")
    assert done.returncode == 12, done.stdout + done.stderr
    assert re.match(
        r"AVO score norm/cpu: 0 \(incorrect: .+\) · correct \d+/\d+ · run ", last_line(done)
    )
    assert "--avo-seed" in done.stdout
    assert "FAILED" not in done.stdout  # nothing between what to do next and the last line


def test_a_kernel_that_does_not_compile_shows_the_compilers_error(repository):
    change(repository, "float sum = 0;", "float sum = 0")
    done = score(repository)
    assert done.returncode == 1
    assert last_line(done).startswith("AVO score norm/cpu: 0 (build error: ")
    assert "expected" in done.stdout
    assert "avo build --kernel norm --target cpu" in done.stdout


def test_a_subset_by_avo_score(repository):
    line = (sys.executable, "-m", "avo_pytest", "score", *(o.replace("avo-", "") for o in QUICK))
    done = run(repository, *line, "--", "-k", "throughput and w1024")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUBSET" in done.stdout
    assert "none (subset: 1 of 1 configurations timed)" in last_line(done)


def test_without_avo_score_it_is_an_ordinary_benchmark(repository):
    done = run(repository, *PYTEST, "bench", "-k", "r3-w7 or r8192")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^test_throughput\[r8192-w1024\] +[\d.]", done.stdout, re.M)
    assert "AVO score" not in done.stdout


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM]],
    ids=lambda signals: "+".join(number.name for number in signals),
)
def test_a_run_that_is_ended_leaves_a_record_and_says_so(repository, signals):
    line = (*PYTEST, "--avo-score", "--avo-blocks=100000", "--avo-baselines=none")
    process = subprocess.Popen(
        line, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_for_samples(repository, process)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.05)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 2, output
    assert "Traceback" not in output
    assert "none (interrupted: " in output.rstrip().splitlines()[-1]
    (saved,) = repository.glob(".avo/runs/*/record.json")
    assert Record.from_json(saved.read_text()).samples


@pytest.mark.parametrize("fault", ["no compiler", "full disk"])
def test_what_the_machine_lacks_is_not_held_against_the_kernel(repository, monkeypatch, fault):
    if fault == "no compiler":
        monkeypatch.setenv("CXX", "no-such-compiler")
        said = "no C++ compiler (no-such-compiler)"
    else:
        (repository / "conftest.py").write_text(FULL_DISK)
        said = "No space left on device"
    done = score(repository, "--avo-exit-verdict")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert said in last_line(done)
    assert "AVO score" not in done.stdout


def wait_for_samples(root: Path, process: subprocess.Popen[str]) -> None:
    """Until the journal holds some."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        journals = [path.read_text() for path in root.glob(".avo/runs/*/journal.jsonl")]
        if any(text.count('"sample"') > 20 for text in journals):
            return
        time.sleep(0.1)
    pytest.fail(f"no samples: {process.communicate()[0] if process.poll() is not None else ''}")
