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
PACKAGE, AGENT = "avo_pytest", "agent"


def modules(package: str) -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / package).rglob("*.py"))
    }


JUDGE, VARYING = modules(PACKAGE), modules(AGENT)
MODULES = JUDGE | VARYING
FOREIGN = {"kernels", "bench", "agent"}
HEAVY = ("torch", "numpy", "scipy", "cuda", "rich", "git", "jsonschema", "simpleeval")
PYTEST_SHELL = {
    "avo_pytest.options",
    "avo_pytest.collection",
    "avo_pytest.plugin",
    "avo_pytest.replay",
    "avo_pytest.session",
}
# The agent meets the judge as a subprocess and a JSON record. These parts it imports, each for:
MET = {
    # what a record says, in the words in which `avo` says it
    **dict.fromkeys(
        ("score", "summary", "report.outcome", "report.compiled", "strict_json"), "records"
    ),
    # versions, proposals and the ledger as git has them: one normal form, one reader
    **dict.fromkeys(
        ("branches", "commits", "identity", "source", "landing", "recording", "entries", "ledger",
         "lineage", "report.entry", "report.ladder"), "lineage",
    ),
    # whether this machine is calibrated for the policy of main, and what a confirm will take
    **dict.fromkeys(("policy", "calibration", "calibrations", "sample_size", "gates"), "preflight"),
    # the same walls around the agent's shell, and the compiler's tools, as around the judge's
    **dict.fromkeys(("sandbox", "confine", "toolchain"), "confinement"),
    # which kernels there are, as pytest chooses among them
    **dict.fromkeys(("collection", "options"), "command line"),
    **dict.fromkeys(("printable", "journal", "ci.github"), "plain helpers"),
    "loading": "agent.tools.traffic, a process of its own",
}  # fmt: skip
MEASURING = {  # what must never run in the agent's process
    f"{PACKAGE}.{name}"
    for name in ("judge", "worker", "timing", "build", "correctness", "devices", "promote")
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
    return frozenset(found & MODULES.keys() - {module, PACKAGE, AGENT})


def levels(module: str, above: tuple[str, ...] = ()) -> int:
    """Of its own package: the judge is one floor, the agent another on top of it."""
    assert module not in above, f"import cycle: {' → '.join([*above, module])}"
    own = [below for below in needs(module) if package(below) == package(module)]
    return 1 + max((levels(below, (*above, module)) for below in own), default=0)


def package(module: str) -> str:
    return module.partition(".")[0]


def imports(module: str) -> set[str]:
    """All that it imports, at whatever time."""
    return {name for node in ast.walk(tree(module)) for name in imported(node)}


def functions(module: str) -> list[tuple[str, int]]:
    return [
        (f"{module}.{node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for node in ast.walk(tree(module))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    assert levels(module) <= MAX_LEVELS


@pytest.mark.parametrize("module", JUDGE)
def test_the_judge_knows_no_kernel_problem_or_agent(module):
    assert not {package(name) for name in imports(module)} & FOREIGN


@pytest.mark.parametrize("module", VARYING)
def test_the_agent_knows_no_kernel_or_problem_and_no_torch(module):
    assert not {package(name) for name in imports(module)} & {"kernels", "bench", "torch"}


def test_the_agent_imports_of_the_judge_what_is_listed():
    found = {name for module in VARYING for name in imports(module) if package(name) == PACKAGE}
    assert found - {PACKAGE} == {f"{PACKAGE}.{name}" for name in MET}


def test_nothing_that_measures_runs_in_the_agents_process():
    pending = {name for module in VARYING for name in imports(module)} & JUDGE.keys() - {PACKAGE}
    reached: set[str] = set()
    while pending:
        reached |= pending
        pending = {below for module in pending for below in needs(module)} - reached
    assert not {m for m in reached if any(f"{m}.".startswith(f"{no}.") for no in MEASURING)}


def test_problems_are_loaded_in_a_process_of_its_own():
    loading = {m for m in VARYING if f"{PACKAGE}.loading" in imports(m)}
    assert loading == {"agent.tools.traffic"}
    assert not [m for m in VARYING if imports(m) & loading]


def test_only_the_shell_knows_pytest():
    assert {module for module in MODULES if "pytest" in imports(module)} <= PYTEST_SHELL


def test_the_plugin_imports_nothing_heavy():
    code = f"import sys, avo_pytest.plugin; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("of", [JUDGE, VARYING], ids=[PACKAGE, AGENT])
def test_functions_are_short(of):
    lengths = [length for module in of for _, length in functions(module)]
    too_long = [f for module in of for f in functions(module) if f[1] > MAX_FUNCTION_LINES]
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
