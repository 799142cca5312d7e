# SPDX-License-Identifier: MIT
"""A GPU's noise, and verdicts: no change is not promoted, a planted gain is, a loss is rejected.

    pytest -m soak -s tests/soak/test_gpu_confirm.py     (a Hopper GPU; about twenty minutes)

What is planted is a launch before the kernel that waits for a share of the kernel's own time, so
that the truth is known. AVO_SCRATCH names a folder to work in: calibrations and records stay there
and a second call goes on with them. AVO_DEVICES=cuda:0,cuda:1 shares the replicates out.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import chi2

from avo_pytest.devices.probe import find_cuda

ROOT = Path(__file__).resolve().parents[2]
KERNEL = Path("kernels/attention/sm90")
AVO = (sys.executable, "-m", "avo_pytest")
WHERE = ("attention", "--target=sm90", "--set=mha")
# The wait in cycles: (share of) FLOPs over what an H200 does of them in a cycle at 1.7 GHz.
FLOPS_PER_CYCLE = 476_000
NOISE = 0.0015  # upper 90 % limit of the sd of a process's geomean log ratio
PLANTED = """
extern "C" __global__ void planted(long long cycles) {
  const long long begun = clock64();
  while (clock64() - begun < cycles) {}
}
extern "C" __global__ void variant_%d() {}
"""
LAUNCH = """
[[launch]]
function = "planted"
grid = [1]
block = [32]
arguments = [{ i64 = "4 * batch * heads * seq * seq * head_dim // select(causal, 2, 1) // %d" }]
"""

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(find_cuda(0)[0] is None, reason="needs an NVIDIA GPU"),
]


def variant(root: Path, number: int, share: float) -> Path:
    """A folder with the kernel of this repository and a wait of `share` of its time before it."""
    folder = root / f"variant-{number}"
    shutil.copytree(ROOT / KERNEL, folder, dirs_exist_ok=True)
    source, manifest = folder / "attention.cu", folder / "kernel.toml"
    source.write_text((ROOT / KERNEL / "attention.cu").read_text() + PLANTED % number)
    divisor = round(FLOPS_PER_CYCLE / share) if share else 1 << 62
    before, launch, after = (ROOT / KERNEL / "kernel.toml").read_text().partition("[[launch]]")
    manifest.write_text(before + LAUNCH % divisor + "\n" + launch + after)
    return folder


def scratch(tmp: Path, replicates: int | None, *, screen: bool) -> Path:
    """A repository with its own policy; calibrations are shared by all with the same one."""
    name = f"replicates-{replicates or 'chosen'}{'' if screen else '-unscreened'}"
    root = Path(os.environ.get("AVO_SCRATCH") or tmp) / name
    root.mkdir(parents=True, exist_ok=True)
    for part in ("bench", "kernels"):
        shutil.copytree(ROOT / part, root / part, dirs_exist_ok=True)
    lines = ["[tool.avo.policy.cuda]"]
    lines += [f"replicates = {replicates}"] if replicates else []
    lines += [] if screen else ["screen_blocks = 0"]
    (root / "pyproject.toml").write_text("\n".join(lines) + "\n")
    return root


def devices() -> tuple[str, ...]:
    named = os.environ.get("AVO_DEVICES")
    return (f"--devices={named}",) if named else ()


def calibrated(root: Path, processes: int) -> dict[str, Any]:
    """The newest calibration of a repository with at least so many processes, or a new one."""
    folder = root / ".avo" / "calibrations"
    for path in sorted(folder.glob("*.json"), reverse=True):
        found = json.loads(path.read_text())
        if len(found["values"]) >= processes:
            return dict(found)
    line = (*AVO, "calibrate", *WHERE, f"--incumbent={variant(root, 0, 0.0)}", *devices())
    done = subprocess.run((*line, f"--processes={processes}"), cwd=root)
    assert done.returncode == 0
    return dict(json.loads(max(folder.glob("*.json")).read_text()))


def borrow(root: Path, other: Path) -> None:
    """Calibrations made under the policy of another repository: the noise is the same."""
    shutil.copytree(other / ".avo/calibrations", root / ".avo/calibrations", dirs_exist_ok=True)


def confirm(root: Path, candidate: Path, incumbent: Path) -> tuple[dict[str, Any], float]:
    """The verdict on one variant against another, and the wall time in seconds."""
    begun = time.monotonic()
    line = (*AVO, "score", f"--kernel={WHERE[0]}", *WHERE[1:], "--mode=confirm", *devices())
    options = (f"--candidate={candidate}", f"--incumbent={incumbent}", "--json=record.json")
    subprocess.run((*line, *options), cwd=root)
    took = time.monotonic() - begun
    record = json.loads((root / "record.json").read_text())
    kept = root / f"record-{record['run']}.json"
    (root / "record.json").rename(kept)
    starts = sorted(r["start_seconds"] for r in record["replicates"])
    verdict = dict(record["derived"]["verdict"])
    said = {k: verdict[k] for k in ("kind", "gain", "lower", "upper", "p_value", "replicates")}
    print(f"{said} in {took:.0f} s; a replicate starts in {starts[len(starts) // 2]:.1f} s: {kept}")
    return verdict, took


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which the device was calibrated."""
    root = scratch(tmp_path_factory.mktemp("noise"), None, screen=True)
    calibrated(root, int(os.environ.get("AVO_PROCESSES", "16")))
    return root


@pytest.fixture
def unscreened(noise: Path, tmp_path: Path) -> Path:
    root = scratch(tmp_path, 16, screen=False)
    borrow(root, noise)
    return root


def test_the_same_code_varies_little_between_processes(noise: Path) -> None:
    found = calibrated(noise, 0)
    sd, degrees = statistics.stdev(found["values"]), len(found["values"]) - 1
    upper = sd * math.sqrt(degrees / chi2.ppf(0.10, degrees))
    start, block = (statistics.median(found[f"{of}_seconds"]) for of in ("start", "block"))
    print(f"{degrees + 1} processes: sd {sd:.4%}, upper 90 % limit {upper:.4%}")
    print(f"a process starts in {start:.1f} s, a block takes {block:.2f} s")
    assert upper <= NOISE


def test_a_planted_gain_of_0_3_percent_is_promoted(noise: Path, tmp_path: Path) -> None:
    root = scratch(tmp_path, 16, screen=True)
    borrow(root, noise)
    verdict, took = confirm(root, variant(root, 1, 0.0), variant(root, 2, 0.003))
    assert (verdict["kind"], verdict["replicates"]) == ("PROMOTE", 16)
    assert took <= 240


def test_a_planted_gain_of_1_percent_is_promoted(noise: Path, tmp_path: Path) -> None:
    root = scratch(tmp_path, 8, screen=True)
    borrow(root, noise)
    verdict, took = confirm(root, variant(root, 3, 0.0), variant(root, 4, 0.01))
    assert (verdict["kind"], verdict["replicates"]) == ("PROMOTE", 8)
    assert took <= 120


def test_a_loss_of_1_percent_is_rejected_by_the_screen(noise: Path) -> None:
    verdict, took = confirm(noise, variant(noise, 5, 0.01), variant(noise, 6, 0.0))
    assert (verdict["kind"], verdict["replicates"]) == ("REJECT", 0)
    assert took <= 40


@pytest.mark.parametrize("number", [10, 20, 30])
def test_no_change_is_not_promoted(unscreened: Path, number: int) -> None:
    variants = (variant(unscreened, number + i, 0.0) for i in (0, 1))
    verdict, _ = confirm(unscreened, *variants)
    assert verdict["kind"] in ("REJECT", "INCONCLUSIVE")
