# SPDX-License-Identifier: MIT
"""A step's trajectory in mini-swe-agent's format (1.1), which its inspector and others read.

    {"info": {"model_stats", "config", "exit_status", "submission"}, "messages": [...],
     "trajectory_format": "mini-swe-agent-1.1"}

Messages stay as the Messages API has them; a reply's cost and actions are its `extra`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.lines import Line
from agent.trajectory import events
from avo_pytest import __version__

FORMAT = "mini-swe-agent-1.1"


def mini_swe_agent(directory: Path) -> dict[str, Any]:
    """The step as one JSON object. Of a step that is still running, what there is by now."""
    found = list(events(directory))
    replies = [event for event in found if event.get("event") == "response"]
    messages = list(_messages(found))
    ending = _last(found, "ending")
    exit_status, submission = str(ending.get("ending", "")), _submission(found)
    extra = {"exit_status": exit_status, "submission": submission}
    messages.append({"role": "exit", "content": str(ending.get("reason", "")), "extra": extra})
    return {
        "info": {
            "model_stats": {
                "instance_cost": sum(_usd(event) for event in found),
                "api_calls": len(replies),
            },
            "config": _config(found, replies),
            "exported_by": f"avo-pytest {__version__}",
            **extra,
        },
        "messages": messages,
        "trajectory_format": FORMAT,
    }


def _messages(found: Sequence[Line]) -> Iterator[dict[str, Any]]:
    """A reply's line follows the response that it came in; a handoff begins with its own brief."""
    reply: Line = {}
    for event in found:
        if event.get("event") == "begin":
            yield _plain("system", event.get("system"), event)
            yield _plain("user", event.get("brief"), event)
        elif event.get("event") == "response" and event.get("talk"):  # 0 is the summary model's
            reply = event
        elif event.get("event") == "message" and event.get("role") == "assistant":
            yield _reply(event, reply)
            reply = {}
        elif event.get("event") == "message":
            yield _plain("user", event.get("content"), event)


def _plain(role: str, content: Any, event: Line) -> dict[str, Any]:
    blocks = [_flat(block) for block in content] if isinstance(content, list) else content or ""
    extra = {"timestamp": event.get("at", ""), "talk": event.get("talk", 1)}
    return {"role": role, "content": blocks, "extra": extra}


def _flat(block: Any) -> Any:
    """Blocks as the format's readers take them: a tool's result is one text, no list."""
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if not isinstance(block, Mapping) or block.get("type") != "tool_result":
        return block
    content = block.get("content")
    if isinstance(content, list):
        content = "\n".join(str(b.get("text", "")) for b in content if isinstance(b, Mapping))
    return {**block, "content": content or ""}


def _reply(event: Line, reply: Line) -> dict[str, Any]:
    message = _plain("assistant", event.get("content"), event)
    blocks = [block for block in message["content"] if isinstance(block, Mapping)]
    thought = [str(b.get("thinking", "")) for b in blocks if b.get("type") == "thinking"]
    if any(thought):
        message["reasoning_content"] = "\n".join(thought)
    message["extra"] |= {
        "actions": [
            {"tool_call_id": block.get("id"), "tool": block.get("name"), **_command(block)}
            for block in blocks
            if block.get("type") == "tool_use"
        ],
        "cost": _usd(reply),
        "usage": reply.get("usage") or {},
        "stop_reason": reply.get("stop_reason", ""),
    }
    return message


def _usd(event: Line) -> float:
    """Replies cost, and failures that were billed."""
    return float(event.get("usd") or 0) if event.get("event") in ("response", "failure") else 0.0


def _command(block: Mapping[str, Any]) -> dict[str, Any]:
    given = block.get("input")
    command = given.get("command") if isinstance(given, Mapping) else None
    return {"command": command} if command else {"input": given}


def _config(found: Sequence[Line], replies: Sequence[Line]) -> dict[str, Any]:
    manifest = {k: v for k, v in _last(found, "manifest").items() if k not in ("event", "at")}
    model = replies[-1].get("model") if replies else manifest.get("model")
    return {"agent": manifest, "agent_type": "agent.variation", "model": {"model_name": model}}


def _submission(found: Sequence[Line]) -> str:
    """The idea that was submitted, if one was."""
    submission = _last(found, "ending").get("submission")
    return str(submission.get("idea", "")) if isinstance(submission, Mapping) else ""


def _last(found: Sequence[Line], kind: str) -> Line:
    return next((event for event in reversed(found) if event.get("event") == kind), {})
