# SPDX-License-Identifier: MIT
"""`avo verify RECORD`: derive verdict and figures again from the raw samples, and compare."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avo_pytest.printable import printable

if TYPE_CHECKING:
    from avo_pytest.entries import Entry
    from avo_pytest.score import Record

EXAMPLES = """\
examples:
  avo verify record.json                     does the verdict follow from the samples in it?
  avo verify record.json.gz --root .         ... and would this tree's judge say the same?
  avo verify .avo/runs/*/record.json         several; the worst decides the exit status
  avo verify record.json --ledger            is it in the ledger, and does its line say the same?
  avo verify record.json --ledger origin     ... as it is on origin now
  avo verify 20261122-101500-ab12cd --ledger origin     a run's samples as they are kept there

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
    parser.add_argument("records", nargs="+", type=Path, metavar="RECORD",
        help=".json or .json.gz; with --ledger also a run whose raw samples were kept",
    )  # fmt: skip
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="repository to compare with (its problem is run)"
    )
    parser.add_argument(
        "--ledger",
        nargs="?",
        const="",
        metavar="REMOTE",
        help="also compare with the entry in the ledger (without a name: as last fetched)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what agrees and what does not; the highest status of all."""
    from avo_pytest.branches import GitError
    from avo_pytest.entries import Damaged
    from avo_pytest.ledger import load

    entries = None
    if arguments.ledger is not None:
        try:
            entries = load(arguments.root or Path(), arguments.ledger or None)
        except (GitError, Damaged) as error:
            return _unreadable("ledger", str(error))
    return max(_one(path, arguments, entries) for path in arguments.records)


def _one(path: Path, arguments: argparse.Namespace, entries: list[Entry] | None) -> int:
    from avo_pytest.branches import GitError
    from avo_pytest.entered import entered
    from avo_pytest.entries import Damaged
    from avo_pytest.promotion import decide
    from avo_pytest.verifying import against_itself, against_tree, recorded_policy, told

    root = arguments.root
    try:
        record = _read(path, arguments, entries)
    except OSError as error:
        return _unreadable(path, error.strerror or str(error))
    except (ValueError, GitError, Damaged) as error:
        return _unreadable(path, str(error))
    findings = list(against_itself(record))
    if root is not None:
        findings += against_tree(record, root)
    found = None if entries is None else entered(record, entries)
    findings += found.findings if found else ()
    for finding in findings:
        print(f"{path}: differs: {printable(finding, ' ')}")
    if findings:
        return DIFFERS
    verdict = decide(record, recorded_policy(record))
    print(f"{path}: agrees: {verdict.kind} follows from {len(record.samples)} samples")
    print(f"  {printable(told(verdict), ' ')}")
    if found is not None and found.entry is not None:
        print(f"  {printable(_told(found.entry), ' ')}")
    return AGREES


def _read(path: Path, arguments: argparse.Namespace, entries: list[Entry] | None) -> Record:
    """A file; or, where there is none of that name, the samples of a run in the ledger."""
    from avo_pytest.ledger import load_raw
    from avo_pytest.score import Record
    from avo_pytest.verifying import read

    entry = next((e for e in entries or () if e.id == str(path)), None)
    if entry is None or path.exists():
        return read(path)
    return Record.from_json(load_raw(arguments.root or Path(), entry, arguments.ledger or None))


def _told(entry: Entry) -> str:
    """What the ledger says of it."""
    if entry.kind == "refusal":
        return f"refused in the ledger: {entry.id}: " + "; ".join(
            f"{r.get('rule')}: {r.get('text')}" for r in entry.reasons
        )
    version = "" if entry.version is None else f", version {entry.version}"
    return f"in the ledger: {entry.kind} {entry.verdict}{version}, role {entry.role}"


def _unreadable(path: Path | str, why: str) -> int:
    print(f"avo verify: {path}: {printable(why, ' ')}", file=sys.stderr)
    return UNREADABLE
