# SPDX-License-Identifier: MIT
"""`avo lineage`: the ladder of versions, and what the ledger says about each of them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avo_pytest.sentence import sentence

if TYPE_CHECKING:
    from avo_pytest.entries import Entry
    from avo_pytest.lineage import Lineage, Rung

EXAMPLES = """\
examples:
  avo lineage                                   the ladder of every kernel, target and device
  avo lineage --kernel attention --target sm90  of one
  avo lineage --json                            for programs
  avo lineage --notes                           ideas that failed, with their numbers
  avo lineage show 7                            version 7; a run id works for any entry
  avo lineage diff 6 7                          what changed, where it was won, the code's diff
  avo lineage note 'tiles of 32 keys' '375 TFLOPS against 413' --kernel attention --target sm80
  avo lineage note --file docs/lineage/attention-sm80.notes.md
  avo lineage export                            docs/lineage/*.jsonl.gz and the ladders *.md
  avo lineage import docs/lineage/*.jsonl.gz    back into the ledger; known entries are skipped
  avo lineage publish                           ladders and badges onto the ledger branch

Reading uses what was last fetched (git fetch origin avo-results); --remote asks the remote. Writing
goes to --remote, else to origin where its ledger is known, else into this repository alone.
exit status: 0 done, 1 there is no ledger, it is damaged, or the remote refuses, 2 usage.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "lineage",
        help="versions, attempts and failed ideas: the ledger made readable",
        description="The ladder of versions: idea, throughput, ratio to each baseline, gain, cost.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _shared(parser, None)
    parser.add_argument("--notes", action="store_true", help="list the ideas that failed")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("show", help="one version or run")
    show.add_argument("what", metavar="VERSION|RUN")
    diff = actions.add_parser("diff", help="two versions side by side")
    diff.add_argument("what", metavar="VERSION", type=int, nargs=2)
    note = actions.add_parser("note", help="keep a failed idea with its numbers")
    note.add_argument("what", metavar="IDEA OUTCOME", nargs="*")
    note.add_argument(
        "--file", type=Path, metavar="NOTES.md", help="all rows of its tables `| idea | outcome |`"
    )
    export = actions.add_parser("export", help="write docs/lineage")
    export.add_argument("--out", type=Path, metavar="DIR", help="default: docs/lineage")
    into = actions.add_parser("import", help="append what an export holds")
    into.add_argument("what", metavar="FILE", type=Path, nargs="+")
    publish = actions.add_parser("publish", help="ladders and badges onto the ledger branch")
    for action in (show, diff, note, export, into, publish):
        _shared(action, argparse.SUPPRESS)


def _shared(parser: argparse.ArgumentParser, default: Any) -> None:
    for flag, text in (
        ("--kernel", "only this kernel"),
        ("--target", "only this target"),
        ("--device", "only devices whose name contains this"),
        ("--remote", "name, URL or path of the repository that holds the ledger"),
    ):
        parser.add_argument(flag, metavar=flag[2:].upper(), default=default, help=text)
    root = default or Path()
    parser.add_argument("--root", type=Path, default=root, metavar="DIR", help="repository")
    parser.add_argument("--json", action="store_true", default=default or False, help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """One action; the ladder without one."""
    from avo_pytest.branches import GitError
    from avo_pytest.commands import ledger_writing
    from avo_pytest.entries import Damaged

    actions = {
        None: _ladder, "show": _show, "diff": _diff, "note": ledger_writing.note,
        "export": ledger_writing.export, "import": ledger_writing.import_,
        "publish": ledger_writing.publish,
    }  # fmt: skip
    try:
        return actions[arguments.action](arguments)
    except (GitError, Damaged, OSError, ValueError) as error:
        print(f"avo lineage: {sentence(error)}", file=sys.stderr)
        return 1


def selected(arguments: argparse.Namespace) -> list[Lineage]:
    """The lineages that the options choose. Raises ValueError where there are none."""
    from avo_pytest.ledger import load
    from avo_pytest.lineage import lineages

    entries = load(arguments.root, arguments.remote)
    found = lineages(e for e in entries if chosen(arguments, e))
    if entries and not found:
        raise ValueError("no entry fits --kernel, --target and --device")
    return found


def chosen(arguments: argparse.Namespace, entry: Entry) -> bool:
    """Whether an entry is of the kernel, target and device that were asked for."""
    return (
        arguments.kernel in (None, entry.kernel)
        and arguments.target in (None, entry.target)
        and (arguments.device is None or arguments.device in entry.device or not entry.device)
    )


def _ladder(arguments: argparse.Namespace) -> int:
    from avo_pytest.report.ladder import as_json, as_table

    found = selected(arguments)
    if arguments.json:
        print(json.dumps([as_json(lineage) for lineage in found], indent=1))
        return 0
    if arguments.notes:
        return _notes(found)
    if not found:
        print("The ledger is empty: nothing has been judged yet.")
    terminal = sys.stdout.isatty()
    color = terminal and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size().columns if terminal else None
    print("\n".join(as_table(lineage, width=width, color=color) for lineage in found), end="")
    return 0


def _notes(found: list[Lineage]) -> int:
    if not found:
        print("The ledger is empty: nobody has noted anything yet.")
    for lineage in found:
        print(f"{lineage.series.name}: {len(lineage.notes)} ideas that failed")
        for entry in lineage.notes:
            print(f"  {entry.idea}: {' '.join(r.get('text', '') for r in entry.reasons)}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from avo_pytest.ledger import load
    from avo_pytest.report.entry import show

    entries = [e for e in load(arguments.root, arguments.remote) if chosen(arguments, e)]
    what = arguments.what
    fitting = [e for e in entries if what == e.id or what == str(e.version)]
    if not fitting:
        raise ValueError(f"{what} is neither a version nor a run in the ledger")
    if arguments.json:
        print(json.dumps([asdict(entry) for entry in fitting], indent=1))
    else:
        print("\n".join(show(entry) for entry in fitting), end="")
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from avo_pytest.report.entry import compare

    first, second = arguments.what
    found = [
        (x, a, b)
        for x in selected(arguments)
        if (a := _rung(x, first)) is not None and (b := _rung(x, second)) is not None
    ]
    if not found:
        raise ValueError(f"no lineage has both version {first} and version {second}")
    for lineage, a, b in found:
        print(compare(lineage, a, b), end="")
        print(_code(arguments.root, lineage, a.entry.commit, b.entry.commit), end="")
    return 0


def _rung(lineage: Lineage, version: int) -> Rung | None:
    return next((rung for rung in lineage.rungs if rung.version == version), None)


def _code(root: Path, lineage: Lineage, before: str, after: str) -> str:
    """The diff of the kernel's folder, where both commits are known here."""
    from avo_pytest import branches

    if not before or not after:
        return ""
    with branches.opened(root) as repository:
        if not (branches.has(repository, before) and branches.has(repository, after)):
            return "\n(the commits are not in this clone: git fetch)\n"
        folder = f"kernels/{lineage.series.kernel}/{lineage.series.target}"
        options = ("--no-ext-diff", "--no-textconv", "--stat", "--patch")
        text = repository.git.diff(*options, before, after, "--", folder)
    return f"\n{text}\n"
