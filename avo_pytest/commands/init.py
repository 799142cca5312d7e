# SPDX-License-Identifier: MIT
"""`avo init`: a ledger for this repository, and a first kernel where there is none."""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from pathlib import Path
from typing import Any

from avo_pytest.sentence import sentence

EXAMPLES = """\
examples:
  avo init                    in this clone only; nothing leaves the machine
  avo init --remote           the ledger on origin, for a fork whose CI promotes
  avo init --remote ../bare.git
  avo init --kernel softmax   in a repository without kernels: the first is called softmax

It makes, where they are missing: the orphan branch avo-results (from docs/lineage/*.jsonl.gz where
the repository ships one) with badges that say "not measured yet"; and in a repository without a
kernels/ folder one kernel that scores as it is, its problem and tests, pyproject.toml, .gitignore.
Nothing that exists is changed: run it again at any time.

exit status: 0 everything is there, 1 something could not be made.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "init",
        help="begin the ledger; in a foreign repository also a first kernel",
        description="Begin the ledger of this repository, from the lineage that it ships if any, "
        "and write the minimal layout where there are no kernels.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--remote", nargs="?", const="origin", metavar="REMOTE",
        help="push the ledger there (without a name: origin); default: this clone only",
    )  # fmt: skip
    parser.add_argument("--kernel", default="norm", metavar="NAME", help="first kernel (norm)")
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="repository")


def run(arguments: argparse.Namespace) -> int:
    """Make what is missing and say what was done."""
    from avo_pytest.branches import GitError
    from avo_pytest.entries import Damaged

    name = arguments.kernel
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        print(
            f"avo init: {name!r} must be lower-case letters, digits, underscores", file=sys.stderr
        )
        return 2
    try:
        root = _top(arguments.root)
        foreign = _layout(root, name)
        _ledger(root, arguments.remote)
    except (GitError, Damaged, OSError, ValueError) as error:
        print(f"avo init: {sentence(error)}", file=sys.stderr)
        return 1
    print("\nnext: " + ("pytest --avo-score" if foreign else "avo lineage, avo score"))
    return 0


def _top(folder: Path) -> Path:
    """The root of the repository around a folder."""
    from avo_pytest import branches

    with branches.opened(folder) as repository:
        if repository.working_dir is None or repository.bare:
            raise branches.GitError(f"{folder} is a bare repository: name it with --remote instead")
        return Path(repository.working_dir)


def _layout(root: Path, kernel: str) -> bool:
    """Write the files that are missing; whether there were any."""
    from avo_pytest.beginning import advice, layout

    wanted = layout(root, kernel)
    for path, text in wanted.items():
        there = root / path
        if not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_text(text, encoding="utf-8")
            print(f"wrote   {path}")
            continue
        missing = advice(path, text, there.read_text(encoding="utf-8"))
        print(f"kept    {path}" + (", please add to it:" if missing else ""))
        print("".join(f"          {line}\n" for line in missing.splitlines()), end="")
    if not wanted:
        print("kept    kernels/")
    return bool(wanted)


def _ledger(root: Path, remote_name: str | None) -> None:
    from avo_pytest import branches, ledger
    from avo_pytest.beginning import ledger_files
    from avo_pytest.shipping import shipped

    with branches.opened(root) as repository:
        remote = branches.Remote(repository, remote_name or branches.HERE)
        where = f"on {remote.name}" if remote_name else "in this clone"
        if remote_name is None and (known := ledger.find(repository)) is not None:
            print(f"kept    the ledger {where}: {len(ledger.read(repository, known))} entries")
            return
        entries = shipped(root)
        local = ledger.find(repository)
        made = ledger.create(remote, ledger_files(root, entries), entries, instead=local)
        tip = made or ledger.find(repository, remote.name)
        count = len(ledger.read(repository, tip)) if tip else 0
        print(f"{'wrote' if made else 'kept '}   the ledger {where}: {count} entries")
