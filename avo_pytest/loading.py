# SPDX-License-Identifier: MIT
"""Loads a problem by path, so that the judge never imports `bench` or `kernels` by name."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import tomllib
from pathlib import Path
from typing import Any

from avo_pytest.problem import Problem


def problem_reference(kernel: str, root: Path) -> str:
    """FILE:NAME of a kernel's problem: `[tool.avo.kernels.<kernel>] problem` or the default."""
    pyproject = root / "pyproject.toml"
    table: Any = tomllib.loads(pyproject.read_text(encoding="utf-8")) if pyproject.is_file() else {}
    for key in ("tool", "avo", "kernels", kernel, "problem"):
        table = table.get(key, {})
    return table if isinstance(table, str) else f"bench/{kernel}/problem.py:PROBLEM"


def load_problem(reference: str, *, root: Path) -> Problem:
    """The problem called FILE:NAME, FILE relative to root, or of a kernel of that name.

    Raises FileNotFoundError, or TypeError when NAME is not a Problem.
    """
    if ":" not in reference:
        reference = problem_reference(reference, root)
    file, _, name = reference.rpartition(":")
    path = (root / file).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it should define {name} = Problem(…)")
    problem = getattr(_module(path), name, None)
    if not isinstance(problem, Problem):
        raise TypeError(f"{path}: {name} is {type(problem).__name__}, not an avo_pytest Problem")
    return problem


def _module(path: Path) -> Any:
    """The module at a path, under a name of its own (dataclasses look theirs up in sys.modules)."""
    name = f"avo_problem_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
