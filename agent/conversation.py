# SPDX-License-Identifier: MIT
"""A conversation as it is sent: tools, system, brief, history; it only grows, so the cache holds.

Nothing before a reply is ever changed: the prefix cache would be lost, and a thinking block is good
only behind what it was made behind. The one exception, `shed`, lets go of much at once and of all
thinking with it. Breakpoints: the ends of system and brief (an hour), the last two user messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.lines import Line
from agent.model import PREAMBLE_TOKENS, Size
from agent.streaming import Reply
from agent.trajectory import Trajectory

Block = dict[str, Any]
HOUR: Block = {"type": "ephemeral", "ttl": "1h"}
SHORT: Block = {"type": "ephemeral", "ttl": "5m"}
LEAST_SHED = 0.25  # of all bytes: less is not worth a cache write
SHED_FROM = 400  # characters of a result
KEPT_MESSAGES = 12  # the last ones stay whole
USUAL_TOKENS_A_BYTE = 0.3  # until the first reply tells


class Conversation:
    """One of a step's, numbered from 1. Whatever is added is in the trajectory first."""

    def __init__(
        self,
        log: Trajectory,
        *,
        number: int,
        system: str,
        tools: Sequence[Block],
        brief: Sequence[str],
        begin: bool = True,
    ) -> None:
        """`brief`: texts of the first message; the first of them is the same in every one."""
        self.number, self._log = number, log
        clean = log.redactor.value
        self.system, self.tools, self.brief = clean(system), clean(list(tools)), clean(list(brief))
        self._messages: list[Block] = [{"role": "user", "content": _texts(self.brief)}]
        self._size = len(_json([self.tools, self.system, self._messages]))  # in bytes
        self._known: tuple[int, int] | None = None  # tokens, bytes: at the last reply
        if begin:
            log.add("begin", talk=number, system=self.system, tools=self.tools, brief=self.brief)

    @classmethod
    def restored(cls, log: Trajectory, lines: Iterable[Line]) -> Conversation | None:
        """The last one of a trajectory, as it stood."""
        talk: Conversation | None = None
        for line in lines:
            if line["event"] == "begin":
                parts = {key: line[key] for key in ("system", "tools", "brief")}
                talk = cls(log, number=int(line["talk"]), begin=False, **parts)
            elif talk is not None and line["event"] == "message":
                talk._join({"role": line["role"], "content": line["content"]})
            elif talk is not None and line["event"] == "shed":
                talk._let_go(int(line["before"]))
        return talk

    def prompt(self) -> dict[str, Any]:
        """`system`, `tools` and `messages` with their breakpoints."""
        system = _texts([self.system])
        messages = [{**m, "content": list(m["content"])} for m in self._messages]
        _mark(system, 0, HOUR)
        _mark(messages[0]["content"], 0, HOUR)
        users = [m["content"] for m in messages if m["role"] == "user"]
        places = [(c, len(c) - 1) for c in users if len(c) > 1 or c is not users[0]]
        for content, place in places[-2:]:
            _mark(content, place, SHORT)
        tools = {"tools": self.tools} if self.tools else {}
        return {"system": system, **tools, "messages": messages}

    def hear(self, reply: Reply) -> None:
        """Its reply joins, exactly as it came."""
        self._add("assistant", list(reply.content))
        self._known = (reply.usage.prompt + reply.usage.output, self._size)

    def say(self, blocks: Sequence[Block]) -> None:
        """Results of tools, or texts."""
        self._add("user", self._log.redactor.value(list(blocks)))

    def note(self, text: str) -> None:
        """A text of ours."""
        self.say(_texts([text]))

    def unanswered(self) -> tuple[Block, ...]:
        """Calls of the last reply that have no result yet: after a kill."""
        last = self._messages[-1]
        calls = last["content"] if last["role"] == "assistant" else ()
        return tuple(block for block in calls if block["type"] == "tool_use")

    @property
    def grown(self) -> bool:
        """Whether there is anything in it but its beginning."""
        return len(self._messages) > 4

    @property
    def ended(self) -> bool:
        """Whether the model spoke last."""
        return bool(self._messages[-1]["role"] == "assistant")

    def said(self) -> str:
        """The last text of the model; empty where there is none."""
        for message in reversed(self._messages):
            texts = [b["text"] for b in message["content"] if b["type"] == "text"]
            if message["role"] == "assistant" and texts:
                return "\n".join(texts)
        return ""

    def tokens(self) -> int:
        """How long the next prompt will be, as well as can be told."""
        tokens, then = self._known or (USUAL_TOKENS_A_BYTE, 1)
        return int(self._size * tokens / then)

    def size(self) -> Size:
        """An upper bound of the same, for the reservation."""
        stable = len(_json([self.tools, self.system, self.brief[0]])) + PREAMBLE_TOKENS
        tokens, then = self._known or (PREAMBLE_TOKENS, 0)
        total = tokens + self._size - then
        return Size(long_lived=min(stable, total), rest=max(0, total - stable))

    def shed(self) -> bool:
        """Let old results of tools go, where that frees much; then all thinking goes as well."""
        before = len(self._messages) - KEPT_MESSAGES
        freed = sum(
            len(_json(block)) - SHED_FROM
            for message in self._messages[: max(0, before)]
            for block in message["content"]
            if _long(block)
        )
        if freed < LEAST_SHED * self._size:
            return False
        self._log.add("shed", talk=self.number, before=before, bytes=freed)
        self._let_go(before)
        return True

    def forget_thinking(self) -> None:
        """All thinking so far goes, which keeps the rest good where a block is out of place."""
        self._log.add("shed", talk=self.number, before=0, bytes=0)
        self._let_go(0)

    def rendered(self, most_characters: int) -> str:
        """The end of the conversation as plain text, for a summary by another model."""
        parts = [f"{m['role']}: {_plain(b)}" for m in self._messages for b in m["content"]]
        return "\n".join(part for part in parts if part.strip())[-most_characters:]

    def _add(self, role: str, content: list[Block]) -> None:
        self._log.add("message", talk=self.number, role=role, content=content)
        self._join({"role": role, "content": content})

    def _join(self, message: Block) -> None:
        self._messages.append(message)
        self._size += len(_json(message))

    def _let_go(self, before: int) -> None:
        kept = []
        for place, message in enumerate(self._messages):
            content = [b for b in message["content"] if b["type"] not in THINKING]
            if place < before:
                content = [_stub(b) if _long(b) else b for b in content]
            kept.append({**message, "content": content or _texts(["(thought)"])})
        self._messages, self._known = kept, None
        self._size = len(_json([self.tools, self.system, kept]))


THINKING = ("thinking", "redacted_thinking")


def _texts(texts: Iterable[str]) -> list[Block]:
    return [{"type": "text", "text": text} for text in texts]


def _mark(content: list[Block], place: int, kind: Block) -> None:
    content[place] = {**content[place], "cache_control": kind}


def _long(block: Mapping[str, Any]) -> bool:
    return block["type"] == "tool_result" and len(_json(block)) > 2 * SHED_FROM


def _stub(block: Block) -> Block:
    text = _plain(block)
    kept = f"{text[:SHED_FROM]}\n… ({len(text)} characters, let go; call again if you need them)"
    return {**block, "content": kept}


def _plain(block: Mapping[str, Any]) -> str:
    if block["type"] == "tool_use":
        return f"calls {block['name']} {json.dumps(block['input'], ensure_ascii=False)}"
    content = block.get("content", block.get("text", ""))
    return content if isinstance(content, str) else "\n".join(_plain(b) for b in content)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
