# SPDX-License-Identifier: MIT
"""What a scripted Messages API answers: replies and faults as values, and their stream events.

See messages_api.py, which hands all of it on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from avo_pytest.loading import _module

prompt = _module(Path(__file__).with_name("messages_prompt.py"))

Request = dict[str, Any]


class Answer(NamedTuple):
    """A reply, or how it fails. `after`: stream events before the fault."""

    content: tuple[dict[str, Any], ...] = ()
    stop: str = "end_turn"
    status: int = 200
    error: str = ""
    headers: Mapping[str, str] = {}
    fault: str = ""  # overloaded, dropped, stalled, trickling
    after: int = 2
    seconds: float = 0.0
    model: str = ""  # as returned, where not as asked


def think(text: str = "Let me see.") -> dict[str, Any]:
    """A thinking block; the server signs it."""
    return {"type": "thinking", "thinking": text}


def call(name: str, given: Mapping[str, Any] | None = None, raw: str = "") -> dict[str, Any]:
    """A tool call; `raw` instead of an input is sent as it is, JSON or not."""
    return {"type": "tool_use", "name": name, "input": dict(given or {}), "raw": raw}


def answer(*parts: str | dict[str, Any], stop: str = "", **about: Any) -> Answer:
    """A whole reply of texts, `think` and `call`."""
    content = tuple({"type": "text", "text": p} if isinstance(p, str) else p for p in parts)
    calls = any(part["type"] == "tool_use" for part in content)
    return Answer(content, stop or ("tool_use" if calls else "end_turn"), **about)


def failure(status: int, error: str = "api_error", **headers: str) -> Answer:
    """An HTTP error before any stream; `retry_after_ms="10"` becomes that header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, error=error, headers=named)


def overloaded(after: int = 2) -> Answer:
    """An error event in the middle of a stream that began well."""
    return answer("I was about to", fault="overloaded", after=after)


def dropped(after: int = 3) -> Answer:
    """The connection ends in the middle."""
    return answer("I was about to say much more", fault="dropped", after=after)


def stalled(seconds: float = 30.0) -> Answer:
    """Silence in the middle, until the client goes or the time is over."""
    return answer("I was", fault="stalled", seconds=seconds)


def trickling(seconds: float = 30.0) -> Answer:
    """Alive by its pings, but it never gets anywhere."""
    return answer("I was", fault="trickling", seconds=seconds)


def refusal(category: str = "cyber") -> Answer:
    """The model declines."""
    return answer("I cannot", stop="refusal", error=category)


def results(request: Request) -> list[dict[str, Any]]:
    """The tool results at the end of a request."""
    content = request["messages"][-1]["content"]
    return [b for b in content if isinstance(b, dict) and b["type"] == "tool_result"]


def last_text(request: Request) -> str:
    """The last message as text, tool results included."""
    return json.dumps(request["messages"][-1]["content"])


def events(
    request: Request, reply: Answer, usage: dict[str, Any], number: str
) -> Iterator[dict[str, Any]]:
    model = reply.model or request["model"]
    start = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": model}
    start |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    yield {"type": "message_start", "message": start}
    yield {"type": "ping"}
    done: list[dict[str, Any]] = []
    for place, part in enumerate(reply.content):
        block, empty, deltas = _block(request, part, done, number, place)
        yield {"type": "content_block_start", "index": place, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": place, "delta": delta}
        yield {"type": "content_block_stop", "index": place}
        done.append(block)
    details = {"type": "refusal", "category": reply.error} if reply.stop == "refusal" else None
    delta = {"stop_reason": reply.stop, "stop_sequence": None, "stop_details": details}
    size = len(json.dumps(reply.content)) // prompt.BYTES_A_TOKEN
    thought = sum(len(p.get("thinking", "")) for p in reply.content) // prompt.BYTES_A_TOKEN
    counted = {"output_tokens": size, "output_tokens_details": {"thinking_tokens": thought}}
    yield {"type": "message_delta", "delta": delta, "usage": counted}
    yield {"type": "message_stop"}


def _block(
    request: Request, part: dict[str, Any], done: list[dict[str, Any]], number: str, place: int
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """The block as it comes out, as it begins, and its deltas."""
    if part["type"] == "text":
        halves = part["text"][:7], part["text"][7:]
        texts = [{"type": "text_delta", "text": half} for half in halves if half]
        return part, {"type": "text", "text": ""}, texts
    if part["type"] == "thinking":
        signed = prompt.signature(request, done, int(number[4:]) * 100 + place)
        deltas = [{"type": "thinking_delta", "thinking": part["thinking"]}]
        deltas += [{"type": "signature_delta", "signature": signed}]
        empty = {"type": "thinking", "thinking": "", "signature": ""}
        return {**part, "signature": signed}, empty, deltas
    block = {"type": "tool_use", "id": f"toolu_{number}_{place}", "name": part["name"]}
    text = part["raw"] or json.dumps(part["input"])
    pieces = [text[n : n + 40] for n in range(0, len(text), 40)]
    empty = {**block, "input": {}}
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return {**block, "input": part["input"]}, empty, deltas
