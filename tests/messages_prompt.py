# SPDX-License-Identifier: MIT
"""What the scripted Messages API makes of a request: is it valid, and how much of it was cached.

The rules are the public ones: four breakpoints at most, long ones first; a prefix is read from
the cache within 20 blocks of a breakpoint; a thinking block is good only behind what it was made
behind; every tool call is answered in the next message. A token is four bytes of JSON.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

TTL_S = {"5m": 300.0, "1h": 3600.0}
LOOKBACK_BLOCKS = 20
LEAST_TOKENS = 512  # a shorter prefix is not cached
BYTES_A_TOKEN = 4


class Rejected(Exception):
    """A request that the API would answer with 400 invalid_request_error."""


class Block(NamedTuple):
    digest: str  # of everything up to and with this block
    tokens: int  # likewise
    ttl: str | None  # of the breakpoint here


class Cached(NamedTuple):
    total: int
    read: int
    written_1h: int
    written_5m: int


def blocks(request: dict[str, Any]) -> list[Block]:
    """Tools, system, messages: the order in which a prefix grows."""
    settings = [request["model"], request.get("thinking"), request.get("output_config")]
    running = hashlib.sha256(_json(settings))
    size, found = 0, []
    for part in _parts(request):
        ttl = (
            (part.get("cache_control") or {}).get("ttl", "5m") if "cache_control" in part else None
        )
        text = _json(_bare(part))
        running.update(text)
        size += len(text)
        found.append(Block(running.hexdigest(), size // BYTES_A_TOKEN, ttl))
    return found


def cached(found: list[Block], store: dict[str, float], now: float) -> Cached:
    """What is read and what is written; the store (digest → end) is brought up to date."""
    total = found[-1].tokens
    marks = [n for n, block in enumerate(found) if block.ttl and block.tokens >= LEAST_TOKENS]
    read = 0
    for mark in reversed(marks):
        near = range(mark, max(-1, mark - LOOKBACK_BLOCKS), -1)
        hits = [n for n in near if store.get(found[n].digest, 0.0) > now]
        if hits:
            read = found[hits[0]].tokens
            break
    for mark in marks:
        end = now + TTL_S[found[mark].ttl or "5m"]
        store[found[mark].digest] = max(store.get(found[mark].digest, 0.0), end)
    long = max((found[n].tokens for n in marks if found[n].ttl == "1h"), default=0)
    last = found[marks[-1]].tokens if marks else 0
    written_1h = max(0, long - read)
    return Cached(total, read, written_1h, max(0, last - max(read, long)))


def check(request: dict[str, Any], *, paused: bool = False) -> None:
    """Raises Rejected for what the real API refuses. `paused`: its last turn may be sent back."""
    messages = request.get("messages") or []
    if not messages or messages[0]["role"] != "user":
        raise Rejected("messages: the first message must use the user role")
    if messages[-1]["role"] != "user" and not paused:
        raise Rejected("This model does not support assistant message prefill.")
    if (request.get("thinking") or {}).get("type") in ("enabled", "disabled"):
        raise Rejected('"thinking.type" must be adaptive for this model.')
    if (request.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise Rejected('tool_choice: type "tool" and "any" are not supported for this model.')
    _check_breakpoints(request)
    for number, message in enumerate(messages):
        _check_message(number, message)
    _check_tools_answered(messages)
    _check_thinking(request)


def signature(request: dict[str, Any], before: list[dict[str, Any]], nonce: int) -> str:
    """Of a thinking block that comes after the request and these blocks of the reply."""
    everything = [*_parts(request), *before]
    thoughts = [part["signature"] for part in everything if part.get("type") == "thinking"]
    plain = [_bare(part) for part in everything if part.get("type") != "thinking"]
    return f"{_hash(plain)}.{_hash(thoughts[-1:])}.{nonce}"


def _check_breakpoints(request: dict[str, Any]) -> None:
    ttls = [block.ttl for block in blocks(request) if block.ttl]
    if len(ttls) > 4:
        raise Rejected(
            f"A maximum of 4 blocks with cache_control may be provided. Found {len(ttls)}."
        )
    if ttls != sorted(ttls, key=lambda ttl: ttl != "1h"):
        raise Rejected("a ttl='1h' cache_control block must not come after a ttl='5m' one")


def _check_message(number: int, message: dict[str, Any]) -> None:
    content = message["content"]
    if not content:
        raise Rejected(f"messages.{number}: all messages must have non-empty content")
    if isinstance(content, str):
        return
    if message["role"] == "assistant" and content[-1]["type"] == "thinking":
        raise Rejected(f"messages.{number}: the final block in a message cannot be `thinking`")
    for block in content:
        if block["type"] == "text" and not block["text"].strip():
            raise Rejected(
                f"messages.{number}: text content blocks must contain non-whitespace text"
            )
        if block["type"] == "tool_use" and not isinstance(block["input"], dict):
            raise Rejected(f"messages.{number}: tool_use.input: Input should be a valid dictionary")


def _check_tools_answered(messages: list[dict[str, Any]]) -> None:
    waiting: set[str] = set()
    for number, message in enumerate(messages):
        parts = message["content"] if isinstance(message["content"], list) else []
        answered = {b["tool_use_id"] for b in parts if b["type"] == "tool_result"}
        if message["role"] == "user" and (waiting or answered) and answered != waiting:
            raise Rejected(f"messages.{number}: tool_use ids and tool_result blocks do not match")
        if message["role"] == "assistant":
            waiting = {b["id"] for b in parts if b["type"] == "tool_use"}
        else:
            waiting = set()


def _check_thinking(request: dict[str, Any]) -> None:
    plain: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for part in _parts(request):
        if part.get("type") != "thinking":
            plain.append(_bare(part))
            continue
        prefix, link, _ = part["signature"].split(".")
        if prefix != _hash(plain) or (thoughts and link != _hash(thoughts[-1:])):
            raise Rejected(
                f"messages: Invalid `signature` in `thinking` block number {len(thoughts)}."
                " The block is bound to a different conversation."
            )
        thoughts.append(part["signature"])


def _parts(request: dict[str, Any]) -> list[dict[str, Any]]:
    system = request.get("system") or []
    parts = [*(request.get("tools") or [])]
    parts += [{"type": "text", "text": system}] if isinstance(system, str) else system
    for message in request["messages"]:
        content = message["content"]
        parts += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return parts


def _bare(block: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in block.items() if k != "cache_control"}


def _hash(value: object) -> str:
    return hashlib.sha256(_json(value)).hexdigest()[:16]


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
