# SPDX-License-Identifier: MIT
"""A record as it is handed to the recorder, with what only the one who hands it in knows."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from avo_pytest import recording
from avo_pytest.entries import ID, REFUSAL, Entry, new_id
from avo_pytest.gates import LOCAL, NAME
from avo_pytest.landing import Proposal, Refused
from avo_pytest.ledger import raw_commit, raw_facts
from avo_pytest.lineage import PROMOTE
from avo_pytest.policy import Policy
from avo_pytest.printable import one_plain_line
from avo_pytest.score import Record
from avo_pytest.verdict import Verdict

UNKNOWN = "unknown"
TEXT_LENGTH = 300
NEAR = timedelta(days=2)
HASH = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True, kw_only=True)
class Filing:
    """One record. `proposal`: the commit to land; `role`: `judge` where the gate table is to be
    asked; `nonce`: of the question that the record answers; `digest`: of the record. What was
    derived of it: `finding`, which does not follow from the samples (empty: nothing), and
    `verdict` by other rules. `keep` makes a commit of it: `ledger.raw_commit`."""

    record: Record
    text: str  # canonical JSON
    digest: str
    proposal: str | None
    finding: str
    verdict: Callable[[Policy], Verdict]
    keep: Callable[[], tuple[str, str, Any]]
    witnesses: Sequence[Filing] = ()
    role: str
    nonce: str
    author: str
    now: datetime

    @staticmethod
    def of(repository: Any, record: Record, **known: Any) -> Filing:
        text = record.to_json()
        keep = functools.cache(functools.partial(raw_commit, repository, record.run, text))
        digest = raw_facts(text)["sha256"]
        return Filing(record=record, text=text, digest=digest, keep=keep, **known)

    @functools.cached_property
    def told(self) -> Entry:
        """Its line, but for what it does not know."""
        return recording.told(self.record)

    @property
    def claimed(self) -> str:
        """The verdict that the record says it has; empty: none."""
        found = self.record.derived.get("verdict")
        return str(found.get("kind", "")) if isinstance(found, dict) else ""

    @property
    def promotes(self) -> bool:
        return self.claimed == PROMOTE

    @property
    def candidate(self) -> str:
        return judged(self.record, "candidate")

    @property
    def incumbent(self) -> str:
        return judged(self.record, "incumbent")

    @property
    def place(self) -> tuple[str, str]:
        """Kernel and target, as the ledger calls them."""
        return _named(self.record.kernel), _named(self.record.target)

    def mentioned(self) -> Iterator[tuple[str, ...]]:
        """What stands in the lines that have a say in it: those of its target, of its run, and of
        its question."""
        yield self.place
        yield (self.record.run,)
        if self.record.nonce:
            yield (self.record.nonce,)

    @property
    def device(self) -> str:
        """As the record has it, for people."""
        return one_plain_line(str(self.record.environment.get("device", "")), 80)


def judged(record: Record, role: str) -> str:
    """Hash of the tree that was judged in a role; empty: none."""
    return next((arm.identity for arm in record.arms if arm.role == role), "")


def refusal(filing: Filing, refused: Refused, proposal: Proposal | None) -> Entry:
    """The line about a record that was refused: who, what, why, and no figure of it. The same
    record refused by the same rule has the same line, however often it is handed in."""
    record = filing.record
    named = {
        "candidate": filing.candidate, "incumbent": filing.incumbent, "harness": record.harness,
        "record": filing.digest,
    }  # fmt: skip
    entry = refusal_of(
        refused,
        kernel=record.kernel,
        target=record.target,
        author=filing.author or (proposal.author.rpartition(" <")[0] if proposal else ""),
        device=filing.device,
        role=filing.role,
        commit=filing.proposal or "",
        now=filing.now,
    )
    about = one_plain_line(f"{record.run}:{filing.digest}:{refused.rule}:{filing.proposal}", 400)
    return replace(
        entry,
        id=_identity(record.run, about, filing.now),
        created=_created(record, filing.now),
        idea=proposal.idea if proposal else "",
        epoch=recording.epoch_of(record.harness) if HASH.fullmatch(record.harness) else "",
        identities={k: v for k, v in named.items() if HASH.fullmatch(v)},
        raw={"sha256": filing.digest, "bytes": len(filing.text.encode())},
    )


def refusal_of(
    refused: Refused, *, kernel: str, target: str, author: str = "", device: str = "",
    role: str = LOCAL, commit: str = "", now: datetime,
) -> Entry:  # fmt: skip
    """The same where there is no record."""
    told = {"rule": refused.rule, "text": refused.text, "advice": refused.advice}
    reason = {k: one_plain_line(v, TEXT_LENGTH) for k, v in told.items() if v}
    return Entry(
        id=new_id(now),
        kind=REFUSAL,
        created=now.isoformat(timespec="seconds"),
        kernel=_named(kernel),
        target=_named(target),
        device=one_plain_line(device, 80),
        role=role,
        reasons=(reason,),
        author=one_plain_line(author, 120),
        commit=commit if HASH.fullmatch(commit) else "",
    )


def _named(name: str) -> str:
    return name if NAME.fullmatch(name) else UNKNOWN


def _identity(run: str, about: str, now: datetime) -> str:
    """In the form of a run's id, on its day where that is one of these days."""
    short = hashlib.sha256(about.encode()).hexdigest()[:16]
    return f"{run[:15]}-{short}" if _near(run, now) else new_id(now)


def _near(run: str, now: datetime) -> bool:
    if not ID.fullmatch(run):
        return False
    try:
        day = datetime.strptime(run[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(now - day) < NEAR


def _created(record: Record, now: datetime) -> str:
    near = _near(record.run, now)
    return one_plain_line(record.created, 40) if near else now.isoformat(timespec="seconds")
