# SPDX-License-Identifier: MIT
"""A step's trajectory as it happened, for people; and in mini-swe-agent's format, for its tools.

Nothing is asked or run again: it reads what was kept, also of a step that is still running.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.lines import Line
from agent.trajectory import FILE, events
from avo_pytest.printable import printable

SHORT = 12  # lines of a text, unless all is asked for


def steps(home: Path) -> list[Path]:
    """The folders of a run's steps that have a trajectory, in order."""
    return sorted((path.parent for path in home.rglob(FILE)), key=lambda path: path.parts)


def told(directory: Path, *, full: bool = False) -> Iterator[str]:
    """A step, line by line. Long texts are cut unless `full`."""
    lines = None if full else SHORT
    for event in events(directory):
        teller = _TELLERS.get(str(event.get("event")), _other)
        for title, text in teller(event):
            yield from _block(f"{_clock(event)} {title}", text, lines)


def _manifest(event: Line) -> Iterator[tuple[str, str]]:
    facts = (f"{k}: {_given(v)}" for k, v in event.items() if k not in ("event", "at"))
    yield "how it was asked", "\n".join(facts)


def _begin(event: Line) -> Iterator[tuple[str, str]]:
    yield f"conversation {event.get('talk')}: system", _text(event.get("system"))
    yield "brief", _text(event.get("brief"))


def _message(event: Line) -> Iterator[tuple[str, str]]:
    """Results of tools are told by their own events."""
    for block in _blocks(event.get("content")):
        if block.get("type") == "text":
            yield str(event.get("role")), _text(block.get("text"))
        elif block.get("type") == "thinking":
            yield "thinking", _text(block.get("thinking"))


def _tool(event: Line) -> Iterator[tuple[str, str]]:
    failed = " FAILED" if event.get("is_error") else ""
    took = f", {float(event.get('seconds') or 0):.1f} s"
    yield f"{event.get('name')}{failed}{took}", _given(event.get("input"))
    yield "  answered", _text(event.get("text"))


def _response(event: Line) -> Iterator[tuple[str, str]]:
    usage = event.get("usage") or {}
    tokens = ", ".join(f"{k} {v}" for k, v in sorted(usage.items()) if isinstance(v, int) and v)
    usd = f"{float(event.get('usd') or 0):.4f} USD"
    yield f"reply {event.get('number')}: {event.get('stop_reason')}, {usd}, {tokens}", ""


def _request(_: Line) -> Iterator[tuple[str, str]]:
    """Its reply says all of it."""
    return iter(())


def _ending(event: Line) -> Iterator[tuple[str, str]]:
    usage = event.get("usage") or {}
    used = ", ".join(f"{key} {value}" for key, value in usage.items())
    title = f"ended: {event.get('ending')}" + (f", {used}" if used else "")
    submission = event.get("submission") or {}
    told = (event.get("reason"), submission.get("idea"), event.get("note"))
    yield title, "\n".join(str(part) for part in told if part)


def _other(event: Line) -> Iterator[tuple[str, str]]:
    rest = {key: value for key, value in event.items() if key not in ("event", "at")}
    text = _text(rest.pop("text", ""))
    facts = ", ".join(f"{key} {_given(value)}" for key, value in rest.items())
    yield f"{event.get('event')}: {facts}", text


Teller = Callable[[Line], Iterator[tuple[str, str]]]
_TELLERS: Mapping[str, Teller] = {
    "manifest": _manifest,
    "begin": _begin,
    "message": _message,
    "tool": _tool,
    "request": _request,
    "response": _response,
    "ending": _ending,
}


def _block(title: str, text: str, most: int | None) -> Iterator[str]:
    yield printable(title, " ")
    lines = printable(text).splitlines()
    yield from (f"    {line}" for line in lines[:most])
    if most is not None and len(lines) > most:
        yield f"    ... {len(lines) - most} lines more (--full)"


def _clock(event: Line) -> str:
    return str(event.get("at", ""))[11:19]


def _given(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _blocks(content: Any) -> list[Mapping[str, Any]]:
    parts = [content] if isinstance(content, str) else content or ()
    texts = ({"type": "text", "text": part} if isinstance(part, str) else part for part in parts)
    return [block for block in texts if isinstance(block, Mapping)]


def _text(content: Any) -> str:
    """Text of a message's content, of blocks or plain."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Sequence):
        return "\n".join(str(block.get("text", "")) for block in _blocks(content))
    return _given(content)
