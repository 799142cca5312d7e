# SPDX-License-Identifier: MIT
"""The shape of the code: imports go one way, nothing heavy early, functions stay short."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "avo_pytest"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
}
FOREIGN = {"kernels", "bench", "agent"}
HEAVY = ("torch", "numpy", "scipy", "cuda", "rich", "git", "jsonschema", "simpleeval")
PYTEST_SHELL = {
    "avo_pytest.options",
    "avo_pytest.collection",
    "avo_pytest.plugin",
    "avo_pytest.replay",
    "avo_pytest.session",
}
MAX_LEVELS = 9
MAX_FUNCTION_LINES = 60
MAX_MEAN_LINES = 12


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(node: ast.AST) -> Iterator[str]:
    """Names of modules in an import statement; of ours, the submodule where it is one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        inside = [f"{node.module}.{alias.name}" for alias in node.names]
        submodules = [name for name in inside if name in MODULES]
        yield from submodules or [node.module]


def at_import(module: str) -> Iterator[ast.AST]:
    """Statements that run when the module is imported: no function bodies, no TYPE_CHECKING."""
    pending: list[ast.AST] = [tree(module)]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))


@cache
def needs(module: str) -> frozenset[str]:
    """Our modules that importing `module` imports."""
    found = {name for node in at_import(module) for name in imported(node)}
    return frozenset(found & MODULES.keys() - {module, PACKAGE})


def levels(module: str, above: tuple[str, ...] = ()) -> int:
    assert module not in above, f"import cycle: {' → '.join([*above, module])}"
    return 1 + max((levels(below, (*above, module)) for below in needs(module)), default=0)


def functions(module: str) -> list[tuple[str, int]]:
    return [
        (f"{module}.{node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for node in ast.walk(tree(module))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    assert levels(module) <= MAX_LEVELS


@pytest.mark.parametrize("module", MODULES)
def test_the_judge_knows_no_kernel_problem_or_agent(module):
    names = {name.split(".")[0] for node in ast.walk(tree(module)) for name in imported(node)}
    assert not names & FOREIGN


def test_only_the_shell_knows_pytest():
    knowing = {
        module
        for module in MODULES
        if any("pytest" in set(imported(node)) for node in ast.walk(tree(module)))
    }
    assert knowing <= PYTEST_SHELL


def test_the_plugin_imports_nothing_heavy():
    code = f"import sys, avo_pytest.plugin; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_functions_are_short():
    lengths = [length for module in MODULES for _, length in functions(module)]
    too_long = [f for module in MODULES for f in functions(module) if f[1] > MAX_FUNCTION_LINES]
    assert not too_long
    assert sum(lengths) / len(lengths) <= MAX_MEAN_LINES


@pytest.mark.parametrize("module", MODULES)
def test_each_module_says_its_licence_and_its_purpose(module):
    first, *_ = MODULES[module].read_text(encoding="utf-8").splitlines()
    assert first == "# SPDX-License-Identifier: MIT"
    docstring = ast.get_docstring(tree(module))
    assert docstring or MODULES[module].name == "__main__.py"


def test_kernels_and_problems_are_no_packages():
    assert not [*ROOT.glob("kernels/**/__init__.py"), *ROOT.glob("bench/**/__init__.py")]
