# SPDX-License-Identifier: MIT
"""A line of the ledger: what one run, note or audit came to, with the digest of its raw samples.

The format is published as `schemas/ledger-entry.schema.json`. A reader keeps keys that it does not
know and reads a newer schema as far as it can, so old tools never lose what new ones wrote.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

SCHEMA = 1
VERDICT, SEED, NOTE, AUDIT = "verdict", "seed", "note", "audit"
REFUSAL, REVERT, EPOCH = "refusal", "revert", "epoch"
HOLDS, REFUTED = "HOLDS", "REFUTED"  # verdicts of an audit
JUDGE = "judge"  # the role whose figures badges may show
ID = re.compile(r"(\d{6})(\d{2})-\d{6}-[0-9a-z]{4,40}")

Interval = tuple[float, float, float]  # value, lower, upper


class Damaged(Exception):
    """A line that is not what was written. The text says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line. Gains are log ratios over the incumbent; figures are as `figures` reads them.

    `version` is set for what landed on `main`, for audits of it and for reverts; `role` is that
    of the device in the gate table, or `local`. `raw` names the record's digest and where it is.
    """

    id: str
    kind: str
    created: str
    kernel: str
    target: str
    schema: int = SCHEMA
    device: str = ""
    role: str = "local"
    mode: str = ""
    set: str = ""
    regime: str = ""
    isolation: str = ""
    epoch: str = ""
    verdict: str = ""
    reasons: tuple[Mapping[str, str], ...] = ()
    version: int | None = None
    idea: str = ""
    author: str = ""
    commit: str = ""
    gain: Interval | None = None
    p_value: float | None = None
    replicates: int = 0
    arms: Mapping[str, str] = field(default_factory=dict)  # name → role
    overall: Mapping[str, Any] | None = None
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    configurations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    identities: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)  # seconds, gpu_seconds, usd, tokens
    noise: Mapping[str, Any] = field(default_factory=dict)  # floor, created, valid
    plan: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)  # sha256, bytes, stored
    unknown: Mapping[str, Any] = field(default_factory=dict)  # of a newer writer


def _exact(kind: str) -> type | None:
    """The type of most values of a kind, so that most need one comparison."""
    plain = {"str": str, "int": int, "float": float, "Mapping": dict}
    return plain.get(kind.split("[")[0].split(" ")[0])


@dataclass(frozen=True, slots=True)
class Figures:
    """Throughput of the candidate and its ratio to each other arm; above 1 it is faster."""

    tflops: Interval
    ratios: Mapping[str, Interval]


_KINDS = {f.name: str(f.type) for f in fields(Entry) if f.name != "unknown"}
_EXACT = {name: _exact(kind) for name, kind in _KINDS.items()}
_BEFORE = ',"digest":"'
_TAIL = len(_BEFORE) + 64 + len('"}')


def figures(raw: Mapping[str, Any] | None) -> Figures | None:
    """Read `overall`, a group or a configuration; None where nothing was timed."""
    if not raw or not raw.get("tflops"):
        return None
    ratios = {name: _interval(value) for name, value in raw.get("vs", {}).items()}
    return Figures(_interval(raw["tflops"]), ratios)


def new_id(now: datetime, number: int = 0) -> str:
    """An id in the form of a run's, for what is no run; `number` orders those of one moment."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{number:04x}{secrets.token_hex(3)}"


def to_line(entry: Entry) -> str:
    """Canonical JSON on one line that ends with the digest of all before it. No NaN."""
    raw = {name: getattr(entry, name) for name in _KINDS}
    kept = {key: value for key, value in raw.items() if value not in (None, "", (), {}, [])}
    body = _canonical(kept | dict(entry.unknown))
    return f'{body[:-1]}{_BEFORE}{_digest(body)}"}}'


def from_line(line: str, where: str = "ledger") -> Entry:
    """Parse. Raises Damaged naming the place and what is wrong."""
    intact(line, where)
    try:
        raw = json.loads(line)
        del raw["digest"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{where}: not a ledger entry ({error})") from error
    return _entry(raw, where)


def intact(line: str, where: str = "ledger") -> None:
    """Whether a line is what was written, without reading what it says: that takes ten times as
    long. Raises Damaged."""
    if line[-_TAIL:] != f'{_BEFORE}{_digest(f"{line[:-_TAIL]}}}")}"}}':
        raise Damaged(f"{where}: not a ledger entry, or it does not match its digest")


def _entry(raw: dict[str, Any], where: str) -> Entry:
    """Known keys by their type; what a newer schema made of one of them is kept as unknown."""
    known = {
        k: v
        for k, v in raw.items()
        if type(v) is _EXACT.get(k, raw) or (k in _KINDS and _fits(v, _KINDS[k]))
    }
    unknown = {} if len(known) == len(raw) else {k: v for k, v in raw.items() if k not in known}
    missing = [k for k in ("id", "kind", "created", "kernel", "target") if k not in known]
    if missing or not ID.fullmatch(known["id"]):
        raise Damaged(f"{where}: entry without a proper {missing[0] if missing else 'id'}")
    odd = sorted(unknown.keys() & _KINDS.keys())
    if odd and known.get("schema", 0) <= SCHEMA:
        raise Damaged(f"{where}: entry {known['id']!r}: {odd[0]} is not {_KINDS[odd[0]]}")
    if known.get("gain") is not None:
        known["gain"] = _interval(known["gain"])
    known["reasons"] = tuple(known.get("reasons", ()))
    return Entry(**known, unknown=unknown)


def _fits(value: Any, kind: str) -> bool:
    if value is None:
        return kind.endswith("| None")
    if kind.startswith("Interval"):
        return _numbers(value) and len(value) == 3
    if kind.startswith("tuple"):
        return isinstance(value, list) and all(isinstance(v, dict) for v in value)
    expected = (int, float) if kind.startswith("float") else _exact(kind)
    return expected is not None and isinstance(value, expected)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, (int, float)) for v in value)


def _interval(raw: Any) -> Interval:
    value, low, high = raw
    return float(value), float(low), float(high)


def _canonical(raw: Mapping[str, Any]) -> str:
    return json.dumps(raw, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
