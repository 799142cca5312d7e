# SPDX-License-Identifier: MIT
"""`avo calibrate`: the incumbent against itself, so that verdicts know what noise is here."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avo_pytest.assignment import Request
    from avo_pytest.judge import Judge
    from avo_pytest.score import Record

EXAMPLES = """\
examples:
  avo calibrate                              the only kernel, on the first device that fits
  avo calibrate attention --target cpu       of a kernel, on the CPU
  avo calibrate --set gqa --devices cuda:0,cuda:1
  avo calibrate --processes 32               narrower bands

Ctrl-C keeps the processes that have finished. exit status: 0 kept, 1 not (the machine was not
quiet, too few processes), 4 usage.
"""
PASSED = (
    "target", "set", "device", "devices", "incumbent", "candidate", "seed", "threads", "timeout",
)  # fmt: skip
REFUSED = 4


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    from avo_pytest.options import TABLE

    parser = subparsers.add_parser(
        "calibrate",
        help="time a kernel against itself: what noise is on this device",
        description="Time the version on main (or the working tree, where there is none) against "
        "itself, in fresh processes, and keep what it says of this device under .avo/calibrations.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kernel", nargs="?", help="folder of kernels/ and bench/")
    for option in TABLE:
        if option.name in PASSED:
            flags = (option.flag.replace("--avo-", "--"), option.flag)
            parser.add_argument(*flags, dest=option.name, metavar=option.metavar, help=option.help)
    parser.add_argument("--processes", type=int, default=16, metavar="N", help="default: 16")


def run(arguments: argparse.Namespace) -> int:
    """Measure, keep, say."""
    from avo_pytest.calibration import MIN_PROCESSES
    from avo_pytest.judge import JudgeFault, RequestError
    from avo_pytest.options import UsageError

    if arguments.processes < MIN_PROCESSES:
        return _refuse(f"--processes {arguments.processes}: at least {MIN_PROCESSES}")
    try:
        return _calibrate(_request(arguments))
    except (UsageError, RequestError) as error:
        return _refuse(str(error))
    except JudgeFault as error:
        print(f"avo calibrate: the judge failed: {error}", file=sys.stderr)
        return 1


def _request(arguments: argparse.Namespace) -> Request:
    from avo_pytest import collection, options
    from avo_pytest.assignment import Request

    root = Path.cwd()
    given = {name: getattr(arguments, name) for name in PASSED}
    asked = options.parse({**given, "kernel": arguments.kernel}, root)
    return Request(
        root=root,
        kernel=collection.choose_kernel(root, asked.kernel),
        target=asked.target,
        device=asked.device,
        devices=asked.devices,
        candidate=asked.candidate,
        incumbent=asked.incumbent,
        set=asked.set,
        seed=asked.seed,
        threads=asked.threads,
        timeout_s=asked.timeout,
        mode="calibrate",
        processes=arguments.processes,
    )


def _calibrate(request: Request) -> int:
    from avo_pytest.commands.judging import judged

    judge, record = judged(request, lambda judge: judge.calibrate())
    return 1 if record is None else _keep(judge, record)


def _keep(judge: Judge, record: Record) -> int:
    from avo_pytest.calibration import calibrate
    from avo_pytest.calibrations import save
    from avo_pytest.policy import from_dict
    from avo_pytest.report.calibration import text

    found = record.derived["verdict"]
    if found["kind"] != "INCONCLUSIVE":  # which is all that a calibration can be
        for reason in found["reasons"]:
            print(f"avo calibrate: nothing is kept: {reason['text']}", file=sys.stderr)
            print(f"- {reason['advice']}", file=sys.stderr)
        return 1
    calibration = calibrate(record)
    print("\n" + text(calibration, from_dict(record.policy)), end="")
    try:
        print(f"kept in {save(judge.run.home, calibration, record.run)}")
    except OSError as error:
        print(f"avo calibrate: cannot be kept: {error}", file=sys.stderr)
        return 1
    return 0


def _refuse(reason: str) -> int:
    print(f"avo calibrate: {reason}", file=sys.stderr)
    return REFUSED
