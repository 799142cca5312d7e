# SPDX-License-Identifier: MIT
"""`avo verify RECORD`: derive verdict and figures again from the raw samples, and compare."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from avo_pytest.printable import printable

EXAMPLES = """\
examples:
  avo verify record.json                     does the verdict follow from the samples in it?
  avo verify record.json.gz --root .         ... and would this tree's judge say the same?
  avo verify .avo/runs/*/record.json         several; the worst decides the exit status

Without --root a record is judged by the policy that it names itself, so that it proves no more than
that nobody made a mistake or edited it afterwards. With --root the policy, the harness, the
configurations and their FLOPs are the tree's. Neither can tell whether the samples were measured.

exit status: 0 everything agrees, 1 something differs (each is named), 4 unreadable.
"""
AGREES, DIFFERS, UNREADABLE = 0, 1, 4


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "verify",
        help="derive a record's verdict again from its raw samples",
        description="Derive verdict and figures again from a record's raw samples and compare them "
        "with what the record says, byte for byte.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("records", nargs="+", type=Path, metavar="RECORD", help=".json or .json.gz")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="repository to compare with (its problem is run)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what agrees and what does not; the highest status of all."""
    return max(_one(path, arguments.root) for path in arguments.records)


def _one(path: Path, root: Path | None) -> int:
    from avo_pytest.promotion import decide
    from avo_pytest.verifying import against_itself, against_tree, read, recorded_policy, told

    try:
        record = read(path)
    except OSError as error:
        return _unreadable(path, error.strerror or str(error))
    except ValueError as error:
        return _unreadable(path, str(error))
    findings = list(against_itself(record))
    if root is not None:
        findings += against_tree(record, root)
    for finding in findings:
        print(f"{path}: differs: {printable(finding, ' ')}")
    if findings:
        return DIFFERS
    verdict = decide(record, recorded_policy(record))
    print(f"{path}: agrees: {verdict.kind} follows from {len(record.samples)} samples")
    print(f"  {printable(told(verdict), ' ')}")
    return AGREES


def _unreadable(path: Path, why: str) -> int:
    print(f"avo verify: {path}: {printable(why, ' ')}", file=sys.stderr)
    return UNREADABLE
