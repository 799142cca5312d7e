# SPDX-License-Identifier: MIT
"""`avo runner`: set up a scoring machine, and register it for one job at a time."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avo_pytest.runner.machine import Machine
    from avo_pytest.runner.steps import Result

EXAMPLES = """\
examples:
  avo runner setup --dry-run            what is done on this machine, what would be, how
  sudo python3 -m avo_pytest runner setup --runner-archive actions-runner.tar.gz \\
      --runner-sha256 HEX --broker-key broker.pub
  sudo python3 -m avo_pytest runner setup --lock-clocks 1500
  sudo python3 -m avo_pytest runner setup --undo
  avo runner setup --only sandbox       bubblewrap, on a machine that is thrown away afterwards
  avo runner broker scorer.lan --repository me/avo-pytest --labels self-hosted,gpu,h100
  avo runner matrix --role judge        the gate table as a workflow's matrix

setup needs nothing but Python 3.11 and can be run again at any time: what is done stays as it is.
broker runs elsewhere, with a token in GITHUB_TOKEN that may register runners (administration:
write of this repository). docs/runners.md tells it step by step.

exit status: 0 done, 1 something failed, 2 usage.
"""


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "runner",
        help="set up a machine that scores for a repository's gate",
        description="Set up a machine that scores, and register it for one job at a time.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _setup_parser(verbs.add_parser("setup", help="make this machine one that scores"))
    broker = verbs.add_parser("broker", help="register a machine for one job after another")
    broker.add_argument("host", help="as ssh knows it; its account is the broker's there")
    broker.add_argument("--repository", required=True, metavar="OWNER/NAME")
    broker.add_argument("--labels", required=True, metavar="A,B,C", help="as in the gate table")
    broker.add_argument("--name", default="avo", help="how the runner's name begins (avo)")
    broker.add_argument("--group", type=int, default=1, metavar="N", help="runner group (1)")
    broker.add_argument("--jobs", type=int, default=0, metavar="N", help="stop after so many")
    matrix = verbs.add_parser("matrix", help="the gate table as `matrix=JSON`")
    matrix.add_argument("--role", choices=("judge", "witness"), help="only of this role")
    matrix.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="repository")


def _setup_parser(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--dry-run", action="store_true", help="only show: the state of each step and its text")
    add("--undo", action="store_true", help="take everything back, the last step first")
    add("--only", action="append", metavar="STEP", help="only this step (can be repeated)")
    add("--device", choices=("gpu", "cpu"), help="default: gpu where nvidia-smi is found")
    add("--lock-clocks", type=int, metavar="MHZ", help="lock the SM clocks (regime `locked`)")
    add(
        "--runner-archive", type=Path, metavar="FILE", help="GitHub's actions-runner-linux-….tar.gz"
    )
    add("--runner-sha256", default="", metavar="HEX", help="its checksum, as GitHub publishes it")
    add("--broker-key", type=Path, metavar="FILE", help="the broker's public SSH key")
    add(
        "--torch", choices=("cpu", "cu130", "none"), help="build for the baselines (none: no torch)"
    )
    add("--user", default="avo", help="account of the jobs (avo)")
    add("--prefix", type=Path, default=Path("/opt/avo"), metavar="DIR", help="default: /opt/avo")
    add("--lock", type=Path, metavar="FILE", help="versions (requirements/gpu.txt or cpu.txt)")
    add("--root", type=Path, default=Path(), metavar="DIR", help="repository (default: here)")


def run(arguments: argparse.Namespace) -> int:
    """Do what the verb says."""
    if sys.platform != "linux" and arguments.verb == "setup":
        return _usage("setup is for Linux machines")
    return {"setup": _setup, "broker": _broker, "matrix": _matrix}[arguments.verb](arguments)


def _setup(arguments: argparse.Namespace) -> int:
    from avo_pytest.runner import steps
    from avo_pytest.runner.machine import steps as of

    try:
        machine = _machine(arguments)
    except (OSError, ValueError) as error:
        return _usage(str(error))
    chosen = [s for s in of(machine) if arguments.only is None or s.name in arguments.only]
    if unknown := sorted({*(arguments.only or ())} - {s.name for s in chosen}):
        known = ", ".join(s.name for s in of(machine))
        return _usage(f"no step {unknown[0]!r}; the steps are {known}")
    if arguments.undo and arguments.dry_run:
        for step in reversed(chosen):
            print(f"{step.name}\n{_indented(step.undo or ': nothing to undo')}")
        return 0
    if arguments.undo:
        results = steps.undo(chosen, _tell)
    else:
        told = _tell_with_text if arguments.dry_run else _tell
        results = steps.set_up(chosen, told, dry_run=arguments.dry_run)
    return int(any(r.outcome == "failed" for r in results))


def _machine(arguments: argparse.Namespace) -> Machine:
    from avo_pytest.runner.machine import CPU_LOCK, GPU_LOCK, Machine

    gpu = arguments.device == "gpu" or (
        arguments.device is None and shutil.which("nvidia-smi") is not None
    )
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,20}", arguments.user):
        raise ValueError(f"--user {arguments.user!r}: small letters, digits, hyphens")
    if arguments.runner_sha256 and not re.fullmatch(r"[0-9a-f]{64}", arguments.runner_sha256):
        raise ValueError("--runner-sha256: 64 hexadecimal digits")
    lock = (arguments.lock or arguments.root / (GPU_LOCK if gpu else CPU_LOCK)).resolve()
    if not lock.is_file():
        raise ValueError(f"{lock}: no such lock; --root names the repository, --lock another file")
    archive = arguments.runner_archive
    return Machine(
        gpu=gpu,
        lock=lock,
        prefix=arguments.prefix.absolute(),
        user=arguments.user,
        torch=arguments.torch or "",
        clock_mhz=arguments.lock_clocks,
        archive=archive and archive.resolve(strict=True),
        archive_sha256=arguments.runner_sha256,
        broker_key=_key(arguments.broker_key) if arguments.broker_key else "",
    )


def _key(path: Path) -> str:
    text = path.read_text(encoding="utf-8").strip()
    if not re.fullmatch(r"(ssh-|ecdsa-|sk-)[A-Za-z0-9@.-]+ [A-Za-z0-9+/=]+( [ -~]*)?", text):
        raise ValueError(f"{path}: not one public SSH key (begins with ssh-ed25519, for example)")
    return " ".join(text.split()[:2])


def _tell(result: Result) -> None:
    print(f"{result.outcome:<14} {result.step.name:<16} {result.step.what}")
    if result.outcome in ("failed", "skipped"):
        print(_indented(result.text))


def _tell_with_text(result: Result) -> None:
    _tell(result)
    step = result.step
    for word, text in (("check", step.check), ("apply", step.apply), ("undo", step.undo)):
        if text:
            print(f"  {word}:\n{_indented(text)}")


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines()).rstrip("\n")


def _broker(arguments: argparse.Namespace) -> int:
    import os

    from avo_pytest.ci.github import GitHub, GitHubError
    from avo_pytest.runner import broker

    labels = tuple(label for label in arguments.labels.split(",") if label)
    try:
        scorer = broker.Scorer(
            command=broker.over_ssh(arguments.host),
            labels=labels,
            name=arguments.name,
            group=arguments.group,
        )
        github = GitHub.from_environment({**os.environ, "GITHUB_REPOSITORY": arguments.repository})
        done = 0
        while not arguments.jobs or done < arguments.jobs:
            code = broker.one_job(github, scorer)
            done += 1
            print(f"job {done}: status {code}", flush=True)
            if code and done != arguments.jobs:
                time.sleep(10)  # a machine that is down is not asked in a tight loop
    except (GitHubError, broker.BrokerError) as error:
        print(f"avo runner: {error}", file=sys.stderr)
        return 1
    return 0


def _matrix(arguments: argparse.Namespace) -> int:
    from avo_pytest import gates
    from avo_pytest.ci.order import row

    try:
        table = gates.load(arguments.root)
    except gates.GateError as error:
        print(f"avo runner: {error}", file=sys.stderr)
        return 1
    rows = [row(gate) for gate in table if arguments.role in (None, gate.role)]
    print(f"matrix={json.dumps(rows, separators=(',', ':'))}")
    return 0


def _usage(text: str) -> int:
    print(f"avo runner: {text}", file=sys.stderr)
    return 2
