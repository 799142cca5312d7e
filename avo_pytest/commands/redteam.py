# SPDX-License-Identifier: MIT
"""`avo redteam`: run the suite of cheating candidates on this machine and print the scorecard."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avo_pytest.redteam.runner import Result
    from avo_pytest.redteam.suite import Case

EXAMPLES = """\
examples:
  avo redteam                       everything that this machine can run
  avo redteam --canary              a minute: one attack or more of each kind, and the controls
  avo redteam --target sm80         device code; without a GPU it is compiled only
  avo redteam --family 'late work'  one family
  avo redteam --json > card.json    outcomes with their reasons

The suite lies in tests/redteam of the avo-pytest repository; it is no part of the package.

exit status: 0 every attack caught and every honest twin accepted, 1 otherwise, 2 usage.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "redteam",
        help="run cheating candidates: all must be caught, their honest twins accepted",
        description="Run the suite of cheating candidates. Each must be caught for the intended "
        "reason, and its honest twin must be accepted.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--canary", action="store_true", help="the quick part, for before scoring")
    parser.add_argument("--target", help="only cpu, sm80, sm90 or scenario")
    parser.add_argument("--family", help="only one family of attacks")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: here)")


def run(arguments: argparse.Namespace) -> int:
    """Run, report, and return the exit status."""
    from avo_pytest.devices.cpu import isolation
    from avo_pytest.redteam import scorecard, suite, trial

    try:
        cases = suite.chosen(
            suite.load(arguments.root),
            canary=arguments.canary,
            target=arguments.target,
            family=arguments.family,
        )
    except suite.SuiteError as error:
        print(f"avo redteam: {error}", file=sys.stderr)
        return 2
    level, explanation = isolation()
    if level != "child":
        print(f"avo redteam: CPU candidates run unconfined here: {explanation}", file=sys.stderr)
    results = _results(
        arguments.root, cases, trial.CANARY_BLOCKS if arguments.canary else trial.BLOCKS
    )
    if arguments.json:
        print(json.dumps(scorecard.as_json(results, {"isolation": level}), indent=1))
    else:
        print("\n".join(scorecard.as_text(results)))
    return 0 if scorecard.good(results) else 1


def _results(root: Path, cases: list[Case], blocks: int) -> list[Result]:
    """Run the cases behind a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from avo_pytest.redteam.runner import Runner

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    results: list[Result] = []
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        Runner(root, blocks=blocks) as runner,
    ):
        bar = progress.add_task("building the first", total=len(cases))
        for result in runner.run(cases):
            results.append(result)
            wrong = "" if result.good else "  [red]not as it must be"
            progress.update(bar, advance=1, description=f"{result.case.name}{wrong}")
    return results
