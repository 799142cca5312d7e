# SPDX-License-Identifier: MIT
"""The record of a run: raw samples, checks and environment. Everything else is derived from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

SCHEMA = 1
NO_INCUMBENT = "no incumbent"  # how the note of such a run begins


class Status(StrEnum):
    """Outcome of one configuration of one arm."""

    OK = "ok"
    INCORRECT = "incorrect"
    BUILD_ERROR = "build_error"
    LAUNCH_ERROR = "launch_error"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    INVALID = "invalid"  # the machine, not the arm: too disturbed, incomplete


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One correctness check of one arm on one configuration. Errors are relative (see correctness).

    `seed` replays the inputs; None for errors means that no comparison took place.
    """

    configuration: str
    arm: str
    status: Status
    reason: str = ""
    seed: int = 0
    rows: int = 0
    error_rms: float | None = None
    limit_rms: float | None = None
    error_worst: float | None = None
    limit_worst: float | None = None

    @property
    def ok(self) -> bool:
        return self.status is Status.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One timed and verified launch. `turn` counts balanced passes over the arms in a block.

    `repeats`: how often the turn was measured again because a launch was disturbed; `disturbed`:
    why this launch still was, after all tries. `key` and the run's seed replay the inputs.
    """

    block: int
    configuration: str
    turn: int
    position: int
    arm: str
    ms: float
    host_ms: float
    key: int = 0
    repeats: int = 0
    disturbed: str = ""
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRecord:
    """Who was launched. `dtype` orders baselines on the last line (same dtype first)."""

    name: str
    role: str
    dtype: str
    identity: str = ""  # tree hash of candidate or incumbent; version of a baseline
    artifact: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationRecord:
    """A throughput configuration as it was judged."""

    name: str
    group: str
    flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run. Serialises to JSON and back without loss."""

    schema: int = SCHEMA
    run: str
    created: str
    mode: str
    kernel: str
    target: str
    set: str
    regime: str
    subset: bool
    seed: int
    isolation: str
    harness: str
    environment: Mapping[str, Any]
    arms: tuple[ArmRecord, ...]
    configurations: tuple[ConfigurationRecord, ...]
    build: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    samples: tuple[Sample, ...] = ()
    blocks: tuple[Mapping[str, Any], ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no NaN."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Record:
        """Parse. Raises ValueError naming a key that is missing or unknown, or a newer schema."""
        raw = json.loads(text)
        if not isinstance(raw, dict):
            raise ValueError("a record is a JSON object")
        if raw.get("schema") != SCHEMA:
            raise ValueError(f"record schema {raw.get('schema')!r}: this version reads {SCHEMA}")
        record: Record = _build(
            Record,
            raw,
            arms=tuple(_build(ArmRecord, a) for a in raw["arms"]),
            configurations=tuple(_build(ConfigurationRecord, c) for c in raw["configurations"]),
            checks=tuple(_build(Check, c, status=Status(c["status"])) for c in raw["checks"]),
            samples=tuple(_build(Sample, s) for s in raw["samples"]),
            blocks=tuple(raw["blocks"]),
            notes=tuple(raw["notes"]),
        )
        return record


def _build(cls: type[Any], raw: Mapping[str, Any], **parsed: Any) -> Any:
    expected = {f.name for f in fields(cls)}
    if raw.keys() != expected:
        odd = sorted(raw.keys() ^ expected)
        raise ValueError(f"{cls.__name__}: missing or unknown keys {', '.join(odd)}")
    return cls(**{**raw, **parsed})
