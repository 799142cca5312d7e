# SPDX-License-Identifier: MIT
"""Job `record`: every verdict and every refusal into the ledger, `main` forward on PROMOTE.

The only job that may write to the repository. It runs no code of a candidate, and believes what
intake and verify wrote; the recorder derives the verdict from the samples once more.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avo_pytest import branches, verifying
from avo_pytest.branches import GitError, Remote
from avo_pytest.ci import finding, order, outputs, refusal
from avo_pytest.ci.order import Order, OrderError
from avo_pytest.ci.score import SIMULATED
from avo_pytest.entries import Damaged, Entry
from avo_pytest.gates import JUDGE, LOCAL

FILE = "outcome.json"
IGNORED = "ignored"


def run(arguments: argparse.Namespace) -> int:
    """Write outcome.json. 1: nothing was recorded, and the job may be run again."""
    try:
        if not (arguments.intake / order.FILE).is_file():
            return _done(arguments.out, {"outcome": IGNORED, "main": "", "text": "nothing to do"})
        found = order.load(arguments.intake)
        outcome = _record(arguments, found)
    except (OrderError, GitError, Damaged, OSError, ValueError) as error:
        outputs.say(f"avo ci record: {error}")
        return 1
    return _done(arguments.out, outcome)


def _record(arguments: argparse.Namespace, found: Order) -> dict[str, Any]:
    root: Path = arguments.root.resolve()
    no = order.read_json(arguments.intake / refusal.FILE)
    said = order.read_json(arguments.verdict / finding.FILE) if no is None else None
    if said is not None and said.get("nonce") != found.nonce:
        raise OrderError(f"{arguments.verdict}: is the verdict of another run")
    no = no or (said or {"refusal": _no_verdict()}).get("refusal")
    with branches.opened(root) as repository:
        remote = Remote(repository, arguments.remote)
        if no is not None:
            return _refused(remote, found, no, said)
        assert said is not None
        return _promoted(remote, root, found, said, arguments.verdict)


def _no_verdict() -> dict[str, str]:
    return {"rule": "verify", "text": "no verdict arrived", "advice": "score it again"}


def _refused(
    remote: Remote, found: Order, no: Mapping[str, Any], said: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A refusal that asks for no line of the ledger has none: a crowd must not fill it."""
    from avo_pytest import promote

    entry: Entry | None = None
    if no.get("recorded", True):
        entry = promote.record_refusal(
            remote, kernel=found.kernel, target=found.target, rule=str(no["rule"]),
            text=str(no["text"]), author=found.author, commit=found.proposal,
        )  # fmt: skip
    told = {key: str(no.get(key, "")) for key in ("rule", "text", "advice")}
    verdict = str(said["verdict"]) if said else ""
    plain = _told(promote.REFUSED, entry, verdict=verdict, **told)
    return {**plain, "recorded": entry is not None}


def _promoted(
    remote: Remote, root: Path, found: Order, said: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    from avo_pytest import promote

    judge = said["records"][said["gate"]]
    done = promote.promote(
        remote,
        root,
        verifying.read(folder / judge),
        proposal=found.proposal,
        witnesses=[verifying.read(folder / name) for name in finding.witnesses(said, found)],
        role=LOCAL if found.target == SIMULATED else JUDGE,  # scripted times judge nothing
        nonce=found.nonce,
        author=found.author,
    )
    kind = done.kind
    if kind == promote.KNOWN:  # this job ran before
        kind = promote.PROMOTED if done.main else promote.RECORDED
    told = _told(kind, done.entry, rule=done.rule, text=done.text, verdict=str(said["verdict"]))
    return {**told, "main": done.main or "", "recorded": True}


def _told(kind: str, entry: Entry | None, **more: str) -> dict[str, Any]:
    return {"outcome": kind, "main": "", "entry": entry.id if entry else "", **more}


def _done(out: Path, outcome: Mapping[str, Any]) -> int:
    out.mkdir(parents=True, exist_ok=True)
    outputs.write_json(out / FILE, outcome)
    outputs.say(f"{outcome['outcome']}: {outcome['text']}")
    outputs.tell({"outcome": str(outcome["outcome"]), "main": str(outcome["main"])})
    return 0
