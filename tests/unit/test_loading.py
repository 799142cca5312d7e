# SPDX-License-Identifier: MIT
"""Problems are found by kernel name or by path, and said to be missing in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from avo_pytest.loading import load_problem, problem_reference

SMALL = Path(__file__).with_name("small_problems.py")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "bench" / "scale").mkdir(parents=True)
    source = SMALL.read_text(encoding="utf-8") + "\nPROBLEM = SCALE\nOTHER = 3\n"
    (tmp_path / "bench" / "scale" / "problem.py").write_text(source, encoding="utf-8")
    return tmp_path


def test_by_kernel_name(root: Path) -> None:
    assert problem_reference("scale", root) == "bench/scale/problem.py:PROBLEM"
    assert load_problem("scale", root=root).name == "scale"


def test_by_path(root: Path) -> None:
    assert load_problem("bench/scale/problem.py:ATTENTION", root=root).name == "attention"
    assert load_problem(f"{SMALL}:SCALE", root=root).name == "scale"


def test_override(root: Path) -> None:
    text = '[tool.avo.kernels.mine]\nproblem = "bench/scale/problem.py:ATTENTION"\n'
    (root / "pyproject.toml").write_text(text, encoding="utf-8")
    assert load_problem("mine", root=root).name == "attention"
    assert problem_reference("scale", root) == "bench/scale/problem.py:PROBLEM"


def test_missing(root: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"bench/other/problem.py: no such file; .* PROBLEM"
    ):
        load_problem("other", root=root)
    with pytest.raises(TypeError, match="OTHER is int, not an avo_pytest Problem"):
        load_problem("bench/scale/problem.py:OTHER", root=root)
    with pytest.raises(TypeError, match="NOTHING is NoneType"):
        load_problem("bench/scale/problem.py:NOTHING", root=root)
