# SPDX-License-Identifier: MIT
"""The record of a run: raw samples, checks and environment. Everything else is derived from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from avo_pytest.strict_json import build, enum_of, list_of, loads

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

    `seed` replays the inputs; None for errors means that no comparison took place. `replicate` is
    the process that timed the configuration afterwards, None for a check of the correctness set.
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
    replicate: int | None = None

    @property
    def ok(self) -> bool:
        return self.status is Status.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One timed and verified launch. `turn` counts balanced passes over the arms in a block; blocks
    are counted within their replicate.

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
    replicate: int = 0


class Stage(StrEnum):
    """What a replicate was started for. Only `confirm` replicates can promote."""

    MEASURE = "measure"
    SCREEN = "screen"
    CONFIRM = "confirm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicate:
    """One fresh process that timed all arms. Numbers count from 0 in order of start.

    `loaded`: arms in the order in which they were loaded and allocated, drawn for this process.
    `blocks`: planned; a screen may be stopped before. `status`: OK unless the process was lost.
    """

    number: int
    stage: Stage
    device: str
    blocks: int
    loaded: tuple[str, ...] = ()
    started: str = ""  # ISO 8601, UTC
    seconds: float = 0.0  # from start to end of the process
    start_seconds: float = 0.0  # of these until the first block began
    status: Status = Status.OK
    reason: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)  # as this process found it


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
class Share:
    """What one of several machines gave to a merged confirm. `sha256` of its own record, whose
    `seed` replays the inputs of its processes; `replicates` are the numbers they have here."""

    run: str
    created: str
    seed: int
    sha256: str
    replicates: tuple[int, ...]
    calibration: Mapping[str, Any]


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
    replicates: tuple[Replicate, ...] = ()
    samples: tuple[Sample, ...] = ()
    blocks: tuple[Mapping[str, Any], ...] = ()
    policy: Mapping[str, Any] = field(default_factory=dict)  # in force; with `plan`, fixed before
    calibration: Mapping[str, Any] = field(default_factory=dict)  # the first sample was taken
    plan: Mapping[str, Any] = field(default_factory=dict)
    attempts: Mapping[str, Any] = field(default_factory=dict)  # earlier ones of the same artifact
    derived: Mapping[str, Any] = field(default_factory=dict)  # what pure functions made of the rest
    absent: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    nonce: str = ""  # of who asked for it: a verdict is good for one question, once
    shares: tuple[Share, ...] = ()  # of a confirm that several machines shared, in their order

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no NaN."""
        raw = asdict(self)
        if not self.shares:
            del raw["shares"]  # as records were before there were any
        return json.dumps(raw, sort_keys=True, allow_nan=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str | bytes) -> Record:
        """Parse. Raises ValueError naming what is missing, unknown, of another type or newer."""
        raw = loads(text)
        if not isinstance(raw, dict):
            raise ValueError("a record is a JSON object")
        if raw.get("schema") != SCHEMA:
            raise ValueError(f"record schema {raw.get('schema')!r}: this version reads {SCHEMA}")
        raw = {"nonce": "", "shares": [], **raw}  # records from before there were such
        parts = {name: tuple(map(of, list_of(raw, name, dict))) for name, of in _PARTS.items()}
        notes = tuple(list_of(raw, "notes", str))
        record: Record = build(Record, raw, **parts, notes=notes)
        return record


def _check(raw: Mapping[str, Any]) -> Any:
    return build(Check, raw, status=enum_of(Status, raw.get("status")))


def _replicate(raw: Mapping[str, Any]) -> Any:
    parsed = {
        "stage": enum_of(Stage, raw.get("stage")),
        "status": enum_of(Status, raw.get("status")),
    }
    return build(Replicate, raw, **parsed)


_PARTS: Mapping[str, Callable[[Any], Any]] = {
    "arms": partial(build, ArmRecord),
    "configurations": partial(build, ConfigurationRecord),
    "checks": _check,
    "replicates": _replicate,
    "samples": partial(build, Sample),
    "blocks": dict,
    "shares": partial(build, Share),
}
