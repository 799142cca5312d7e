# SPDX-License-Identifier: MIT
"""`avo simulate`: how often the rule of promotion errs, on candidates whose truth is known."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avo_pytest.simulation.measured import Measured

EXAMPLES = """\
examples:
  avo simulate                          everything, with the policy of ./pyproject.toml; minutes
  avo simulate --quick                  the same with few candidates: seconds, wide limits
  avo simulate --noise layout,tails     two kinds of noise only
  avo simulate --candidates 100000      for an alpha below 0.0003; an hour
  avo simulate --json found.json --plot found.svg

Noise is simulated, the statistics and the rule are the real ones. docs/simulation.md says what each
kind of noise is and where its size comes from.

exit status: 0 when all bounds hold, 1 when one fails, 2 usage.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "simulate",
        help="how often the rule of promotion errs, and what it finds",
        description="Streams of simulated candidates through the real rule of promotion, and "
        "through those it replaces: false promotions, power, claimed against true gain.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few candidates; seconds")
    parser.add_argument(
        "--candidates", type=int, metavar="N", help="no-change ones per noise (default: 10000)"
    )
    parser.add_argument("--noise", metavar="NAMES", help="kinds of it, with commas (default: all)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write counts and bounds here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture (.svg, .png …)")
    parser.add_argument(
        "--root", type=Path, default=Path(), metavar="DIR", help="repository (default: here)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Simulate, tell, and fail when a bound does."""
    from avo_pytest.devices.scenarios import NOISES
    from avo_pytest.policy import PolicyError, load

    chosen = list(dict.fromkeys((arguments.noise or ",".join(NOISES)).split(",")))
    odd = [name for name in chosen if name not in NOISES]
    if odd:
        return _refuse(f"--noise: {odd[0]!r} is none of {', '.join(NOISES)}")
    counts = (arguments.candidates, arguments.workers)
    if arguments.seed < 0 or any(n is not None and n < 1 for n in counts):
        return _refuse("--seed is 0 or more, --candidates and --workers are 1 or more")
    for path in (arguments.json, arguments.plot):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            return _refuse(f"cannot write {path}: give a file in a folder that is there")
    try:
        policy = load(arguments.root, "cuda")
        if arguments.plot is not None:
            from avo_pytest.report.simulation_plot import load_pyplot

            load_pyplot()
    except (PolicyError, ImportError) as error:
        return _refuse(str(error))
    return _simulate(arguments, policy, chosen)


def _simulate(arguments: argparse.Namespace, policy: Any, noises: Sequence[str]) -> int:
    from avo_pytest.assignment import usable_cores
    from avo_pytest.report import simulation
    from avo_pytest.simulation.bounds import bounds
    from avo_pytest.simulation.campaign import ALL, QUICK, simulate

    candidates = arguments.candidates or (QUICK if arguments.quick else ALL)
    workers, seed = arguments.workers or usable_cores(), arguments.seed
    with _progress() as progress:
        measured = simulate(
            policy, noises, candidates, seed=seed, workers=workers, progress=progress
        )
    found = bounds(measured, alpha=policy.alpha_confirm)
    print(simulation.text(measured, found, policy, seed))
    try:
        if arguments.json is not None:
            told = simulation.as_json(measured, found, policy, seed)
            arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        if arguments.plot is not None:
            _plot(measured, policy.alpha_confirm, arguments.plot)
    except (OSError, ValueError) as error:  # a full disk; a suffix that is no picture's
        return _refuse(f"cannot write: {error}")
    print(simulation.last_line(found))
    return 0 if all(bound.holds for bound in found) else 1


def _plot(measured: Sequence[Measured], alpha: float, path: Path) -> None:
    from avo_pytest.report.simulation_plot import save

    save(measured, alpha, path)
    print(f"wrote {path}\n")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("simulating", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _refuse(reason: str) -> int:
    print(f"avo simulate: {reason}", file=sys.stderr)
    return 2
