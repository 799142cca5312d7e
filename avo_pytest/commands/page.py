# SPDX-License-Identifier: MIT
"""`avo page`: the lineage as one self-contained page."""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avo_pytest.sentence import sentence

if TYPE_CHECKING:
    from avo_pytest.lineage import Lineage

EXAMPLES = """\
examples:
  avo page --out site                    site/index.html, from the ledger as last fetched
  avo page --out site --remote origin    ... as it is on origin now
  avo page --out site --kernel attention --target sm90
  python -m webbrowser site/index.html

The page needs no network and no server; charts and tables are readable without JavaScript, which
adds the choice of units, tooltips and the search. Charts need: pip install 'avo-pytest[report]'

exit status: 0 written, 1 there is no ledger, it is damaged, or matplotlib is missing.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "page",
        help="the lineage as one self-contained web page",
        description="Versions, attempts, baselines and reasons as one HTML file.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument("--kernel", metavar="KERNEL", help="only this kernel")
    parser.add_argument("--target", metavar="TARGET", help="only this target")
    parser.add_argument("--title", metavar="TEXT", help="default: the repository's name")
    parser.add_argument("--public", action="store_true", help="only what judges measured")
    parser.add_argument("--remote", metavar="REMOTE", help="ask this repository for its ledger")
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="repository")


def run(arguments: argparse.Namespace) -> int:
    """Write index.html."""
    from avo_pytest.branches import GitError
    from avo_pytest.entries import Damaged

    if importlib.util.find_spec("matplotlib") is None:  # an extra
        print("avo page: needs matplotlib: pip install 'avo-pytest[report]'", file=sys.stderr)
        return 1
    try:
        path, size = _write(arguments)
    except (GitError, Damaged, OSError, ValueError) as error:
        print(f"avo page: {sentence(error)}", file=sys.stderr)
        return 1
    print(f"wrote {path} ({size / 1e6:.2f} MB)")
    return 0


def _write(arguments: argparse.Namespace) -> tuple[Path, int]:
    from avo_pytest import branches, ledger
    from avo_pytest.journal import write_atomically
    from avo_pytest.lineage import lineages
    from avo_pytest.report.page import Surroundings, page

    with branches.opened(arguments.root) as repository:
        tip = ledger.find(repository, arguments.remote)
        if tip is None:
            raise ledger.NoLedger("there is no ledger yet; make one: avo init")
        entries = ledger.read(repository, tip)
        found = lineages(
            (
                e for e in entries
                if arguments.kernel in (None, e.kernel) and arguments.target in (None, e.target)
            ),
            public=arguments.public,
        )  # fmt: skip
        if entries and not found and (arguments.kernel or arguments.target):
            raise ValueError("no entry fits --kernel and --target")
        around = Surroundings(
            title=arguments.title or Path(repository.working_dir).name,
            ledger=tip[:12], commit_url=_commit_url(repository), diffs=_diffs(repository, found),
        )  # fmt: skip
    text = page([x for x in found if x.attempts or x.notes], around)
    write_atomically(arguments.out / "index.html", text)
    return arguments.out / "index.html", len(text.encode())


def _commit_url(repository: Any) -> str:
    """Of a remote on GitHub; empty for others, whose pages we do not know."""
    urls = [url for remote in repository.remotes if remote.name == "origin" for url in remote.urls]
    found = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", urls[0]) if urls else None
    return f"https://github.com/{found[1]}/commit/" if found else ""


def _diffs(repository: Any, found: list[Lineage]) -> dict[str, str]:
    """What each landing commit changed in its kernel's folder, where it is in this clone."""
    from avo_pytest import branches

    diffs = {}
    for lineage in found:
        folder = f"kernels/{lineage.series.kernel}/{lineage.series.target}"
        for rung in lineage.rungs:
            commit = rung.entry.commit
            if branches.has(repository, commit):
                diffs[commit] = repository.git.show(
                    "--format=", "--no-ext-diff", "--no-textconv", commit, "--", folder
                )
    return diffs
