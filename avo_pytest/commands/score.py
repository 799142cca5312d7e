# SPDX-License-Identifier: MIT
"""`avo score`: `pytest --avo-score` with the same options."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from typing import Any, NoReturn

from avo_pytest.options import TABLE

EXAMPLES = """\
examples:
  avo score                                    the working tree against main and all baselines
  avo score --target cpu --blocks 20           more blocks, narrower intervals
  avo score --candidate my-branch              what a branch has, without a checkout
  avo score --incumbent ../before              against another folder
  avo score --configuration '*causal*'         a SUBSET: no geometric mean
  avo score --json record.json                 keep raw samples and environment
  avo score -- -x -v                           what follows -- goes to pytest

exit status: 0 measured and correct, 1 incorrect or failed, 4 usage.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "score",
        help="score a kernel: pytest --avo-score",
        description="Score a kernel: all correctness checks, then throughput against the version "
        "on main and the baselines. The same as pytest --avo-score.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for option in TABLE:
        flags = (option.flag.replace("--avo-", "--"), option.flag)
        if option.name == "score":
            continue
        if option.metavar is None:
            parser.add_argument(*flags, dest=option.dest, action="store_true", help=option.help)
        else:
            parser.add_argument(*flags, dest=option.dest, metavar=option.metavar, help=option.help)
    parser.add_argument("pytest", nargs="*", metavar="-- PYTEST OPTIONS", help="passed on")


def run(arguments: argparse.Namespace) -> NoReturn:
    """Become pytest: its exit status is ours, and so are the signals that end a run."""
    line = command(arguments)
    os.execv(line[0], line)


def command(arguments: argparse.Namespace) -> list[str]:
    """The command line that `run` becomes."""
    given = vars(arguments)
    line = [sys.executable, "-m", "pytest", *_plugin(), "--avo-score"]
    for option in TABLE:
        value = given.get(option.dest)
        if value is True:
            line.append(option.flag)
        elif value is not None and value is not False:
            line.append(f"{option.flag}={value}")
    return [*line, *arguments.pytest]


def _plugin() -> list[str]:
    """A source tree that was never installed has no entry point."""
    installed = importlib.metadata.entry_points(group="pytest11", name="avo")
    return ["-p", "avo" if installed else "avo_pytest.plugin"]
