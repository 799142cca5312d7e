# SPDX-License-Identifier: MIT
"""`avo new kernel NAME`: a kernel, its problem and its tests that already score."""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from importlib import resources
from pathlib import Path
from typing import Any

EXAMPLES = """\
examples:
  avo new kernel softmax                   kernels/softmax/cpu and bench/softmax
  avo new kernel softmax --target sm80     a CUDA kernel instead

The new kernel is an RMS norm that builds, passes and scores as it is:
  pytest --avo-score --avo-kernel softmax
Then replace the problem in bench/softmax/problem.py and the kernel by your own.
"""
SOURCES = {"cpu": "kernel.cpp", "sm80": "kernel.cu"}


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "new",
        help="write a working kernel, its problem and its tests",
        description="Write a working kernel, its problem and its tests, to be replaced by yours.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=["kernel"], help="what to write")
    parser.add_argument("name", metavar="NAME", help="lower-case letters, digits and underscores")
    parser.add_argument("--target", choices=sorted(SOURCES), default="cpu", help="default: cpu")
    parser.add_argument(
        "--root", type=Path, default=Path(), metavar="DIR", help="repository (default: here)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the files; nothing that exists is touched."""
    name, target, root = arguments.name, arguments.target, arguments.root
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        return _refuse(
            f"{name!r} must be lower-case letters, digits and underscores, and no Python keyword"
        )
    files = kernel_files(name, target)
    for folder in (root / "kernels" / name, root / "bench" / name):
        if folder.exists():
            return _refuse(f"{folder} exists already")
    try:
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
    except OSError as error:
        return _refuse(f"cannot write {error.filename}: {error.strerror}")
    for path in files:
        print(f"wrote {root / path}")
    print(f"\nscore it: pytest --avo-score --avo-kernel {name} --avo-target {target}")
    return 0


def kernel_files(name: str, target: str) -> dict[Path, str]:
    """Path under the repository → contents."""
    templates = resources.files("avo_pytest") / "templates"
    source = SOURCES[target]
    places = {
        "bench/problem.py": Path("bench", name, "problem.py"),
        "bench/test_kernel.py": Path("bench", name, f"test_{name}.py"),
        f"{target}/kernel.toml": Path("kernels", name, target, "kernel.toml"),
        f"{target}/{source}": Path("kernels", name, target, source.replace("kernel", name)),
    }
    return {
        path: (templates / f"{template}.in").read_text(encoding="utf-8").replace("@KERNEL@", name)
        for template, path in places.items()
    }


def _refuse(reason: str) -> int:
    print(f"avo new: {reason}", file=sys.stderr)
    return 2
