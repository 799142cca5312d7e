# SPDX-License-Identifier: MIT
"""`python3 -m avo_pytest.runner`: `avo runner` on a machine that has Python and nothing else."""

from __future__ import annotations

import argparse
import sys

from avo_pytest.commands import runner

parser = argparse.ArgumentParser(prog="python3 -m avo_pytest.runner")
runner.add_parser(parser.add_subparsers(dest="command", metavar="runner", required=True))
sys.exit(runner.run(parser.parse_args(["runner", *sys.argv[1:]])))
