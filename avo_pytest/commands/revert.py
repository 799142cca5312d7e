# SPDX-License-Identifier: MIT
"""`avo revert VERSION`: a new commit on `main` that restores what a version replaced."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from avo_pytest.printable import one_plain_line
from avo_pytest.sentence import sentence

EXAMPLES = """\
examples:
  avo revert 7 --kernel attention --target sm90 --reason 'audit 20260301-101500-ab12cd refuted it'
  avo revert 7 --kernel attention --target sm90 --remote origin

Only the newest version can be taken back, because later ones were built on earlier ones; repeat it
to go further back. History is never rewritten: main gets a new commit, the ledger a line, and
promotions that an audit has frozen may go on.

exit status: 0 it is taken back (also when it was already), 1 it cannot be, 2 usage.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "revert",
        help="take a version back: restore what it replaced",
        description="Restore on main what a version replaced, by a new commit and a line in the "
        "ledger, both in one push without force.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("version", type=int, metavar="VERSION", help="the newest one")
    parser.add_argument("--kernel", required=True, metavar="KERNEL", help="of which kernel")
    parser.add_argument("--target", required=True, metavar="TARGET", help="and target")
    parser.add_argument("--reason", default="", metavar="TEXT", help="one line, kept for ever")
    parser.add_argument("--remote", metavar="REMOTE", help="default: as `avo lineage` chooses")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the outcome here")
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="repository")


def run(arguments: argparse.Namespace) -> int:
    """Take back, say what became of it."""
    from avo_pytest import branches, ledger
    from avo_pytest.commands.promote import tell
    from avo_pytest.entries import Damaged
    from avo_pytest.reverting import revert

    try:
        with branches.opened(arguments.root) as repository:
            name = arguments.remote or ledger.usual_remote(repository)
            outcome = revert(
                branches.Remote(repository, name),
                kernel=arguments.kernel,
                target=arguments.target,
                version=arguments.version,
                reason=arguments.reason,
            )
    except (branches.GitError, Damaged, OSError) as error:
        print(f"avo revert: {one_plain_line(sentence(error), 400)}", file=sys.stderr)
        return 1
    tell("avo revert", outcome, arguments.json)
    return 0
