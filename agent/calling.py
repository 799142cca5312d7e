# SPDX-License-Identifier: MIT
"""The tools as the model sees them, and one call of one of them: whatever happens is an answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import jsonschema

from agent.budget import Exhausted
from agent.step import Result, Tool

MOST_SHOWN = 300
LOST = (
    "The run was stopped while this call was under way: whether it took effect is not known."
    " Look before you repeat it."
)
CUT = (
    "Your reply reached its length limit inside this call, so nothing was run. Do it in smaller"
    " pieces."
)


def declared(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Sorted and plain, so that the cached prefix is the same in every step of a run."""
    return [
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": json.loads(json.dumps(dict(tool.schema), sort_keys=True)),
        }
        for tool in sorted(tools, key=lambda tool: tool.name)
    ]


class Calls:
    """Runs calls of these tools; `hear` gets each as an event of the trajectory."""

    def __init__(self, tools: Sequence[Tool], hear: Callable[..., None]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._hear = hear

    def has(self, name: str) -> bool:
        """Whether there is such a tool."""
        return name in self._tools

    def run(self, call: Mapping[str, Any], talk: int) -> tuple[dict[str, Any], Result]:
        """The block that answers it, and the result. Raises Exhausted."""
        began = time.monotonic()
        result = self._result(call)
        seconds = round(time.monotonic() - began, 3)
        return self.answer(call, result, talk=talk, seconds=seconds), result

    def answer(
        self, call: Mapping[str, Any], result: Result, *, talk: int, seconds: float = 0.0
    ) -> dict[str, Any]:
        """The block for a result, noted first: after a kill it is found there."""
        self._hear(
            "tool",
            talk=talk,
            id=call["id"],
            name=call["name"],
            input=call["input"],
            text=result.text,
            is_error=result.is_error,
            more=result.more,
            facts=dict(result.facts),
            submission=asdict(result.submission) if result.submission else None,
            seconds=seconds,
        )
        return block(call["id"], result.text, more=result.more, is_error=result.is_error)

    def _result(self, call: Mapping[str, Any]) -> Result:
        tool = self._tools.get(call["name"])
        if tool is None:
            names = ", ".join(sorted(self._tools))
            return Result(text=f"There is no tool {call['name']!r}. Yours: {names}", is_error=True)
        if wrong := _wrong(call["input"], tool.schema):
            return Result(text=f"The input does not fit {tool.name}: {wrong}", is_error=True)
        try:
            return tool.run(call["input"])
        except Exhausted:
            raise
        except Exception as error:  # a fault of ours; its text may name paths of this host
            kind = type(error).__name__
            self._hear("fault", tool=tool.name, error=f"{kind}: {error}"[:MOST_SHOWN])
            return Result(
                text=f"{tool.name} itself failed ({kind}). Your input fits; try another way.",
                is_error=True,
            )


def block(call_id: str, text: str, *, more: str = "", is_error: bool = False) -> dict[str, Any]:
    """A `tool_result`."""
    shown = (text.strip() and text) or "(nothing)"
    content = f"{shown}\n[more: {more}]" if more else shown
    made = {"type": "tool_result", "tool_use_id": call_id, "content": content}
    return {**made, "is_error": True} if is_error else made


def _wrong(given: Any, schema: Mapping[str, Any]) -> str:
    """The first thing that is wrong with an input; empty if it fits."""
    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(dict(schema)).iter_errors(given)
    )
    if error is None:
        return ""
    where = "/".join(map(str, error.absolute_path))
    return f"{where + ': ' if where else ''}{error.message}"[:MOST_SHOWN]
