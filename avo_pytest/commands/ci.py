# SPDX-License-Identifier: MIT
"""`avo ci JOB`: what each job of gate.yml does; here it is run by hand."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

EXAMPLES = """\
the jobs of .github/workflows/gate.yml, in order:
  avo ci intake  --event event.json --event-name pull_request_target --out gate/intake
  avo ci build   --intake gate/intake --out gate/build
  avo ci score   --intake gate/intake --gate attention-cpu-cpu --out gate/score-attention-cpu-cpu
  avo ci verify  --intake gate/intake --records gate --out gate/verdict
  avo ci record  --intake gate/intake --verdict gate/verdict --remote origin --out gate/outcome
  avo ci publish --intake gate/intake --outcome gate/outcome --page site
and, on a schedule:
  avo ci poll                                   starts the gate for what has no verdict yet

Only score runs code of a candidate, only record writes to the repository, and verify believes
nothing that score says. They find GitHub by GITHUB_REPOSITORY, GITHUB_TOKEN and GITHUB_API_URL.
Event files, exit statuses and files: docs/ci.md

exit status: 0 done (a refusal is an answer, not a failure), 1 could not be done, 4 usage.
"""
JOBS = {
    "intake": "read the proposal of an event as data: an order, or a refusal",
    "build": "compile the candidate for every gate; needs no GPU",
    "score": "on the scoring machine: environment, canary, calibration, confirm",
    "verify": "derive the verdict again from artifacts that may lie",
    "record": "the ledger, and main on PROMOTE: the only writer",
    "publish": "check run, one comment, page",
    "poll": "start the gate for heads that lack a verdict",
}


def add_parser(subparsers: Any) -> None:
    """Declare the command and its jobs."""
    parser = subparsers.add_parser(
        "ci",
        help="the jobs of the CI gate, each runnable by hand",
        description="The jobs of the CI gate. Each reads what the one before it wrote.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    jobs = parser.add_subparsers(dest="job", metavar="JOB", required=True)
    for name, text in JOBS.items():
        job = jobs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        job.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="main's tree")
        if name not in ("intake", "poll"):
            job.add_argument("--intake", type=Path, required=True, metavar="DIR")
        if name not in ("publish", "poll"):
            job.add_argument("--out", type=Path, required=True, metavar="DIR")
        _OPTIONS.get(name, _none)(job)


def run(arguments: argparse.Namespace) -> int:
    """Run one job and return its exit status."""
    job = importlib.import_module(f"avo_pytest.ci.{arguments.job}")
    return int(job.run(arguments))


def _none(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def _intake(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--event", type=Path, required=True, metavar="FILE", help="the payload")
    parser.add_argument("--event-name", required=True, metavar="NAME")


def _score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gate", required=True, metavar="NAME", help="a name of the matrix")
    parser.add_argument(
        "--share", default="1/1", metavar="K/N", help="of a confirm that N runners share"
    )
    parser.add_argument("--no-canary", action="store_true", help="not the red team first")
    parser.add_argument(
        "--lock",
        metavar="FILE",
        help="lock of this machine's environment, or none (default: AVO_LOCK, else the one under "
        "requirements/ for the target)",
    )
    parser.add_argument(
        "--calibrations",
        type=Path,
        metavar="DIR",
        help="where calibrations of this machine are kept (default: AVO_CALIBRATIONS)",
    )
    parser.add_argument("--device", metavar="DEVICE", help="default: AVO_DEVICE, else by target")
    parser.add_argument(
        "--timeout", type=float, default=6600.0, metavar="SECONDS", help="of all (default: 6600)"
    )


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=Path, required=True, metavar="DIR", help="artifacts")


def _record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verdict", type=Path, required=True, metavar="DIR")
    parser.add_argument("--remote", default="origin", metavar="REMOTE", help="default: origin")


def _publish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--outcome", type=Path, required=True, metavar="DIR")
    parser.add_argument("--page", type=Path, metavar="DIR", help="also render the page")


def _poll(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workflow", default="gate.yml", help="default: gate.yml")
    parser.add_argument("--branch", default="main", help="whose workflow (default: main)")


_OPTIONS = {
    "intake": _intake,
    "score": _score,
    "verify": _verify,
    "record": _record,
    "publish": _publish,
    "poll": _poll,
}
