# SPDX-License-Identifier: MIT
"""`avo export`: records and the ledger in the formats of other tools."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from avo_pytest.sentence import sentence

EXAMPLES = """\
examples:
  avo export csv                                    the ledger, one row an entry
  avo export csv .avo/runs/RUN/record.json          every timed launch of a run
  avo export github-action-benchmark                what main has, for customBiggerIsBetter
  avo export github-action-benchmark record.json    one run, per configuration
  avo export pytest-benchmark record.json --out run.json && pytest-benchmark compare run.json
  avo export flashinfer-trace record.json --out traces.jsonl

exit status: 0 written, 1 the record or the ledger cannot be read, 2 usage.
"""
FORMATS = ("csv", "github-action-benchmark", "pytest-benchmark", "flashinfer-trace")
OF_THE_LEDGER = FORMATS[:2]


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "export",
        help="records and the ledger in other tools' formats",
        description="Write a record, or without one the ledger, in another tool's format.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", choices=FORMATS, metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("record", type=Path, nargs="?", metavar="RECORD", help="a record.json")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument("--remote", metavar="REMOTE", help="ask this repository for its ledger")
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="repository")


def run(arguments: argparse.Namespace) -> int:
    """Convert and write."""
    from avo_pytest.branches import GitError
    from avo_pytest.entries import Damaged
    from avo_pytest.journal import write_atomically

    if arguments.record is None and arguments.format not in OF_THE_LEDGER:
        print(f"avo export: {arguments.format} is made of a record: name one", file=sys.stderr)
        return 2
    try:
        text = _text(arguments)
        if arguments.out is None:
            sys.stdout.write(text)
        else:
            write_atomically(arguments.out, text)
    except (GitError, Damaged, OSError, ValueError, KeyError) as error:
        print(f"avo export: {sentence(error)}", file=sys.stderr)
        return 1
    return 0


def _text(arguments: argparse.Namespace) -> str:
    from avo_pytest.ledger import load
    from avo_pytest.report import export, trace
    from avo_pytest.score import Record

    if arguments.record is None:
        entries = load(arguments.root, arguments.remote)
        if arguments.format == "csv":
            return export.ledger_csv(entries)
        return export.github_action_benchmark_of(entries)
    record = Record.from_json(arguments.record.read_text(encoding="utf-8"))
    formats = {
        "csv": export.samples_csv, "github-action-benchmark": export.github_action_benchmark,
        "pytest-benchmark": export.pytest_benchmark, "flashinfer-trace": trace.flashinfer_trace,
    }  # fmt: skip
    return formats[arguments.format](record)
