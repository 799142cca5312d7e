# SPDX-License-Identifier: MIT
"""Does a record answer the order? Every rule may say one sentence; the first decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from avo_pytest.ci.order import Order
from avo_pytest.ci.refusal import Refusal
from avo_pytest.entries import ID, Entry
from avo_pytest.score import Record

EXPIRES = timedelta(hours=6)  # as the recorder has it
SKEW = timedelta(minutes=10)  # by which a scorer's clock may be wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A record, and what it is held against."""

    record: Record
    order: Order
    gate: Mapping[str, Any]
    share: str = "1/1"  # whose artifact it was
    now: datetime
    entries: tuple[Entry, ...] = ()  # of the ledger


def first(answer: Answer) -> Refusal | None:
    """The first rule that objects."""
    for name, rule in RULES:
        if (text := next(rule(answer), None)) is not None:
            return Refusal(name, text, "score it again")
    return None


def _mode(answer: Answer) -> Iterator[str]:
    if answer.record.mode != "confirm":
        yield f"a record of mode {answer.record.mode!r}, a confirm was asked for"
    if answer.record.subset:
        yield "a subset of the configurations"


def _share(answer: Answer) -> Iterator[str]:
    """Each artifact is the share that was asked for there; merging is done here."""
    said = answer.record.plan.get("share", "1/1")
    if said != answer.share or answer.record.shares:
        yield f"share {str(said)[:9]}, asked for was {answer.share}"


def _nonce(answer: Answer) -> Iterator[str]:
    if not answer.order.nonce or answer.record.nonce != answer.order.nonce:
        yield "the record does not carry the nonce of this run: it answers another question"


def _identities(answer: Answer) -> Iterator[str]:
    record, order = answer.record, answer.order
    said = {
        "kernel": record.kernel,
        "target": record.target,
        "candidate": _judged(record, "candidate"),
        "incumbent": _judged(record, "incumbent"),
        "harness": record.harness,
    }
    for name, value in said.items():
        wanted = getattr(order, name)
        if value != wanted:
            yield f"{name} is {value[:12] or 'none'}, asked for was {wanted[:12]}"


def _device(answer: Answer) -> Iterator[str]:
    device, wanted = _text(answer.record.environment, "device"), str(answer.gate["device"])
    every = wanted == "cpu" == answer.record.target
    for place in (answer.record.environment, *(r.environment for r in answer.record.replicates)):
        if not every and not _text(place, "device").startswith(wanted):
            yield f"measured on {device or 'an unnamed device'}, the gate is {wanted}"


def _window(answer: Answer) -> Iterator[str]:
    record, order = answer.record, answer.order
    created, ordered = _moment(record.created), _moment(order.created)
    if created is None or ordered is None:
        yield f"created: {record.created!r} is no date with an offset"
        return
    if not ordered - SKEW <= created <= answer.now + SKEW:
        yield f"made at {record.created}, ordered at {order.created}"
    if answer.now - created > EXPIRES:
        yield f"made at {record.created}, more than {EXPIRES} ago"
    if not ID.fullmatch(record.run) or f"{created:%Y%m%d-%H%M%S}" != record.run[:15]:
        yield f"run {record.run[:60]!r} did not begin at {record.created}"


def _replayed(answer: Answer) -> Iterator[str]:
    record = answer.record
    for entry in answer.entries:
        if entry.id == record.run:
            yield f"run {record.run} is in the ledger already"
        if record.nonce and entry.identities.get("nonce") == record.nonce:
            yield f"its nonce was used by {entry.id}"


RULES: tuple[tuple[str, Callable[[Answer], Iterator[str]]], ...] = (
    ("mode", _mode),
    ("share", _share),
    ("nonce", _nonce),
    ("identity", _identities),
    ("device", _device),
    ("window", _window),
    ("replay", _replayed),
)


def _judged(record: Record, role: str) -> str:
    return next((arm.identity for arm in record.arms if arm.role == role), "")


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _text(mapping: Mapping[str, Any], key: str) -> str:
    value = mapping.get(key)
    return value if isinstance(value, str) else ""
