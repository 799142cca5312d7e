# SPDX-License-Identifier: MIT
"""A tool as a value: a name, a schema that is part of the cached prompt, and what it does.

Input is checked against the schema, output is made printable, rid of this machine's paths and cut;
whatever goes wrong is a result for the caller to read.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from agent.step import Result

SHOWN = 3600  # characters of a result; the rest by `more`
KEPT = 512_000  # characters of a result
PAGES = 64  # results that are kept
_SCRATCH = re.compile(re.escape(tempfile.gettempdir()) + r"/avo-[\w.-]+(?:/source|/out)?/?")


class ToolError(Exception):
    """What the caller can mend, in a sentence without a path of this machine."""


@dataclass(slots=True)
class Pages:
    """What was left out of results, by name, and the paths that are not shown.

    `roots`: folder of this machine → what it is called in a result.
    """

    roots: Mapping[Path, str] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)
    _made: int = 0

    def clean(self, text: str) -> str:
        """The text as it may be shown."""
        for root, name in sorted(self.roots.items(), key=lambda item: -len(str(item[0]))):
            text = text.replace(f"{root}/", name and f"{name}/").replace(str(root), name or ".")
        return _SCRATCH.sub("", _printable(text))

    def cut(self, result: Result) -> Result:
        """The beginning, and how to see the rest."""
        text = self.clean(result.text)
        if len(text) <= SHOWN:
            return replace(result, text=text)
        self._made += 1
        name = f"r{self._made}"
        self._texts[name] = text[:KEPT]
        while len(self._texts) > PAGES:
            del self._texts[next(iter(self._texts))]
        shown = _whole_lines(text[:SHOWN])
        more = f'more {{"result": "{name}", "offset": {len(shown)}}}'
        told = f"{shown}\n({len(shown)} of {len(text)} characters; the rest: {more})"
        return replace(result, text=told, more=more)

    def page(self, name: str, offset: int) -> str:
        """A part of what was left out. Raises ToolError."""
        if name not in self._texts:
            there = ", ".join(self._texts) or "none"
            raise ToolError(f"no result {name!r} is kept; there are: {there}")
        text = self._texts[name]
        shown = _whole_lines(text[offset : offset + SHOWN])
        end = offset + len(shown)
        left = f"\n(up to {end} of {len(text)} characters)" if end < len(text) else ""
        return f"{shown}{left}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """An `agent.step.Tool` made of a function. `act` may raise ToolError."""

    name: str
    description: str
    properties: Mapping[str, Any]
    required: tuple[str, ...] = ()
    act: Callable[[Mapping[str, Any]], Result]
    pages: Pages
    whole: bool = False  # results are not cut

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON Schema of the input, always in the same order."""
        return {
            "additionalProperties": False,
            "properties": {name: self.properties[name] for name in sorted(self.properties)},
            "required": sorted(self.required),
            "type": "object",
        }

    def run(self, given: Mapping[str, Any]) -> Result:
        """Check, act, cut. Never raises but for a spent budget or an interruption."""
        from agent.budget import Exhausted

        try:
            if wrong := _wrong(self, given):
                raise ToolError(wrong)
            result = self.act(given)
        except ToolError as error:
            result = Result(text=str(error), is_error=True)
        except Exhausted:
            raise
        except OSError as error:
            result = Result(text=f"{self.name}: {error.strerror or 'failed'}", is_error=True)
        except Exception as error:  # a defect of ours must not end the step, nor show its paths
            said = f"{type(error).__name__}: {error}"
            result = Result(text=f"{self.name} failed: {said}", is_error=True)
        return (
            replace(result, text=self.pages.clean(result.text))
            if self.whole
            else self.pages.cut(result)
        )


def text(description: str, most: int = 2000, **more: Any) -> dict[str, Any]:
    """The schema of a text."""
    return {"description": description, "maxLength": most, "type": "string", **more}


def choice(description: str, *allowed: str) -> dict[str, Any]:
    """The schema of one of some words."""
    return {"description": description, "enum": list(allowed), "type": "string"}


def number(description: str, low: float, high: float, *, whole: bool = False) -> dict[str, Any]:
    """The schema of a number."""
    kind = "integer" if whole else "number"
    return {"description": description, "maximum": high, "minimum": low, "type": kind}


def _wrong(tool: Declared, given: Mapping[str, Any]) -> str:
    """What is wrong with the input; empty where nothing is."""
    if not isinstance(given, Mapping):
        return f"{tool.name}: the input is no object"
    found = next(iter(_validator()(tool.schema).iter_errors(dict(given))), None)
    if found is None:
        return ""
    where = ".".join(str(part) for part in found.absolute_path)
    return f"{tool.name}: {f'{where}: ' if where else ''}{found.message[:300]}"


@cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator


def _printable(text: str) -> str:
    """Tabs and line ends stay, empty lines too: it may be source code."""
    lines = re.split(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", text)
    return "\n".join("".join(c if c.isprintable() or c == "\t" else "?" for c in s) for s in lines)


def _whole_lines(text: str) -> str:
    """Without the last line where it is cut, unless it is the only one."""
    kept, newline, _ = text.rpartition("\n")
    return kept + newline if newline and len(kept) > len(text) // 2 else text
