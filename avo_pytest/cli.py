# SPDX-License-Identifier: MIT
"""`avo`: one small module of `commands` per command, each with `add_parser` and `run`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from avo_pytest import __version__

COMMANDS = (
    "score", "calibrate", "build", "doctor", "new", "power", "simulate", "verify",
    "init", "lineage", "badge", "page", "export", "redteam", "audit", "demo",
    "promote", "revert", "runner", "ci", "merge",
)  # fmt: skip
EXAMPLES = """\
examples:
  avo doctor                                     what this machine can do, and each fix
  avo score                                      score the working tree's kernel
  avo score --target sm80 --set mha              ... on a GPU, one set of configurations
  avo calibrate                                  ... after measuring what noise is here
  avo score --mode confirm                       is it faster than main? with a stated error rate
  avo build --kernel attention --target sm80     compile without a GPU: registers, spills, SASS
  avo new kernel softmax                         a kernel, its problem and its tests to start from
  avo promote record.json                        record a verdict; land it where it promotes
  avo revert 7 --kernel K --target T             take a version back
  avo init                                       begin the ledger of this repository
  avo lineage                                    versions, ideas, gains, costs
  avo page --out site                            ... as one self-contained web page
  avo audit                                      do the claimed gains add up?
  avo power --gain 0.3%                          what a confirm finds here, and for how long
  avo verify record.json                         does the verdict follow from its samples?
  avo merge a.json b.json -o whole.json          a confirm that two machines shared
  avo simulate                                   how often the rule of promotion errs
  avo ci --help                                  the jobs of the CI gate, by hand
  avo runner setup --dry-run                     make this a machine that scores for a gate
  avo demo                                       the gate at work, in a scratch repository
  avo redteam                                    are all cheats caught here, honest ones accepted?

`avo COMMAND --help` explains one command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    if sys.platform == "win32":
        print("avo: Windows is not supported; use Linux, WSL or macOS", file=sys.stderr)
        return 1
    parser = argparse.ArgumentParser(
        prog="avo",
        description="Judge GPU and CPU kernels: correctness and throughput are tests.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"avo-pytest {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    modules = {name: importlib.import_module(f"avo_pytest.commands.{name}") for name in COMMANDS}
    for module in modules.values():
        module.add_parser(subparsers)
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        return int(modules[arguments.command].run(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `avo … | head`
        sys.stderr.close()
        return 0
