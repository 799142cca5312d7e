# SPDX-License-Identifier: MIT
"""`avo merge SHARE…`: the shares of one confirm, run on several machines, as one record."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from avo_pytest.printable import printable

EXAMPLES = """\
examples:
  avo score --mode confirm --share 1/2 --nonce try7 --json a.json    on one machine
  avo score --mode confirm --share 2/2 --nonce try7 --json b.json    on another of the same model
  avo merge a.json b.json -o whole.json                              the confirm, with its verdict

A share alone is INVALID, whatever it shows. What is merged are all shares of one confirm, each
once: the same candidate, incumbent, artifacts, judge, policy, problem set and nonce, on devices of
one model and driver. The same shares give the same record, which names them; `avo verify` derives
it again.

exit status: 0 merged, whatever the verdict; 1 not the shares of one confirm; 4 unreadable.
"""
REFUSED, UNREADABLE = 1, 4


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "merge",
        help="one record of the shares of a confirm",
        description="Put the shares of a confirm together that several machines ran.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shares", nargs="+", type=Path, metavar="SHARE", help=".json or .json.gz")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="the whole record (.json)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the whole and say its verdict; nothing is written where there is none."""
    from avo_pytest.journal import write_atomically
    from avo_pytest.merging import NotShares, merge
    from avo_pytest.promotion import decide
    from avo_pytest.verifying import read, recorded_policy, told

    found = []
    for path in arguments.shares:
        try:
            found.append((str(path), read(path)))
        except (OSError, ValueError) as error:
            return _failed(UNREADABLE, f"{path}: {getattr(error, 'strerror', None) or error}")
    try:
        merged = merge(found)
    except NotShares as no:
        return _failed(REFUSED, str(no))
    write_atomically(arguments.out, merged.to_json() + "\n")
    verdict = decide(merged, recorded_policy(merged))
    print(f"{arguments.out}: {verdict.kind}, merged of {len(found)} shares as run {merged.run}")
    print(f"  {printable(told(verdict), ' ')}")
    return 0


def _failed(code: int, why: str) -> int:
    print(f"avo merge: {printable(why, ' ')}", file=sys.stderr)
    return code
