# SPDX-License-Identifier: MIT
"""The harness's identity: a hash of what can change a verdict and nothing else."""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ENTRIES = ("worker", "judge")
DATA_SUFFIXES = (".cu", ".cpp", ".h")
DATA_FILES = ("schemas/kernel.schema.json",)  # the other schemas describe what is written


def harness_hash(root: Path, problem_ref: str, *, package: Path = PACKAGE) -> str:
    """SHA-256 over the closure of worker and judge, their data files, and the problem's folder.

    `package`: the judge's code, where it is not the one that runs.
    """
    files = sorted(_closure(package)) + sorted(_data_files(package))
    digest = hashlib.sha256()
    for path in files:
        _add(digest, path.relative_to(package).as_posix(), path)
    bench = (root / problem_ref.rpartition(":")[0]).parent
    for path in sorted(bench.glob("*.py")):
        _add(digest, f"bench/{path.name}", path)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, path: Path) -> None:
    content = path.read_bytes()
    digest.update(f"{name} {len(content)}\n".encode())
    digest.update(content)


def _data_files(package: Path) -> list[Path]:
    found = [p.relative_to(package) for p in package.rglob("*") if p.suffix in DATA_SUFFIXES]
    sources = [package / p for p in found if "templates" not in p.parts]
    return sources + [package / name for name in DATA_FILES]


def _closure(package: Path) -> set[Path]:
    """Modules of a package reachable from ENTRIES by import statements, wherever they stand."""
    present = set(package.rglob("*.py"))
    found: set[Path] = set()
    pending = [package / f"{name}.py" for name in ENTRIES]
    while pending:
        path = pending.pop()
        if path in found:
            continue
        found.add(path)
        for name in _imported(path.read_bytes()):
            pending.extend(
                p for p in _module_files(package, name) if p in present and p not in found
            )
    return found


@functools.lru_cache(maxsize=1024)
def _imported(source: bytes) -> frozenset[str]:
    """Of a module's text; parsing all of them takes longer than all else here."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(n for n in names if n.split(".")[0] == PACKAGE.name)


def _module_files(package: Path, name: str) -> tuple[Path, Path]:
    """Where a module of that name would be, of which there may be none."""
    base = package.joinpath(*name.split(".")[1:])
    return base.with_suffix(".py"), base / "__init__.py"
