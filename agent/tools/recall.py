# SPDX-License-Identifier: MIT
"""What is known (K) and what was learned (memory) as tools, and the rest of a long result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.knowledge import Knowledge
from agent.memory import Memory
from agent.step import Result
from agent.tools.tool import Declared, Pages, ToolError, choice, number, text

HITS = 4
NOTES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """K and the memory of this kernel and target, with who is writing into it."""

    knowledge: Knowledge
    memory: Memory
    run: str
    step: int
    pages: Pages

    def knowledge_(self, given: Mapping[str, Any]) -> Result:
        """Sections that fit a query, or a page."""
        if name := given.get("page"):
            try:
                return Result(text=self.knowledge.page(name))
            except (LookupError, OSError, ValueError) as error:
                raise ToolError(str(error.args[0] if error.args else error)) from None
        if not given.get("query"):
            return Result(text=self.knowledge.index())
        hits = self.knowledge.search(given["query"], int(given.get("count", HITS)))
        parts = [
            f"{hit.page}, {hit.heading}\n{hit.text}"
            + (f"\nsource: {hit.source}" if hit.source else "")
            for hit in hits
        ]
        return Result(text="\n\n".join(parts) or "nothing fits; without a query the index comes")

    def memory_(self, given: Mapping[str, Any]) -> Result:
        """Notes of this and earlier runs; or a new one."""
        note = given.get("note", "").strip()
        if not note:
            return Result(text=self.memory.text(NOTES) or "nothing was noted yet")
        self.memory.add(given.get("kind", "fact"), note, run=self.run, step=self.step)
        return Result(text="noted")

    def more(self, given: Mapping[str, Any]) -> Result:
        """A part of an earlier result."""
        return Result(text=self.pages.page(given["result"], int(given["offset"])))


def tools(recall: Recall) -> list[Declared]:
    """`knowledge`, `memory` and `more`."""
    pages = recall.pages
    return [
        Declared(
            name="knowledge", act=recall.knowledge_, pages=pages,
            description="Search the knowledge base, or read one of its pages; its index without "
            "either.",
            properties={
                "query": text("words, such as swizzle of shared memory", 400),
                "page": text("a page's name as in the index", 120),
                "count": number("so many sections", 1, 10, whole=True),
            },
        ),
        Declared(
            name="memory", act=recall.memory_, pages=pages,
            description="What earlier steps and runs learned about this kernel and target; with a "
            "note, keep one for those after you. Facts want their numbers, failures their reason.",
            properties={
                "note": text("one or two sentences", 1000),
                "kind": choice("what it is; fact without it", "fact", "failed", "idea"),
            },
        ),
        Declared(
            name="more", act=recall.more, pages=pages, required=("result", "offset"), whole=True,
            description="The rest of a result that was too long, from a character on.",
            properties={
                "result": text("its name, such as r3", 20),
                "offset": number("characters to leave out", 0, 1_000_000, whole=True),
            },
        ),
    ]  # fmt: skip
