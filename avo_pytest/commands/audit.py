# SPDX-License-Identifier: MIT
"""`avo audit`: is what `main` has as much faster than the seed as its promotions said?"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avo_pytest.printable import printable

if TYPE_CHECKING:
    from avo_pytest.auditing import Audit, Subject
    from avo_pytest.score import Record

EXAMPLES = """\
examples:
  avo audit                                   the only lineage, in 8 fresh processes
  avo audit --kernel attention --target sm90 --processes 16
  avo audit --dry-run --json audit.json       measure and tell; nothing is recorded
  avo audit --record audit.json --remote origin    record what was measured elsewhere

Each process times what main has now, the seed (version 0) and all baselines in turn. What it finds
over the seed must agree with the sum of the gains that promotions claimed, within the errors of
both (docs/lineage.md has the formula). The entry goes to the ledger with the audited figures, which
are the only ones that badges show, and the raw samples to refs/avo/raw/<run>. Claims that do not
hold freeze promotions until `avo revert`, or an audit that holds.

exit status: 0 the claims hold, 21 they are refuted, 13 it could not be told (nothing is recorded),
1 there is nothing to audit, the ledger is damaged or the remote refuses, 4 usage.
"""
CODES = {"HOLDS": 0, "REFUTED": 21, "UNTOLD": 13}
FAILED, USAGE = 1, 4


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "audit",
        help="measure main against the seed: do the claimed gains add up?",
        description="Measure the version on main against the seed and the baselines, in fresh "
        "processes, and compare the gain with the sum of what its promotions claimed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flag, text in (
        ("--kernel", "which kernel (default: the only one in the ledger)"),
        ("--target", "which target"),
        ("--series", "which lineage, where several devices have one: its device in the ledger"),
        ("--device", "where to measure: cpu, cuda or cuda:N (default: the first that fits)"),
        ("--remote", "repository with main and the ledger (default: as `avo lineage` chooses)"),
    ):
        parser.add_argument(flag, metavar=flag[2:].upper(), help=text)
    parser.add_argument("--processes", type=_positive, metavar="N", help="fresh ones; default: 8")
    parser.add_argument("--blocks", type=_positive, metavar="N", help="of each process")
    role = "judge: as the gate table calls this device; badges show only these (default: local)"
    parser.add_argument("--role", choices=("local", "judge"), default="local", help=role)
    parser.add_argument("--dry-run", action="store_true", help="record nothing")
    parser.add_argument("--record", type=Path, metavar="FILE", help="judge this record instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the record here")
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="repository")


def run(arguments: argparse.Namespace) -> int:
    """Choose, measure, compare, record."""
    from avo_pytest.auditing import AuditError
    from avo_pytest.branches import GitError
    from avo_pytest.entries import Damaged
    from avo_pytest.judge import JudgeFault, RequestError
    from avo_pytest.options import UsageError
    from avo_pytest.policy import PolicyError
    from avo_pytest.source import SourceError

    try:
        return _audit(arguments)
    except (RequestError, UsageError) as error:
        return _refuse(str(error), USAGE)
    except (AuditError, GitError, Damaged, SourceError, PolicyError, OSError, ValueError) as error:
        return _refuse(str(error), FAILED)
    except JudgeFault as error:
        return _refuse(f"the judge failed: {error}", FAILED)


def _refuse(reason: str, code: int) -> int:
    print(f"avo audit: {printable(reason, ' ')}", file=sys.stderr)
    return code


def _audit(arguments: argparse.Namespace) -> int:
    from avo_pytest import auditing, branches, ledger
    from avo_pytest.report.audit import text

    with branches.opened(arguments.root) as repository, tempfile.TemporaryDirectory() as scratch:
        name = arguments.remote or ledger.usual_remote(repository)
        remote = branches.Remote(repository, name)
        of = _subject(arguments, remote, Path(scratch))
        record = _record(arguments, of)
        if record is None:
            return CODES[auditing.UNTOLD]
        policy = auditing.policy_of(arguments.root, record)
        found = auditing.judge(record, of, policy)
        print("\n" + text(record, of, found, policy), end="")
        if found.kind == auditing.UNTOLD or arguments.dry_run:
            print("nothing was recorded")
        else:
            _keep(arguments, remote, of=of, record=record, found=found, alpha=policy.alpha_confirm)
    return CODES[found.kind]


def _subject(arguments: argparse.Namespace, remote: Any, scratch: Path) -> Subject:
    from avo_pytest import auditing, ledger
    from avo_pytest.lineage import lineages

    main = "refs/heads/main"
    tips = remote.tips((main, ledger.BRANCH))
    if tips[ledger.BRANCH] is None:
        raise ledger.NoLedger(f"there is no ledger on {remote.name}; make one: avo init")
    if tips[main] is None:
        raise auditing.AuditError(f"{remote.name} has no branch main")
    entries = ledger.read(remote.repository, tips[ledger.BRANCH])
    asked = arguments.kernel, arguments.target, arguments.series
    chosen = auditing.choose(lineages(entries), *asked)
    if arguments.role == "judge":
        _refuse_other_roles(arguments.root, chosen)
    return auditing.subject(arguments.root, chosen, tips[main], scratch)


def _refuse_other_roles(root: Path, chosen: Any) -> None:
    from avo_pytest import auditing, gates

    series = chosen.series
    role = gates.role_of(
        gates.load(root), kernel=series.kernel, target=series.target, device=series.device
    )
    if role != "judge":
        raise auditing.AuditError(f"the gate table has no judge for {series} (role {role})")


def _record(arguments: argparse.Namespace, of: Subject) -> Record | None:
    """Measured now, or read; None where it was interrupted before anything was judged."""
    from avo_pytest import verifying

    if arguments.record is not None:
        return verifying.read(arguments.record)
    record = _measured(arguments, of)
    if record is None or "interrupted" in record.notes:
        print("avo audit: interrupted: it could not be told", file=sys.stderr)
        return None
    return record


def _measured(arguments: argparse.Namespace, of: Subject) -> Record | None:
    from avo_pytest import auditing, options
    from avo_pytest.commands.judging import judged
    from avo_pytest.judge import Judge, Request

    series, simulated = of.lineage.series, of.lineage.series.target == "simulated"
    request = Request(
        root=arguments.root.resolve(),
        kernel=series.kernel,
        target=series.target,
        device=arguments.device or ("simulated" if simulated else None),
        candidate=of.commits[0],
        incumbent=of.commits[1],
        set=of.rung.entry.set or None,
        blocks=arguments.blocks,
        seed=options.parse({}, arguments.root).seed,
        processes=arguments.processes or auditing.PROCESSES,
        json=arguments.json,
    )

    def work(judge: Judge) -> None:
        for name in judge.throughput_names():
            judge.throughput(name)

    return judged(request, work)[1]


def _keep(
    arguments: argparse.Namespace, remote: Any, *, of: Subject, record: Record, found: Audit,
    alpha: float,
) -> None:  # fmt: skip
    """One atomic push: the entry with ladders and badges, and the raw samples."""
    from avo_pytest import auditing, ledger
    from avo_pytest.report.generated import generated

    repository, text = remote.repository, record.to_json()
    raw, samples, _ = ledger.raw_commit(repository, record.run, text)
    entry = auditing.entry(record, of, found, role=arguments.role, stored="ref", alpha=alpha)
    place = entry.kernel, entry.target

    def build(tips: Any) -> dict[str, str]:
        tip = tips[ledger.BRANCH]
        before = ledger.read(repository, tip, ledger.mentioning([place])) if tip else []
        known = any(e.id == entry.id for e in before)
        files = generated([*before, *([] if known else [entry])], *place)
        done = ledger.extended(repository, tip, [entry], files=files)
        return {} if known else {ledger.BRANCH: done.commit, raw: samples}

    moved = remote.transact((ledger.BRANCH,), build)
    where = "this repository" if remote.name == "." else remote.name
    print(f"{'recorded' if moved else 'known already'} in the ledger of {where}: {entry.id}")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)
