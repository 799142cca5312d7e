# SPDX-License-Identifier: MIT
"""The harness's identity: a hash of what can change a verdict and nothing else."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ENTRIES = ("worker", "judge")
DATA_SUFFIXES = (".cu", ".cpp", ".h")
DATA_FILES = ("schemas/kernel.schema.json",)  # the other schemas describe what is written


def harness_hash(root: Path, problem_ref: str) -> str:
    """SHA-256 over the closure of worker and judge, their data files, and the problem's folder."""
    files = sorted(_closure()) + sorted(_data_files())
    digest = hashlib.sha256()
    for path in files:
        _add(digest, path.relative_to(PACKAGE).as_posix(), path)
    bench = (root / problem_ref.rpartition(":")[0]).parent
    for path in sorted(bench.glob("*.py")):
        _add(digest, f"bench/{path.name}", path)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, path: Path) -> None:
    content = path.read_bytes()
    digest.update(f"{name} {len(content)}\n".encode())
    digest.update(content)


def _data_files() -> list[Path]:
    sources = [
        p for p in PACKAGE.rglob("*") if p.suffix in DATA_SUFFIXES and "templates" not in p.parts
    ]
    return sources + [PACKAGE / name for name in DATA_FILES]


def _closure() -> set[Path]:
    """Modules of this package reachable from ENTRIES by import statements, wherever they stand."""
    found: set[Path] = set()
    pending = [PACKAGE / f"{name}.py" for name in ENTRIES]
    while pending:
        path = pending.pop()
        if path in found:
            continue
        found.add(path)
        for name in _imported(path):
            pending.extend(p for p in _module_files(name) if p not in found)
    return found


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {n for n in names if n.split(".")[0] == PACKAGE.name}


def _module_files(name: str) -> list[Path]:
    base = PACKAGE.joinpath(*name.split(".")[1:])
    return [p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()]
