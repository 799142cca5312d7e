# SPDX-License-Identifier: MIT
"""Job `intake`: an event becomes an order, a refusal, or nothing. Has read rights only."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

from avo_pytest.branches import GitError
from avo_pytest.ci import event, order, outputs, reading
from avo_pytest.ci.event import Asked, EventError, Ignored
from avo_pytest.ci.github import GitHub, GitHubError
from avo_pytest.ci.order import IGNORED, Order
from avo_pytest.ci.refusal import FILE, Refusal, Refused
from avo_pytest.entries import Damaged
from avo_pytest.gates import GateError

MOST_BYTES = 32 << 20  # GitHub's own limit of a payload is 25 MB


def run(arguments: argparse.Namespace) -> int:
    """Write intake.json and candidate/, or refusal.json; set the outputs."""
    out: Path = arguments.out
    _clear(out)
    try:
        asked = event.read(arguments.event_name, _payload(arguments.event))
        if isinstance(asked, Ignored):
            return _ignored(asked, out)
        found, refusal = _decide(asked, arguments)
    except EventError as error:
        outputs.say(f"avo ci intake: {error}")
        return 4
    except (GitHubError, GitError, GateError, Damaged, OSError, ValueError) as error:
        outputs.say(f"avo ci intake: {error}")
        return 1
    found.save(out)
    if refusal is not None:
        shutil.rmtree(out / order.CANDIDATE, ignore_errors=True)
        outputs.write_json(out / FILE, refusal.plain())
        outputs.say(f"refused ({refusal.rule}): {refusal.text}")
    _tell(found, refusal)
    return 0


def _decide(asked: Asked, arguments: argparse.Namespace) -> tuple[Order, Refusal | None]:
    """The order as far as it is known, and the refusal if there is one."""
    root: Path = arguments.root.resolve()
    github = GitHub.from_environment() if os.environ.get("GITHUB_REPOSITORY") else None
    found = reading.begun(asked, arguments.event_name)
    try:
        found = reading.admit(asked, found, root, github)
        found = reading.locate(found, root)
        found = reading.read(found, root, arguments.out)
        reading.question(asked, found, root)
        return reading.noted(found, github), None
    except Refused as no:
        if no.refusal.recorded and not found.base and found.proposal:
            found = reading.locate(found, root)
        return found, no.refusal


def _clear(out: Path) -> None:
    """Nothing of an earlier run by hand is left to be read."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (order.FILE, FILE, IGNORED):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / order.CANDIDATE, ignore_errors=True)


def _payload(path: Path) -> Any:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise EventError(f"{path}: more than {MOST_BYTES >> 20} MiB")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise EventError(f"{path}: {error}") from error


def _ignored(asked: Ignored, out: Path) -> int:
    outputs.write_json(out / IGNORED, {"why": asked.why})
    outputs.say(f"nothing to do: {asked.why}")
    _tell(None, None)
    return 0


def _tell(found: Order | None, refusal: Refusal | None) -> None:
    proceed = found is not None and refusal is None
    outputs.tell(
        {
            "proceed": proceed,
            "refused": refusal is not None,
            "matrix": order.as_text(found) if found is not None and proceed else "[]",
            "nonce": found.nonce if found is not None else "",
            "proposal": found.proposal if found is not None else "",
            "pull": str(found.pull) if found is not None and found.pull else "",
            "landing": found.landing if found is not None else "",
        }
    )
