# SPDX-License-Identifier: MIT
"""`avo badge`: badges out of the ledger, as SVG and for shields.io."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from avo_pytest.sentence import sentence

EXAMPLES = """\
examples:
  avo badge --out badges                     badges/<kernel>-<target>/<device>/{best,lineage,...}
  avo badge --out badges --remote origin     of the remote's ledger as it is now
  avo lineage publish                        the same onto the ledger branch

In a README the path ../../raw/avo-results/badges/attention-sm90/nvidia-h100/best.svg (relative to
the README's page on GitHub) is right on forks and in private repositories. The .json beside each
is for https://img.shields.io/endpoint?url=..., which needs a public repository.

exit status: 0 written, 1 there is no ledger or it is damaged.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "badge",
        help="badges of every judged kernel: SVG and shields.io JSON",
        description="Audited throughput, length of the lineage, last verdict and noise floor, "
        "as SVG and as shields.io endpoint JSON. Only what a judge has measured is shown.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument("--remote", metavar="REMOTE", help="ask this repository for its ledger")
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="repository")


def run(arguments: argparse.Namespace) -> int:
    """Write the files."""
    from avo_pytest.branches import GitError
    from avo_pytest.entries import Damaged
    from avo_pytest.journal import write_atomically
    from avo_pytest.ledger import load
    from avo_pytest.report.badge import badges, summary

    try:
        entries = load(arguments.root, arguments.remote)
        files = badges(entries)
        for path, text in files.items():
            write_atomically(arguments.out / path, text)
    except (GitError, Damaged, OSError) as error:
        print(f"avo badge: {sentence(error)}", file=sys.stderr)
        return 1
    print("\n".join([*summary(entries), f"wrote {len(files)} files to {arguments.out}"]))
    if not files:
        print("No judge has measured anything yet (figures of role `local` make no badge).")
    return 0
