# SPDX-License-Identifier: MIT
"""A record read again: does what it says follow from its samples, and does a tree agree?

Each finding is a sentence; none means that everything agrees.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from avo_pytest import policy as policies
from avo_pytest.harness import harness_hash
from avo_pytest.loading import load_problem, problem_reference
from avo_pytest.policy import DEFAULTS, Policy, PolicyError, from_dict, load
from avo_pytest.problem import DeviceKind, Problem
from avo_pytest.promotion import Verdict, decide, derive
from avo_pytest.score import Record

MOST_BYTES = 1 << 29  # of JSON; the largest confirm that a policy allows has a fifth of it


def read(path: Path) -> Record:
    """A record from a .json or .json.gz file. Raises OSError or ValueError with the sentence."""
    opener = gzip.open if path.suffix == ".gz" else Path.open
    try:
        with opener(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"not a whole gzip file: {error}") from error
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES >> 20} MiB of JSON")
    return Record.from_json(content)


def recorded_policy(record: Record) -> Policy:
    """The policy that was in force. Raises PolicyError."""
    if record.mode == "measure" and not record.policy:
        return DEFAULTS[kind_of(record)]  # nothing of it is used
    return from_dict(record.policy)


def kind_of(record: Record) -> DeviceKind:
    """Which defaults and sets its target has."""
    return policies.kind_of(record.target)


def against_itself(record: Record) -> Iterator[str]:
    """Every derived figure, again, byte for byte."""
    try:
        policy = recorded_policy(record)
    except PolicyError as error:
        yield str(error)
        return
    derived = json.loads(json.dumps(derive(record, policy), allow_nan=False))
    if not record.derived:
        if record.mode != "measure":  # which claims nothing
            kind = derived["verdict"]["kind"]
            yield f"verdict: the record has none, its samples give {kind}"
        return
    for place, said, found in _differences("", dict(record.derived), derived):
        yield f"{place}: the record says {_short(said)}, its samples give {_short(found)}"


def against_tree(record: Record, root: Path) -> Iterator[str]:
    """Configurations, FLOPs, harness, policy and verdict as this tree's judge has them.

    Loads the tree's problem, which is trusted code.
    """
    try:
        problem = load_problem(problem_reference(record.kernel, root), root=root)
        policy = load(root, kind_of(record))
    except Exception as error:  # a problem is somebody's code, which may fail in any way
        yield f"{root}: cannot be compared with: {type(error).__name__}: {error}"
        return
    harness = harness_hash(root, problem_reference(record.kernel, root))
    if harness != record.harness:
        yield f"harness: measured by {record.harness[:12] or 'none'}, this tree's is {harness[:12]}"
    yield from against_problem(record, problem)
    names = tuple(c.name for c in problem.throughput.get(kind_of(record), {}).get(record.set, ()))
    own = replace(policy, set=record.set, harness=harness, configurations=names)
    verdict = decide(record, own)
    if (said := _said(record)) not in (None, verdict.kind):
        yield f"verdict: the record says {said}, by this tree it is {verdict.kind}: {told(verdict)}"


def told(verdict: Verdict) -> str:
    """The rules that spoke, each with its sentence."""
    return verdict.told()


def against_problem(record: Record, problem: Problem) -> Iterator[str]:
    """Configurations, FLOPs and correctness checks are those of a problem."""
    sets = problem.throughput.get(kind_of(record), {})
    if record.set not in sets:
        yield f"set {record.set!r}: this tree's problem has {', '.join(sets) or 'none'}"
        return
    wanted = {c.name: problem.flops(c) for c in sets[record.set]}
    found = {c.name: c.flops for c in record.configurations}
    for name in sorted(wanted.keys() ^ found.keys()):
        where = "the record" if name in wanted else "this tree's problem"
        yield f"configuration {name} is missing in {where}"
    for name in sorted(wanted.keys() & found.keys()):
        if not math.isclose(wanted[name], found[name], rel_tol=1e-9):
            yield f"{name}: {found[name]:g} FLOPs, this tree's problem has {wanted[name]:g}"
    checked = {c.configuration for c in record.checks if c.replicate is None}
    wanted_checks = [c.name for c in problem.correctness(kind_of(record))]
    if absent := [name for name in wanted_checks if name not in checked]:
        yield f"{len(absent)} of {len(wanted_checks)} correctness checks are missing: {absent[0]}"


def _said(record: Record) -> Any:
    verdict = record.derived.get("verdict")
    return verdict.get("kind") if isinstance(verdict, Mapping) else None


def _differences(place: str, said: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(said, dict) and isinstance(found, dict):
        for key in sorted(said.keys() | found.keys()):
            where = f"{place}.{key}" if place else key
            yield from _differences(where, said.get(key), found.get(key))
    elif isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        for index, pair in enumerate(zip(said, found, strict=True)):
            yield from _differences(f"{place}[{index}]", *pair)
    elif json.dumps(said, sort_keys=True) != json.dumps(found, sort_keys=True):
        yield place, said, found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else text[:159] + "…"
