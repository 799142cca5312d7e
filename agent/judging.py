# SPDX-License-Identifier: MIT
"""From a proposal to its verdict and its record: by the judge here, or by a gate elsewhere.

Here: a confirm against `main` in the trusted checkout, then `avo promote`, which records every
verdict and moves the remote's `main` on PROMOTE alone. Elsewhere: a branch and a pull request; the
verdict is read from the ledger, and until it is there the step waits on disk.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent import calibrating, pull_request
from agent.evaluation import pathless
from agent.run import Run
from agent.state import BEGUN, JUDGED, PROPOSED, QUEUED, StepState
from avo_pytest.entries import VERDICT, Entry
from avo_pytest.recording import clean

RERUNS = 2  # of a confirm that the machine spoiled
POLL_S = 60.0
USUAL_CONFIRM_S = 600.0  # reserved for the first confirm; later ones go by the longest so far
PROMOTE_S = 900.0
UNJUDGED = "CLOSED"  # nobody will judge it: its pull request was closed, by a newer run or by hand


class JudgingError(Exception):
    """The judge or the recorder did not answer; the step stays where it is."""


def judge(run: Run, step: StepState) -> dict[str, Any] | None:
    """The verdict on a proposal; None while it is awaited from elsewhere."""
    return _elsewhere(run, step) if run.plan.score_via == "ci" else _here(run, step)


def record(run: Run, step: StepState) -> dict[str, Any] | None:
    """The verdict's line in the ledger, and `main` moved where it may."""
    if run.plan.score_via == "ci":
        entry = step.fact(JUDGED, "entry")
        return {"entry": entry, **{k: step.fact(JUDGED, k) for k in ("landed", "version", "rule")}}
    path = step.fact(JUDGED, "record")
    return {"rule": "no record"} if not path else _promoted(run, step, Path(path))


def _here(run: Run, step: StepState) -> dict[str, Any]:
    """A confirm; again where the machine spoiled it. A ticket outlives this process."""
    ticket = str(step.fact(QUEUED, "ticket", ""))
    reservation, tries = str(step.fact(QUEUED, "reservation", "")), step.fact(QUEUED, "tries", 0)
    if not ticket:
        calibrating.renewed(run.plan, run.clone, 3600 * run.spend.left()["hours"])
    while True:
        if not ticket:
            reservation = run.spend.reserve("confirm", gpu_seconds=_expected_s(run))
            ticket = run.evaluator.start("confirm", run.space(step).folder(step.number))
            tries += 1
            run.journal.append(
                QUEUED, step.number, ticket=ticket, reservation=reservation, tries=tries
            )
        while (found := run.evaluator.wait(ticket, POLL_S)) is None:
            continue
        run.spend.settle(reservation, gpu_seconds=found.gpu_seconds)
        if found.verdict != "INVALID" or tries > RERUNS:
            return _facts(found)
        ticket = ""


def _facts(found: Any) -> dict[str, Any]:
    """An evaluation, as the journal keeps it."""
    numbers = ("gain", "lower", "upper", "tflops", "gpu_seconds")
    said = {name: getattr(found, name) for name in numbers}
    known = {k: v for k, v in said.items() if v is not None and math.isfinite(v)}
    path = str(found.record_path) if found.record_path else ""
    verdict = str(found.verdict or "INVALID")
    reason = clean(pathless(str(found.reason)))
    return {"verdict": verdict, "correct": found.correct, "reason": reason, "record": path, **known}


def _expected_s(run: Run) -> float:
    """GPU seconds to reserve: a CPU's cost none."""
    if run.plan.target in ("cpu", "simulated"):
        return 0.0
    seen = [float(e.facts.get("gpu_seconds", 0.0)) for e in run.history.of(JUDGED)]
    return max(seen, default=0.0) * 1.2 or USUAL_CONFIRM_S


def _promoted(run: Run, step: StepState, path: Path) -> dict[str, Any]:
    """`avo promote`, in the trusted checkout. Safe to repeat: what is recorded is known."""
    out = run.directory(step.number) / "promotion.json"
    commit = str(step.fact(PROPOSED, "commit"))
    line = [sys.executable, "-m", "avo_pytest", "promote", str(path), "--commit", commit]
    line += ["--remote", run.clone.remote, "--role", "local", "--json", str(out)]
    done = subprocess.run(
        line, cwd=run.clone.root, capture_output=True, text=True, timeout=PROMOTE_S, check=False
    )
    if done.returncode == 1 or not out.exists():
        said = (done.stderr or done.stdout).strip().splitlines() or ["it failed"]
        raise JudgingError(f"avo promote: {said[-1]}")
    raw = json.loads(out.read_text(encoding="utf-8"))
    entry = raw.get("entry") or {}
    return {
        "outcome": raw["kind"],
        "rule": raw.get("rule", ""),
        "text": clean(str(raw.get("text", ""))),
        "entry": entry.get("id", ""),
        "version": entry.get("version"),
        "landed": raw.get("main") or "",
    }


def _elsewhere(run: Run, step: StepState) -> dict[str, Any] | None:
    """Proposed once; from then on a look at the ledger, whenever somebody asks."""
    if not step.has(QUEUED):
        run.journal.append(QUEUED, step.number, **pull_request.offer(run, step))
    found = _verdict(run, step)
    if found is None and (why := pull_request.closed(step)):
        found = _verdict(run, step)  # a gate records first and closes then
        if found is None:
            return {"verdict": UNJUDGED, "correct": None, "reason": why, "rule": "closed"}
    if found is None:
        return None
    pull_request.conclude(run, step, found)
    gain = {} if found.gain is None else {"gain": math.expm1(found.gain[0])}
    reason = found.reasons[0].get("text", "") if found.reasons else ""
    return {
        "verdict": found.verdict,
        "correct": found.verdict != "INCORRECT",
        **gain,
        "reason": clean(reason),
        "entry": found.id,
        "version": found.version,
        "landed": found.commit if found.version is not None else "",
        "rule": found.reasons[0].get("rule", "") if found.reasons else "",
    }


def _verdict(run: Run, step: StepState) -> Entry | None:
    """The newest line of the ledger about this candidate that is younger than the step."""
    from avo_pytest import branches, landing, ledger

    commit, plan = str(step.fact(PROPOSED, "commit")), run.plan
    with branches.opened(run.clone.root) as repository:
        mine = landing.folder_hash(repository, commit, plan.kernel, plan.target)
        tip = ledger.find(repository, run.clone.remote)
        entries = ledger.read(repository, tip) if tip else []
    begun = datetime.fromisoformat(step.events[BEGUN].at)
    found = [
        entry
        for entry in entries
        if entry.identities.get("candidate") == mine and _moment(entry) >= begun
    ]
    return next((e for e in reversed(found) if e.kind in (VERDICT, "refusal")), None)


def _moment(entry: Entry) -> datetime:
    """When it was judged; what is no date is as old as can be."""
    try:
        found = datetime.fromisoformat(entry.created)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
