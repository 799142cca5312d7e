# SPDX-License-Identifier: MIT
"""The lineage as a tool: versions, their code, one configuration's history, and what failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import refs
from agent.place import Place
from agent.step import Result
from agent.tools.tool import Declared, Pages, ToolError, choice, number, text
from agent.workspace import Workspace, WorkspaceError
from avo_pytest import branches, ledger
from avo_pytest.branches import GitError
from avo_pytest.entries import Damaged, Entry, figures
from avo_pytest.lineage import Lineage, Rung, lineages

MOST_ATTEMPTS = 60
MOST_ROWS = 8  # of a version, in a history


@dataclass(frozen=True, slots=True)
class Ancestry:
    """The ledger of a repository, for one kernel and target; and the step that asks."""

    root: Path
    place: Place
    workspace: Workspace
    number: int

    def ask(self, given: Mapping[str, Any]) -> Result:
        """One of ACTIONS."""
        try:
            return Result(text=ACTIONS[given["action"]](self, given))
        except ledger.NoLedger:
            return Result(text="there is no ledger yet: nothing has been judged here")
        except (GitError, Damaged, WorkspaceError) as error:
            raise ToolError(str(error)) from None

    def ladder(self, given: Mapping[str, Any]) -> str:
        """All versions."""
        from avo_pytest.report.ladder import as_table

        found = [as_table(line, width=None, color=False) for line in self._lineages()]
        return "\n".join(found) or "the ledger has nothing about this kernel and target"

    def show(self, given: Mapping[str, Any]) -> str:
        """A version or run, with its code where this clone has it."""
        from avo_pytest.report.entry import show

        found = [entry for entry in self._entries() if _named(entry, given)]
        if not found:
            raise ToolError("give a version's number or a run's id that the ladder or history has")
        return "\n".join(show(entry) for entry in found) + self._patch(found[-1])

    def diff(self, given: Mapping[str, Any]) -> str:
        """The folder now against where the step began, main, a version or a failed tree."""
        since = None if not given.get("of") and "version" not in given else self._commit(given)
        changes = self.workspace.changes(self.number, since=since)
        return changes or "nothing differs"

    def history(self, given: Mapping[str, Any]) -> str:
        """One configuration (or all together) through the versions."""
        wanted = given.get("configuration", "")
        lines = [line for one in self._lineages() for line in _history(one, wanted)]
        return "\n".join(lines) or "no version has figures yet"

    def failed(self, given: Mapping[str, Any]) -> str:
        """What was judged and not promoted, failed ideas, and trees that were kept."""
        lines = []
        for one in self._lineages_or_none():
            landed = {rung.entry.id for rung in one.rungs}
            lost = [a.entry for a in one.attempts if a.entry.id not in landed]
            lines += [_attempt(entry) for entry in lost[-MOST_ATTEMPTS:]]
            lines += [_attempt(entry) for entry in one.notes[-MOST_ATTEMPTS:]]
        with branches.opened(self.root) as repository:
            trees = refs.kept(repository)
        lines += [f"tree {tree.name}: {tree.reason}" for tree in trees[:MOST_ATTEMPTS]]
        return "\n".join(lines) or "nothing has failed yet"

    def restore(self, given: Mapping[str, Any]) -> str:
        """Start from another tree."""
        commit = self._commit(given)
        self.workspace.restore(self.number, commit)
        return f"{self.place.folder} is now that of {given.get('of') or given.get('version')}"

    def _commit(self, given: Mapping[str, Any]) -> str:
        """A version's commit, or a kept tree's, or main's. Raises ToolError."""
        if "version" in given:
            rung = next((r for r in self._rungs() if r.version == given["version"]), None)
            if rung is None or not rung.entry.commit:
                raise ToolError(f"the ledger has no commit of version {given['version']}")
            return rung.entry.commit
        wanted = given.get("of") or ""
        with branches.opened(self.root) as repository:
            known = {tree.name: tree.commit for tree in refs.kept(repository)}
        known["main"] = self.workspace.main()
        known["tip"] = self.workspace.tip()
        if wanted not in known:
            raise ToolError(f"{wanted!r} is no tree: main, tip, or one that `failed` lists")
        return known[wanted]

    def _patch(self, entry: Entry) -> str:
        """What a landed version changed."""
        with branches.opened(self.root) as repository:
            if not entry.commit or not branches.has(repository, entry.commit):
                return ""
            parent = refs.commit_of(repository, f"{entry.commit}^")
            if parent is None:
                return ""
            return "\n" + refs.difference(repository, parent, entry.commit, self.place.folder)

    def _entries(self) -> list[Entry]:
        mine = (self.place.kernel, self.place.target)
        return [entry for entry in ledger.load(self.root) if (entry.kernel, entry.target) == mine]

    def _lineages(self) -> list[Lineage]:
        return lineages(self._entries())

    def _lineages_or_none(self) -> list[Lineage]:
        try:
            return self._lineages()
        except ledger.NoLedger:
            return []

    def _rungs(self) -> Iterator[Rung]:
        for one in self._lineages():
            yield from one.rungs


ACTIONS = {
    "list": Ancestry.ladder,
    "show": Ancestry.show,
    "diff": Ancestry.diff,
    "history": Ancestry.history,
    "failed": Ancestry.failed,
    "restore": Ancestry.restore,
}


def tools(ancestry: Ancestry, pages: Pages) -> list[Declared]:
    """`lineage`."""
    return [
        Declared(
            name="lineage", act=ancestry.ask, pages=pages, required=("action",),
            description="The published versions and everything that was tried. list: the ladder of "
            "versions. show: one version or run with its code. diff: the folder now against the "
            "step's beginning, or a version or tree. history: a configuration's throughput through "
            "the versions. failed: attempts with their reasons, and trees that were kept. restore: "
            "put a version's or tree's folder in place of yours.",
            properties={
                "action": choice("what to do", *sorted(ACTIONS)),
                "version": number("for show, diff and restore", 0, 1_000_000, whole=True),
                "run": text("a run's id, for show", 60),
                "of": text("main, tip, or a tree's name, for diff and restore", 200),
                "configuration": text("a configuration's name or a part of it, for history", 200),
            },
        )
    ]  # fmt: skip


def _named(entry: Entry, given: Mapping[str, Any]) -> bool:
    if "run" in given:
        return entry.id == str(given["run"])
    return "version" in given and entry.version == int(given["version"])


def _history(one: Lineage, wanted: str) -> Iterator[str]:
    """A line a version and row: the geometric mean, or what is called so or contains it."""
    yield f"{one.series}"
    for rung in one.rungs:
        entry = rung.audit or rung.entry
        for name, raw in _chosen(entry, wanted):
            found = figures(raw)
            if found is not None:
                ratios = ", ".join(f"{r[0]:.3f}x {arm}" for arm, r in found.ratios.items())
                yield f"{rung.version:>4}  {name}  {found.tflops[0]:.4g} TFLOPS  {ratios}"


def _chosen(entry: Entry, wanted: str) -> list[tuple[str, Mapping[str, Any] | None]]:
    if not wanted:
        return [("geomean", entry.overall)]
    rows = {**entry.configurations, **entry.groups}
    names = [wanted] if wanted in rows else [name for name in rows if wanted in name]
    return [(name, rows[name]) for name in names[:MOST_ROWS]]


def _attempt(entry: Entry) -> str:
    why = "; ".join(reason.get("text", "") for reason in entry.reasons)
    gain = f" {100 * entry.gain[0]:+.2f} %" if entry.gain else ""
    return f"{entry.id} {entry.verdict or entry.kind}{gain}: {entry.idea or 'no idea given'}: {why}"
