# SPDX-License-Identifier: MIT
"""Is a record in the ledger, and does its line say what the record says?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from avo_pytest.entries import AUDIT, REFUSAL, Entry, to_line
from avo_pytest.ledger import raw_facts
from avo_pytest.recording import Circumstances, entry_of
from avo_pytest.score import Record

# Of an audit these are what the ledger's other lines made of the record, and of any entry `cost`
# also has what its proposer spent, which no record knows.
OF_THE_AUDIT = frozenset({"mode", "verdict", "reasons", "gain", "replicates"})
UNKNOWN_TO_RECORDS = frozenset({"cost", "digest", "schema"})


@dataclass(frozen=True, slots=True)
class Entered:
    """The line about a record, and in what the two differ; `entry` is None where there is none."""

    entry: Entry | None
    findings: tuple[str, ...]


def entered(record: Record, entries: Sequence[Entry]) -> Entered:
    """Compare a record with the ledger."""
    digest = raw_facts(record.to_json())["sha256"]
    own = next((e for e in entries if e.id == record.run and e.kind != REFUSAL), None)
    if own is None:
        refused = next(
            (e for e in entries if e.kind == REFUSAL and e.raw.get("sha256") == digest), None
        )
        missing = f"the ledger has no entry of run {record.run}"
        return Entered(refused, () if refused else (missing,))
    return Entered(own, tuple(_differences(record, own, digest)))


def _differences(record: Record, entry: Entry, digest: str) -> Iterator[str]:
    said = entry.raw.get("sha256")
    if said != digest:
        yield f"the ledger's record of run {entry.id} is {str(said)[:12]}, this is {digest[:12]}"
        return
    known = Circumstances(
        kind=entry.kind,
        idea=entry.idea,
        author=entry.author,
        role=entry.role,
        device=entry.device,
        epoch=entry.epoch,
        version=entry.version,
        commit=entry.commit,
        stored=str(entry.raw.get("stored", "")),
    )
    derived, told = (json.loads(to_line(e)) for e in (entry_of(record, known), entry))
    left_out = UNKNOWN_TO_RECORDS | (OF_THE_AUDIT if entry.kind == AUDIT else frozenset())
    for key in sorted((derived.keys() | told.keys()) - left_out - entry.unknown.keys()):
        if derived.get(key) != told.get(key):
            ledger, mine = _short(told.get(key)), _short(derived.get(key))
            yield f"{key}: the ledger says {ledger}, the record {mine}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:119] + "…"
