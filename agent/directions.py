# SPDX-License-Identifier: MIT
"""Directions for a search that is stuck: asked of a model and checked, or our own without one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema

from agent.detector import Finding, Kind
from agent.prompts import prompt
from avo_pytest.printable import printable
from avo_pytest.strict_json import loads

MOST = 6  # taken from one answer
SAME = 0.6  # two titles or briefs with so many words in common are one direction
REGIONS = ("neighbours", "untouched", "pairs", "whole")
SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["title", "brief"],
        "properties": {
            "title": {"type": "string", "minLength": 3, "maxLength": 160},
            "brief": {"type": "string", "minLength": 20, "maxLength": 4000},
            "why": {"type": "string", "maxLength": 2000},
        },
    },
}
FORMAT = """\
Answer with a JSON array and nothing else: 3 to 5 objects with the keys
  "title": the direction in one line,
  "brief": what to change and in which order, how to tell early that it does not work,
  "why": the figure or observation above that speaks for it.
They must differ from each other in mechanism, not in degree, and from what was tried."""
BOLDER = """\
Directions at this level were tried and did not help. Propose structural ones now: another
division of the work, another algorithm for a part, another resource as the bottleneck, dropping
the idea that the present design is built on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One thing to try for a whole step. `region`: where the sweep shall search, one of REGIONS."""

    title: str
    brief: str
    why: str = ""
    region: str = ""


def directions(
    finding: Finding,
    digest: str,
    model: Callable[[str, str], str],
    *,
    tried: Sequence[Direction] = (),
    bolder: bool = False,
) -> list[Direction]:
    """What a model proposes, distinct and not tried before; none if it twice answers no JSON."""
    before = "\n".join(f"- {direction.title}" for direction in tried) or "- nothing yet"
    found = f"Finding: {finding.kind}: {finding.text}"
    parts = (found, digest, f"Tried directions:\n{before}", BOLDER if bolder else "", FORMAT)
    question = "\n\n".join(part for part in parts if part)
    system = prompt("directions")
    answer = model(system, question)
    try:
        return distinct(parsed(answer), tried)[:MOST]
    except ValueError as error:
        again = f"{question}\n\nYour last answer could not be used: {error}"
    answer = model(system, again)
    try:
        return distinct(parsed(answer), tried)[:MOST]
    except ValueError:
        return []


def parsed(answer: str) -> list[Direction]:
    """The directions in a model's answer, fenced or with prose around them. Raises ValueError."""
    raw = _json(answer)
    try:
        jsonschema.validate(raw, SCHEMA)
    except jsonschema.ValidationError as error:
        place = "/".join(str(part) for part in error.absolute_path)
        raise ValueError(f"at {place or 'the top'}: {error.message[:200]}") from None
    return [
        Direction(
            title=printable(entry["title"], " "),
            brief=printable(entry["brief"]),
            why=printable(entry.get("why", ""), " "),
        )
        for entry in raw
    ]


def distinct(found: Iterable[Direction], known: Sequence[Direction] = ()) -> list[Direction]:
    """Those that repeat neither what is known nor each other."""
    kept: list[Direction] = []
    for direction in found:
        if not any(_same(direction, other) for other in (*known, *kept)):
            kept.append(direction)
    return kept


def built_in(kind: Kind, *, bolder: bool) -> list[Direction]:
    """Directions that need no model: general enough for any kernel, and regions for the sweep."""
    return list(_BOLDER if bolder else (_REPAIR if kind in _BROKEN else _OTHER))


def _same(one: Direction, other: Direction) -> bool:
    return _common(one.title, other.title) >= SAME or _common(one.brief, other.brief) >= SAME


def _common(one: str, other: str) -> float:
    a, b = (set(re.findall(r"\w+", text.casefold())) for text in (one, other))
    return len(a & b) / len(a | b) if a | b else 0.0


def _json(answer: str) -> Any:
    fenced = re.findall(r"```(?:json)?\s*\n(.*?)```", answer, re.S)
    bare = answer[answer.find("[") : answer.rfind("]") + 1]
    for text in (answer, *fenced, bare):
        try:
            return loads(text)
        except (json.JSONDecodeError, ValueError):
            continue
    raise ValueError("it holds no JSON array")


_BROKEN = (Kind.REPEAT, Kind.INCORRECT)
_REPAIR = (
    Direction(
        title="Smallest step that is right",
        brief="Go back to the tip. Make the smallest part of the last idea that builds and is "
        "right, score it, and add one part at a time. Read the first failing configuration only.",
        region="neighbours",
    ),
    Direction(
        title="Drop the failing idea",
        brief="Leave what failed alone. Profile the tip, name its bottleneck with a figure, and "
        "change something that no failed attempt touched.",
        region="untouched",
    ),
    Direction(
        title="Learn from the failed trees",
        brief="Read the reasons of all failed attempts side by side, say which one assumption they "
        "share, and make one change that does not rest on it.",
        region="pairs",
    ),
)
_OTHER = (
    Direction(
        title="Measure before editing",
        brief="Profile the tip per configuration. Name the resource that limits the weakest one, "
        "with a figure, and change only what relieves that resource.",
        region="neighbours",
    ),
    Direction(
        title="A part of the kernel nobody has touched",
        brief="List what the attempts changed. Work on a part that none of them did: prologue, "
        "epilogue, scheduling over the device, masks, conversions, loads.",
        region="untouched",
    ),
    Direction(
        title="Combine what nearly paid",
        brief="Take two changes that measured between nothing and a small gain alone and relieve "
        "different resources; make them together and score once.",
        region="pairs",
    ),
)
_BOLDER = (
    Direction(
        title="Another division of the work",
        brief="Change how the problem is cut over threads, cores or blocks, and how many stages "
        "overlap. Expect several attempts before it is as fast as the tip.",
        region="whole",
    ),
    Direction(
        title="Another algorithm for the costliest part",
        brief="Find a formulation of the costliest part with fewer operations, fewer passes or "
        "less traffic, show on paper that its numerics hold, then write it.",
        region="whole",
    ),
    Direction(
        title="An older version of the lineage, taken further",
        brief="Look for a version whose design was left before it was tuned. Bring the later gains "
        "to it one by one.",
        region="whole",
    ),
)
