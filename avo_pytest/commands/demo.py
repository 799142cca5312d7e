# SPDX-License-Identifier: MIT
"""`avo demo`: the gate at work in a scratch repository, without a GPU, a key or GitHub."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EXAMPLES = """\
examples:
  avo demo                       under three minutes; leaves nothing behind
  avo demo --keep /tmp/avo-demo  keeps both repositories, the badges and the page

Three proposals come to a repository: one faster, one slower, one that cheats. Each is pushed to a
branch, judged against main in fresh processes, verified again from its samples and recorded; the
faster one lands. The launch times are scripted (the device is called `simulated`); the judge, its
processes, checks, statistics and git are real, and the commands are the ones that you would type.

exit status: 0 it went as it should, 1 it did not (a stage says why), 2 usage.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "demo",
        help="the gate at work: three proposals in a scratch repository",
        description="See a good, a slow and a cheating proposal go through the gate.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty or new folder")


def run(arguments: argparse.Namespace) -> int:
    """Play it and sum up."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]  # as a hook has them: they name another repository
    keep: Path | None = arguments.keep
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="avo-demo-") as folder:
            return _play(Path(folder), kept=False)
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        print(f"avo demo: --keep {keep}: it is not an empty folder", file=sys.stderr)
        return 2
    keep.mkdir(parents=True, exist_ok=True)
    return _play(keep.resolve(), kept=True)


def _play(folder: Path, *, kept: bool) -> int:
    from avo_pytest.demo import Demo, DemoError

    begun_s = time.monotonic()
    print("Times are scripted in this demonstration: no kernel runs. The stages are real.")
    try:
        shown = Demo(folder, _say).play()
    except (DemoError, OSError) as error:
        print(f"avo demo: {error}", file=sys.stderr)
        return 1
    print("\n== In short")
    for one in shown:
        became = f"main moved to {one.main[:10]}" if one.main else "main stayed"
        print(f"{one.verdict:<10} {became:<24} {one.proposal.idea}")
    if kept:
        print(f"badges  {folder / 'badges'}\npage    {folder / 'site' / 'index.html'}")
        print(f"repositories  {folder / 'upstream.git'} and {folder / 'work'}")
    else:
        print("nothing was kept; --keep DIR keeps repositories, badges and page")
    print(f"{time.monotonic() - begun_s:.0f} s")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)
