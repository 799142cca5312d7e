# SPDX-License-Identifier: MIT
"""Verdicts on this machine's CPU: a planted gain, the same bought with accuracy, a planted loss,
and no change under load.

    pytest -m soak -s tests/soak/test_cpu_confirm.py     (about ten minutes, on a quiet machine)

The kernel is attention's; what is planted is a wait before its work, of a share of its time. 3 % is
twice to three times what a confirm of eight processes finds on two cores.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.soak

ROOT = Path(__file__).resolve().parents[2]
KERNEL = Path("kernels/attention/cpu")
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
AVO = (sys.executable, "-m", "avo_pytest")
PLACE = ("attention", "--target=cpu")
BEGINNING = "    const Problem problem = {"
WAIT = """\
    const double flops = 512.0 * batch * heads * seq * seq / (causal ? 2 : 1);
    const auto planted = std::chrono::nanoseconds(int64_t(flops / {rate} * {share}));
    const auto begun = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - begun < planted) {{}}
"""
WEIGHT = "((c3 * f + c2) * f + c1) * f + 1.0f"


def run(root: Path, *line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, cwd=root, capture_output=True, text=True, timeout=1200)


def write(root: Path, share: float, rate: float) -> None:
    """The kernel with a wait of this share of its time; `rate` in GFLOPS."""
    text = (ROOT / KERNEL / "attention.cpp").read_text()
    assert text.count(BEGINNING) == 1
    wait = WAIT.format(share=share, rate=rate)
    text = "#include <chrono>\n" + text.replace(BEGINNING, wait + BEGINNING)
    (root / KERNEL / "attention.cpp").write_text(text)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def score(root: Path, *options: str) -> dict[str, Any]:
    """The record of a run, which is also printed."""
    line = (*AVO, "score", f"--kernel={PLACE[0]}", *PLACE[1:], "--json=record.json", *options)
    done = run(root, *line, "--", "-q")
    print(done.stdout)
    return dict(json.loads((root / "record.json").read_text()))


def confirm(root: Path) -> str:
    return str(score(root, "--mode=confirm")["derived"]["verdict"]["kind"])


@pytest.fixture(scope="module")
def rate(tmp_path_factory: pytest.TempPathFactory) -> float:
    """GFLOPS of the kernel here, geometric mean over its set."""
    root = tmp_path_factory.mktemp("rate")
    copy(root)
    record = score(root, "--blocks=3", "--baselines=none", "--incumbent=none")
    flops = {c["name"]: c["flops"] for c in record["configurations"]}
    rates = [math.log(flops[s["configuration"]] / s["ms"] * 1e-6) for s in record["samples"]]
    return math.exp(sum(rates) / len(rates))


def copy(root: Path) -> None:
    shutil.copytree(ROOT / "bench" / "attention", root / "bench" / "attention")
    shutil.copytree(ROOT / KERNEL, root / KERNEL)
    (root / "pyproject.toml").write_text('[tool.avo]\nkernel = "attention"\n')


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, rate: float) -> Path:
    """Its main branch waits 3 %; calibrated while nothing else runs."""
    root = tmp_path_factory.mktemp("repository")
    copy(root)
    write(root, 0.03, rate)
    (root / ".gitignore").write_text(".avo/\n")
    run(root, "git", "init", "-q", "-b", "main")
    run(root, *GIT, "add", "-A")
    run(root, *GIT, "commit", "-q", "-m", "the incumbent")
    done = run(root, *AVO, "calibrate", *PLACE, "--processes=12")
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    return root


@contextmanager
def load() -> Iterator[None]:
    """A busy core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_gain_of_3_percent_is_promoted(repository: Path, rate: float) -> None:
    write(repository, 0.0, rate)
    assert confirm(repository) == "PROMOTE"


def test_a_gain_is_not_bought_with_accuracy_after_the_first_launch(
    repository: Path, rate: float
) -> None:
    write(repository, 0.0, rate)
    exponential = repository / KERNEL / "simd.h"
    edit(exponential, WEIGHT, f"({WEIGHT}) * (1.0f + careless * f)")
    edit(exponential, "// 2^x for x", "inline float careless = 0;\n\n// 2^x for x")
    once = "    static int launches = 0;\n    careless = launches++ ? 0.004f : 0.0f;\n"
    edit(repository / KERNEL / "attention.cpp", BEGINNING, once + BEGINNING)
    try:
        verdict = score(repository, "--mode=confirm")["derived"]["verdict"]
    finally:
        shutil.copy(ROOT / KERNEL / "simd.h", exponential)
    assert verdict["kind"] == "REJECT"
    assert [reason["rule"] for reason in verdict["reasons"]] == ["accuracy"]
    assert "in timed launches" in verdict["reasons"][0]["text"]


def test_a_loss_of_3_percent_is_rejected_by_the_screen(repository: Path, rate: float) -> None:
    write(repository, 0.06, rate)
    assert confirm(repository) == "REJECT"


def test_no_change_is_never_promoted_under_load(repository: Path, rate: float) -> None:
    write(repository, 0.030001, rate)  # another artifact, the same time
    with load():
        assert confirm(repository) in ("INVALID", "INCONCLUSIVE", "REJECT")
