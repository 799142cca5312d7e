# SPDX-License-Identifier: MIT
"""`avo promote RECORD`: the verdict into the ledger, and `main` forward where it promotes."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avo_pytest.printable import one_plain_line
from avo_pytest.sentence import sentence

if TYPE_CHECKING:
    from avo_pytest.promote import Outcome

EXAMPLES = """\
examples:
  avo promote record.json                        what HEAD has, judged at this desk
  avo promote record.json --commit my-branch     ... or another commit
  avo promote record.json --remote origin        into another repository (name, URL or path)
  avo promote seed.json                          main's own measurement: version 0
  avo promote h100.json --role judge --nonce N --witness b200.json

Everything is checked on the tips that are then moved, by one push without force: the record is
derived again from its samples, judge, problem, policy and gate table are main's, the incumbent is
what main has, the commit changes one target folder and is what was judged. Verdicts that do not
promote are recorded. docs/promotion.md says what is refused and why.

exit status: 0 main moved (or the seed was recorded); 10 REJECT, 11 INCONCLUSIVE, 12 INCORRECT,
13 INVALID, 14 NO-CHANGE, recorded only; 20 refused, which is recorded; 1 nothing was recorded;
2 usage.
"""
REFUSED, FAILED = 20, 1


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "promote",
        help="record a verdict; land it on main where it promotes",
        description="Put the verdict of a record into the ledger, and move main forward to the "
        "proposal that was judged where the verdict is PROMOTE and everything agrees.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("record", type=Path, metavar="RECORD", help=".json or .json.gz")
    parser.add_argument("--remote", metavar="REMOTE", help="default: as `avo lineage` chooses")
    parser.add_argument("--commit", metavar="REF", help="what is to land (default: HEAD)")
    parser.add_argument(
        "--witness", type=Path, action="append", default=[], metavar="RECORD",
        help="of another device, which must not have seen a loss; may be repeated",
    )  # fmt: skip
    role = "judge: the gate table must call the device so (default: local, never on a badge)"
    parser.add_argument("--role", choices=("local", "judge"), default="local", help=role)
    parser.add_argument("--nonce", default="", metavar="N", help="of the question (role judge)")
    parser.add_argument("--author", default="", metavar="NAME", help="default: the commit's")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the outcome here")
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="repository")


def run(arguments: argparse.Namespace) -> int:
    """Promote, say what became of it."""
    from avo_pytest.branches import GitError
    from avo_pytest.entries import Damaged

    try:
        outcome = _promote(arguments)
    except (GitError, Damaged, OSError, ValueError) as error:
        said = one_plain_line(sentence(error), 400)
        if "checked out" in said:
            said = "main is checked out there: git switch to another branch, or use --remote"
        print(f"avo promote: nothing was recorded: {said}", file=sys.stderr)
        return FAILED
    tell("avo promote", outcome, arguments.json)
    return _code(outcome)


def tell(command: str, outcome: Outcome, path: Path | None) -> None:
    """One line for people, one file for programs."""
    from avo_pytest.journal import write_atomically

    entry = outcome.entry.id if outcome.entry else ""
    rule = f"{outcome.rule}: " if outcome.rule else ""
    print(f"{command}: {outcome.kind}: {one_plain_line(rule + outcome.text, 400)}")
    print(f"  entry {entry}" + (f" · main {outcome.main}" if outcome.main else ""))
    if path is not None:
        write_atomically(path, json.dumps(asdict(outcome), indent=1) + "\n")


def _promote(arguments: argparse.Namespace) -> Outcome:
    from avo_pytest import branches, ledger, verifying
    from avo_pytest.promote import promote

    record = verifying.read(arguments.record)
    with branches.opened(arguments.root) as repository:
        name = arguments.remote or ledger.usual_remote(repository)
        commit = _commit(repository, arguments.commit or "HEAD")
        if commit is None and arguments.commit:
            raise branches.GitError(f"--commit {arguments.commit}: no such commit here")
        return promote(
            branches.Remote(repository, name),
            arguments.root,
            record,
            proposal=commit,
            witnesses=[verifying.read(path) for path in arguments.witness],
            role=arguments.role,
            nonce=arguments.nonce,
            author=arguments.author,
        )


def _commit(repository: Any, reference: str) -> str | None:
    """A commit's name; nothing that begins with a dash is a reference."""
    from avo_pytest.branches import GitError, git_text

    try:
        wanted = f"{reference}^{{commit}}"
        return git_text(repository, "rev-parse", "--verify", "--end-of-options", wanted)
    except GitError:
        return None


def _code(outcome: Outcome) -> int:
    from avo_pytest.report.outcome import EXIT_CODES

    if outcome.kind == "refused":
        return REFUSED
    entry = outcome.entry
    if outcome.main is not None or entry is None or entry.kind == "seed":
        return 0
    return EXIT_CODES.get(entry.verdict, FAILED)
