# SPDX-License-Identifier: MIT
"""`python -m agent`: evolve a kernel, look at what happened, export it."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

from agent.state import Plan, StateError, begin, history, load

EXAMPLES = """\
examples:
  python -m agent evolve                                 the only kernel, on the CPU, by a sweep
                                                         of its constants: no key, no network
  python -m agent evolve attention --target sm90 --operator claude --steps 20 \\
      --max-usd 50 --max-hours 12 --max-gpu-seconds 20000
  python -m agent evolve attention --operator command --command 'mini -t {brief} --yolo'
  python -m agent evolve attention --operator claude --score-via ci --pull-requests
  python -m agent evolve --resume last                   after a kill, Ctrl-C, or a spent budget
  python -m agent evolve --resume last --max-usd 80      ... with more of it
  python -m agent report last                            what was tried, and what became of it
  python -m agent replay last                            word for word
  python -m agent export last --out trajectories         in mini-swe-agent's format

A run lives in .avo/evolve/<run>: plan, journal, budget, a checkout of main, and a bare repository
that it promotes into. Your branches and origin are left alone; --remote names another repository.
To have what it found: git fetch .avo/evolve/<run>/remote.git main

exit status of evolve: 0 all was done that could be, also where the incumbent held, a budget is
spent, or the machine was too disturbed to tell (the last line says which); 1 something failed;
2 usage, or the preflight found something to set right; 3 proposals wait for the verdict of CI;
130 interrupted. --resume goes on from 1, 3 and 130, and from a spent budget.
"""
USAGE, FAILED = 2, 1
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(arguments.run(arguments))
    except StateError as error:
        print(f"agent: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        where = error.filename or "where it writes"
        print(f"agent: {error.strerror}: {where}; --resume goes on once there is", file=sys.stderr)
        # what is left of the output has no room either, and would be the exit status at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def evolve(arguments: argparse.Namespace) -> int:
    """Begin a run or go on with one."""
    from agent.config import ConfigurationError
    from agent.running import run

    root = arguments.root.resolve()
    try:
        if arguments.resume:
            home, plan = load(root, arguments.resume)
            _refuse_more_than_one(plan, arguments)
            plan = replace(plan, **_given(arguments, RAISABLE))
        else:
            plan = _plan(arguments, root)
            home = begin(root, plan)
        return run(root, home, plan)
    except ConfigurationError as error:
        print(f"agent: {error}", file=sys.stderr)
        return USAGE


def report(arguments: argparse.Namespace) -> int:
    """Print a run's report."""
    from agent.running import reported

    home, plan = load(arguments.root.resolve(), arguments.run_name)
    print(reported(home, plan, history(home)), end="")
    return 0


def replay(arguments: argparse.Namespace) -> int:
    """Print trajectories as they happened."""
    from agent.replay import steps, told

    home, _ = load(arguments.root.resolve(), arguments.run_name)
    for folder in steps(home):
        if arguments.step in (None, int(folder.name)):
            print(f"=== step {int(folder.name)}")
            print("\n".join(told(folder, full=arguments.full)))
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Write trajectories in mini-swe-agent's format."""
    from agent.export import mini_swe_agent
    from agent.replay import steps
    from avo_pytest.journal import write_atomically

    home, _ = load(arguments.root.resolve(), arguments.run_name)
    for folder in steps(home):
        path = arguments.out / f"{home.name}-{folder.name}.traj.json"
        write_atomically(path, json.dumps(mini_swe_agent(folder), indent=1) + "\n")
        print(path)
    return 0


RAISABLE = ("steps", "max_usd", "max_hours", "max_gpu_seconds")
PLANNED = (
    *RAISABLE, "operator", "device", "remote", "score_via", "pull_requests", "max_open", "islands",
    "migrate_every", "control", "seed",
)  # fmt: skip


def _plan(arguments: argparse.Namespace, root: Path) -> Plan:
    kernel = _kernel(root, arguments.kernel)
    moment = datetime.now(UTC)
    settings = _given(arguments, ("command", "model", "effort"))
    score = tuple(arguments.score_arguments)
    plan = Plan(
        run=arguments.name or f"{moment:%Y%m%d-%H%M%S}-{token_hex(2)}",
        kernel=kernel,
        target=arguments.target,
        created=moment.isoformat(timespec="seconds"),
        score_arguments=score,
        operator_settings=settings,
        **{"operator": "sweep", **_given(arguments, PLANNED)},
    )
    if plan.pull_requests and plan.score_via != "ci":
        raise StateError("--pull-requests are for a gate to judge: with --score-via ci")
    _refuse_more_than_one(plan, arguments)
    return replace(plan, steps=1) if plan.control else plan


def _refuse_more_than_one(plan: Plan, arguments: argparse.Namespace) -> None:
    """The control arm is one session of a model. Raises StateError for what would make it more."""
    if not plan.control:
        return
    if plan.operator == "sweep":
        raise StateError(f"--control {plan.control} needs a model: --operator claude or command")
    if arguments.steps or arguments.islands:
        raise StateError(f"--control {plan.control} is one step: without --steps and --islands")


def _kernel(root: Path, wanted: str | None) -> str:
    """The wanted kernel, or the only one. Raises StateError naming those that exist."""
    from avo_pytest.collection import choose_kernel
    from avo_pytest.options import UsageError

    try:
        return choose_kernel(root, wanted)
    except UsageError as error:
        raise StateError(str(error).replace("--avo-kernel", "which kernel")) from None


def _given(arguments: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Those that were named on the command line."""
    found = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in found.items() if value not in (None, False)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agent",
        description="Vary(P_t) = Agent(P_t, K, f): an agent that proposes versions of a kernel, "
        "each judged before it counts.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command_name", metavar="COMMAND", required=True)
    _evolve_options(commands.add_parser(
        "evolve", help="vary, propose, judge, promote; step after step", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ))  # fmt: skip
    for name, act, text in (
        ("report", report, "what a run tried and what became of it"),
        ("replay", replay, "the trajectories of a run's steps, as they happened"),
        ("export", export, "the trajectories in mini-swe-agent's format"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("run_name", metavar="RUN", help="name of the run, or `last`")
        sub.set_defaults(run=act)
        _root(sub)
        if name == "replay":
            sub.add_argument("--step", type=int, metavar="N", help="only this one")
            sub.add_argument("--full", action="store_true", help="long texts whole")
        if name == "export":
            sub.add_argument("--out", type=Path, default=Path("trajectories"), metavar="DIR")
    return parser


def _evolve_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("kernel", nargs="?", help="folder of kernels/ (default: the only one)")
    add("--target", default="cpu", metavar="T", help="cpu, sm80, sm90, sm100 (cpu)")
    add("--operator", choices=("claude", "command", "sweep"), help="who varies (sweep)")
    add("--steps", type=_count, metavar="N", help="variation steps in all (8)")
    add("--max-usd", type=_amount, metavar="X", help="for requests to the model")
    add("--max-hours", type=_amount, metavar="H", help="of wall clock while it runs")
    add("--max-gpu-seconds", type=_amount, metavar="G", help="of measuring on a GPU")
    add("--command", metavar="LINE", help="operator command: a template with {brief} or {file}")
    add("--model", metavar="ID", help="operator claude: default in agent/config.py")
    add("--effort", metavar="E", help="operator claude: low, medium, high, xhigh, max")
    add("--device", metavar="D", help="to measure on, as for --avo-device")
    add("--remote", metavar="R", help="promote into this repository (default: the run's own)")
    add("--score-via", choices=("local", "ci"), help="who gives the verdict (local)")
    add("--pull-requests", action="store_true", help="open one for each proposal (with ci)")
    add("--max-open", type=_count, metavar="N", help="proposals of a lineage that may wait (1)")
    add("--islands", type=_count, metavar="N", help="working lineages, a step each in turn (1)")
    add("--migrate-every", type=_count, metavar="N",
        help="steps of an island between two looks at the others (4)")  # fmt: skip
    add("--control", choices=("single-session",), help="the control arm: one session, same budget")
    add("--seed", type=int, metavar="N", help="of what is drawn (0)")
    add("--name", metavar="RUN", help="of the run (default: the time)")
    add("--resume", metavar="RUN", help="go on with a run, or with the `last`")
    add("--score-arguments", nargs="*", default=(), metavar="OPTION", help="more for the judge")
    parser.set_defaults(run=evolve)
    _root(parser)


def _root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="repository")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number, 1 or more")
    return int(text)


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("a number above 0")
    return value


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
