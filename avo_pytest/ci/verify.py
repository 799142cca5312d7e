# SPDX-License-Identifier: MIT
"""Job `verify`: what does an untrusted scorer's artifact prove? Here everything is derived again.

A fresh machine with read rights. verdict.json is the first thing that later jobs believe.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from avo_pytest import ledger, merging, verifying
from avo_pytest.ci import artifact, build, checks, order, outputs, plausibility
from avo_pytest.ci.checks import Answer
from avo_pytest.ci.finding import FILE, RECORD, Finding
from avo_pytest.ci.order import Order, OrderError
from avo_pytest.ci.refusal import Refused, refuse
from avo_pytest.entries import Entry
from avo_pytest.gates import JUDGE, WITNESS
from avo_pytest.journal import write_atomically
from avo_pytest.loading import load_problem, problem_reference
from avo_pytest.score import Record
from avo_pytest.verdict import Kind


def run(arguments: argparse.Namespace) -> int:
    """Write verdict.json and the records that may be believed; 0 whatever the verdict."""
    try:
        found = order.load(arguments.intake)
    except OrderError as error:
        outputs.say(f"avo ci verify: {error}")
        return 1
    root: Path = arguments.root.resolve()
    entries, notes = _ledger(root)
    try:
        _refuse_build(arguments.records)
        records, objections = _records(found, arguments.records, root, entries)
        finding = _finding(found, records, arguments.out, (*notes, *objections))
    except Refused as no:
        verdict = Kind.INCORRECT if no.refusal.rule == "build" else Kind.INVALID
        finding = Finding(
            nonce=found.nonce, proposal=found.proposal, verdict=str(verdict),
            gate=_judge(found),
            refusal=no.refusal.plain(), notes=notes,
        )  # fmt: skip
        outputs.say(f"{verdict} ({no.refusal.rule}): {no.refusal.text}")
    outputs.write_json(arguments.out / FILE, asdict(finding))
    outputs.tell({"verdict": finding.verdict})
    return 0


def _records(
    found: Order, folder: Path, root: Path, entries: tuple[Entry, ...]
) -> tuple[dict[str, Record], tuple[str, ...]]:
    """Of the judge, and of each witness that may be believed; where the judge has seen a gain,
    one that is missing or may not be believed is a reason to refuse. Raises Refused."""
    judge = _judge(found)
    records = {judge: _believed(found, order.gate_named(found, judge), folder, root, entries)}
    promotes = records[judge].derived["verdict"]["kind"] == Kind.PROMOTE
    objections = []
    for gate in found.gates:
        if gate["role"] != WITNESS:
            continue
        try:
            records[str(gate["name"])] = _believed(found, gate, folder, root, entries)
        except Refused as no:
            if promotes:
                raise
            objections.append(f"witness: {no.refusal.text}")
    return records, tuple(objections)


def _believed(
    found: Order, gate: Mapping[str, Any], records: Path, root: Path, entries: tuple[Entry, ...]
) -> Record:
    """The record of a gate, if nothing speaks against it. Raises Refused."""
    name, parts = str(gate["name"]), []
    for job in order.jobs(gate):
        record, where = _answer(found, job, records), str(job["artifact"]).removeprefix("score-")
        answer = Answer(
            record=record, order=found, gate=gate, share=str(job["share"]),
            now=datetime.now(UTC), entries=entries,
        )  # fmt: skip
        if (objection := checks.first(answer)) is not None:
            raise refuse(objection.rule, f"{where}: {objection.text}", objection.advice)
        _refuse_finding("record", where, verifying.against_itself(record))
        parts.append((where, record))
    record = _merged(parts) if len(parts) > 1 else parts[0][1]
    problem = load_problem(problem_reference(record.kernel, root), root=root)
    _refuse_finding("tree", name, verifying.against_tree(record, root))
    _refuse_finding("plausibility", name, plausibility.findings(record, problem))
    return record


def _answer(found: Order, job: Mapping[str, Any], records: Path) -> Record:
    """What a job of the matrix left. Raises Refused."""
    name = str(job["artifact"]).removeprefix("score-")
    folder = artifact.folder_of(records, name, len(found.gates) == job["shares"] == 1)
    if folder is None:
        raise refuse("artifact", f"{name}: {_why_absent(records, name)}", "score it again")
    return artifact.read(folder, name)


def _merged(parts: Sequence[tuple[str, Record]]) -> Record:
    try:
        return merging.merge(parts)
    except merging.NotShares as no:
        raise refuse("share", str(no), "score it again") from no


def _refuse_finding(rule: str, name: str, sentences: Iterator[str]) -> None:
    if (sentence := next(sentences, None)) is not None:
        raise refuse(rule, f"{name}: {sentence}", "score it again; see docs/ci.md")


def _finding(
    found: Order, records: Mapping[str, Record], out: Path, notes: tuple[str, ...]
) -> Finding:
    judge = _judge(found)
    said = records[judge].derived["verdict"]
    files, told = {}, {}
    for name in [judge, *(n for n in records if n != judge)]:
        files[name] = RECORD if name == judge else f"witness-{name}.json"
        write_atomically(out / files[name], records[name].to_json() + "\n")
        verdict = records[name].derived["verdict"]
        reasons = "; ".join(str(reason["text"]) for reason in verdict["reasons"])
        told[name] = f"{verdict['kind']}: {reasons}"
    return Finding(
        nonce=found.nonce, proposal=found.proposal, verdict=said["kind"], gate=judge,
        records=files, told=told, notes=notes,
        digest=str(ledger.raw_facts(records[judge].to_json())["sha256"]),
    )  # fmt: skip


def _judge(found: Order) -> str:
    return next((str(g["name"]) for g in found.gates if g["role"] == JUDGE), "")


def _refuse_build(records: Path) -> None:
    """A candidate that does not compile is no riddle about a missing record."""
    built = _read(records / "build" / build.FILE)
    if isinstance(built, dict) and built.get("ok") is False:
        logs = [str(b.get("log", "")) for b in built.get("builds", ()) if isinstance(b, dict)]
        raise refuse("build", f"it does not compile: {' '.join(logs)[:2000]}", "avo build")


def _why_absent(records: Path, name: str) -> str:
    """What the scorer said of itself, for people only."""
    said = _read(records / f"score-{name}" / "score.json")
    if not isinstance(said, dict):
        return "no record arrived: the runner died, was never there, or the build failed"
    return f"no record was made: {said.get('status')!s:.40}: {said.get('reason')!s:.300}"


def _read(path: Path) -> Any:
    try:
        return order.read_json(path)
    except OrderError:
        return None


def _ledger(root: Path) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Its entries, as this clone knows them; the recorder asks the remote again."""
    try:
        return tuple(ledger.load(root)), ()
    except ledger.NoLedger:
        return (), ("no ledger is in this clone: replays are for the recorder to find",)
