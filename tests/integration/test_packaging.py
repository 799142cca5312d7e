# SPDX-License-Identifier: MIT
"""The wheel, built and installed alone: no repository beside it, no extras."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_WANTED = (
    *("avo_pytest", "torch", "cuda", "nvidia", "pip", "setuptools"),
    *("hypothesis", "_hypothesis"),  # of the tests only
)


def run(*line: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in line], cwd=cwd, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    done = run(*pip, "wheel", "--quiet", "--no-deps", "-w", folder, ROOT, cwd=folder)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """A fresh environment with the wheel and its dependencies (links to those installed here)."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    interpreter = folder / "bin" / "python"
    site = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = Path(run(interpreter, "-c", site, cwd=folder).stdout.strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(purelib)
    for path in Path(pytest.__file__).parents[1].iterdir():
        if path.suffix != ".pth" and not path.name.lower().startswith(NOT_WANTED):
            (purelib / path.name).symlink_to(path)
    return interpreter


def test_wheel_holds_the_judge_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"avo_pytest"}
    for needed in (
        "py.typed",
        "schemas/kernel.schema.json",
        "templates/bench/problem.py.in",
        "templates/cpu/kernel.toml.in",
        "templates/sm80/kernel.cu.in",
        "devices/trusted.cu",
        "devices/native/trusted.cpp",
        "devices/native/child.cpp",
        "devices/native/team.h",
    ):
        assert f"avo_pytest/{needed}" in names
    assert not [name for name in names if "__pycache__" in name]


def test_its_plugin_loads_and_its_command_answers(python, tmp_path):
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    done = run(python, "-m", "pytest", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--avo-score" in run(python, "-m", "pytest", "--help", cwd=tmp_path).stdout
    where = run(python, "-c", "import avo_pytest; print(avo_pytest.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(python.parents[1])


def test_doctor_answers_without_the_extras(python, tmp_path):
    done = run(python, "-m", "avo_pytest", "doctor", cwd=tmp_path)
    assert "Traceback" not in done.stderr, done.stderr
    assert "torch                not installed" in done.stdout
    assert "pip install 'avo-pytest[cuda]'" in done.stdout


def test_new_works_from_the_wheel(python, tmp_path):
    done = run(python, "-m", "avo_pytest", "new", "kernel", "norm", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kernels" / "norm" / "cpu" / "kernel.toml").is_file()


@pytest.mark.soak
def test_pip_installs_the_wheel_with_its_dependencies(wheel, tmp_path):
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=True)
    pip = (folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
    done = run(*pip, "install", "--quiet", wheel, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert run(folder / "bin" / "avo", "doctor", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_locks_hold_versions_only_and_fit_the_ranges(kind):
    text = (ROOT / "requirements" / f"{kind}.txt").read_text()
    pins = dict(line.split("==") for line in text.splitlines() if line and not line.startswith("#"))
    assert "://" not in text
    assert not [version for version in pins.values() if "+" in version]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    from packaging.requirements import Requirement

    extras = project["optional-dependencies"]
    for line in project["dependencies"] + extras[kind] + extras["cuda"] + extras["dev"]:
        needed = Requirement(line)
        assert needed.specifier.contains(pins[needed.name.lower()]), line


def test_a_score_of_this_repository_needs_nothing_that_only_its_tests_need(python):
    """`make score` installs no more than this; pytest reads tests/conftest.py all the same."""
    line = ("-m", "pytest", "-p", "no:cacheprovider", "--avo-score", "--collect-only", "-q")
    done = run(python, *line, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_throughput[" in done.stdout
    assert run(python, "-c", "import hypothesis", cwd=ROOT).returncode == 1
