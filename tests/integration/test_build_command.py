# SPDX-License-Identifier: MIT
"""`avo build` as a user runs it: in a process of its own, on a machine without a device."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
SMALL = Path(__file__).parents[1] / "unit" / "small_problems.py"
CUDA_TOML = """\
schema = 1
target = "sm90"
[compile]
source = "scale.cu"
[[launch]]
function = "scale"
grid = ["num_sms"]
block = [128]
arguments = ["x", "y"]
"""
CUDA = 'extern "C" __global__ void scale(const float* x, float* y) { y[0] = x[0]; }\n'
CPU_TOML = """\
schema = 1
target = "cpu"
[compile]
source = "scale.cpp"
[[launch]]
function = "scale"
arguments = ["x", "y"]
"""
CPU = """\
#include <stdint.h>
extern "C" void scale(const uint16_t* x, uint16_t* y) { *y = *x; }
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one problem and two targets."""
    files = {
        "bench/scale/problem.py": SMALL.read_text(encoding="utf-8") + "\nPROBLEM = SCALE\n",
        "kernels/scale/sm90/kernel.toml": CUDA_TOML,
        "kernels/scale/sm90/scale.cu": CUDA,
        "kernels/scale/cpu/kernel.toml": CPU_TOML,
        "kernels/scale/cpu/scale.cpp": CPU,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def avo_build(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    kernel = "attention" if root == HERE else "scale"
    command = [sys.executable, "-m", "avo_pytest", "build", "--kernel", kernel, "--root", str(root)]
    return subprocess.run([*command, *options], cwd=HERE, capture_output=True, text=True)


def test_json(root: Path) -> None:
    done = avo_build(root, "--target", "sm90", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["target"], told["arch"], told["assumed"]["num_sms"]) == ("sm90", "sm_90a", 132)
    assert set(told["variants"].values()) == {"default"}
    (report,) = told["report"].values()
    assert report["kernels"]["scale"]["registers"] > 0
    artifact = Path(told["artifact"])
    assert artifact.is_relative_to(root / ".avo" / "cache")
    plans = json.loads((artifact / "artifact.json").read_text(encoding="utf-8"))["plans"]
    assert {tuple(plan["launches"][0]["grid"]) for plan in plans} == {(132, 1, 1)}


def test_strict(root: Path) -> None:
    done = avo_build(root, "--target", "sm90", "--strict")
    assert done.returncode == 1
    assert "no tensor-core instruction of sm90" in done.stdout
    assert avo_build(root, "--target", "cpu", "--strict").returncode == 0


def test_the_shipped_hopper_kernel_is_strict() -> None:
    """Serialised wgmma or one spilled register would cost it its lead."""
    done = avo_build(HERE, "--target", "sm90", "--strict")
    assert done.returncode == 0, done.stdout + done.stderr


def test_text(root: Path) -> None:
    done = avo_build(root, "--target", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("scale/cpu for ")
    assert "code objects: 1, configurations: 4" in done.stdout


def test_what_does_not_build(root: Path) -> None:
    source = root / "kernels/scale/cpu/scale.cpp"
    source.write_text(CPU.replace("*y = *x", "*z = *x"), encoding="utf-8")
    done = avo_build(root, "--target", "cpu")
    assert done.returncode == 1
    assert "error: 'z' was not declared" in done.stderr


def test_usage(root: Path) -> None:
    done = avo_build(root, "--target", "sm90", "--arch", "sm_80")
    assert done.returncode == 2
    assert "target sm90 cannot be built for sm_80; it can for sm_90" in done.stderr
    assert avo_build(root, "--target", "sm80").returncode == 1  # the folder has no such target


def test_an_architecture_means_nothing_to_a_cpu_kernel(root: Path) -> None:
    done = avo_build(root, "--target", "cpu", "--arch", "sm_90")
    assert done.returncode == 2
    assert "built for this machine" in done.stderr


def test_a_problem_that_does_not_load_is_named_with_its_error(root: Path) -> None:
    (root / "bench/scale/problem.py").write_text("1 / 0\n", encoding="utf-8")
    done = avo_build(root, "--target", "cpu")
    assert done.returncode == 2
    assert done.stderr == "avo build: bench/scale/problem.py: ZeroDivisionError: division by zero\n"
