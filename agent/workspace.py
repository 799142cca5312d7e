# SPDX-License-Identifier: MIT
"""The git side of a run: a worktree for each step, its proposal, the working lineage, what failed.

`evolve/<run>/work` is the working lineage, `evolve/<run>/<n>` a step's proposal in normal form,
`refs/avo/attempts/<run>/<n>` a tree that failed. Every operation may be repeated after a crash at
any instant: refs move last, one at a time, and only from where they were seen.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent import refs
from agent.place import Place
from agent.refs import NOWHERE
from agent.step import Submission
from agent.tree import TreeError, read_leniently, replace_tree
from avo_pytest import branches, commits
from avo_pytest.branches import GitError
from avo_pytest.identity import read_tree
from avo_pytest.journal import write_atomically
from avo_pytest.recording import clean
from avo_pytest.source import DEFAULT_INCUMBENTS

FACTS = "workspace.json"


class WorkspaceError(Exception):
    """What cannot be done with the repository, in a sentence."""


class Workspace:
    """A run's branches and worktrees. `home` is the run's own folder; nothing else is written."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root, self.home = root.resolve(), home.resolve()

    @property
    def place(self) -> Place:
        """What was begun. Raises WorkspaceError before `begin`."""
        try:
            return Place(**json.loads((self.home / FACTS).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise WorkspaceError("no run was begun here") from None

    def begin(self, run: str, kernel: str, target: str) -> str:
        """Start the working lineage at main's tip, or find it. The tip's commit."""
        try:
            place = Place(run, kernel, target)
        except ValueError as error:
            raise WorkspaceError(str(error)) from None
        with self._repository() as repository:
            main = self._main(repository)
            if commits.descend(repository, main, place.folder) is None:
                raise WorkspaceError(f"main has no {place.folder}")
            if refs.commit_of(repository, place.work) is None:
                refs.move(repository, place.work, main, NOWHERE)
            facts = {"run": run, "kernel": kernel, "target": target}
            write_atomically(self.home / FACTS, json.dumps(facts))
            return self._tip(repository, place)

    def main(self) -> str:
        """The commit that `main` points to here."""
        with self._repository() as repository:
            return self._main(repository)

    def tip(self) -> str:
        """The working lineage's last commit."""
        with self._repository() as repository:
            return self._tip(repository, self.place)

    def folder(self, number: int) -> Path:
        """The folder of a step's worktree that may change."""
        return self._path(number) / self.place.folder

    def worktree(self, number: int) -> Path:
        """A step's checkout of the working lineage's tip; the same again when asked again."""
        path, note = self._path(number), self._note(number)
        with self._repository() as repository, refs.alone(repository):
            if note.exists() and self.folder(number).is_dir():
                return path
            note.unlink(missing_ok=True)
            commit = self._tip(repository, self.place)
            refs.add_worktree(repository, path, commit)
            write_atomically(note, json.dumps({"commit": commit}))  # last: it is whole
        return path

    def propose(self, number: int, submission: Submission) -> str:
        """A step's tree as a commit in normal form on main's tip, on the step's own branch."""
        place = self.place
        with self._repository() as repository:
            before = refs.commit_of(repository, place.proposal(number))
            if before is not None and not self._note(number).exists():
                return before  # the step is closed: it was proposed before a crash
            authored = commits.read_commit(repository, before).authored if before else ""
            landing = self._landing(repository, number, submission, authored)
            refs.move(repository, place.proposal(number), landing, before or NOWHERE)
            return landing

    def objection(self, number: int) -> str:
        """Why a step's tree cannot be proposed; empty where it can. Moves nothing."""
        try:
            with self._repository() as repository:
                self._landing(repository, number, Submission(idea="a rehearsal"), "")
        except WorkspaceError as error:
            return str(error)
        return ""

    def accept(self, commit: str) -> str:
        """Let the working lineage go on with a proposal. The new tip."""
        from avo_pytest import landing

        place = self.place
        with self._repository() as repository:
            tip = self._tip(repository, place)
            trees = {commits.descend(repository, c, place.folder) for c in (tip, commit)}
            if len(trees) == 1:
                return tip
            with _refusals():
                proposal = landing.read_proposal(repository, commit, self._main(repository))
                moved = landing.landing_commit(repository, tip, proposal, {})
            refs.move(repository, place.work, moved, tip)
            return moved

    def return_to_main(self) -> str:
        """Begin the working lineage anew at main's tip; the old one is kept as an attempt."""
        place = self.place
        with self._repository() as repository:
            tip, main = self._tip(repository, place), self._main(repository)
            if tip != main:
                kept = place.attempt(f"work-{tip[:12]}")
                if refs.commit_of(repository, kept) is None:
                    refs.move(repository, kept, tip, NOWHERE)
                refs.move(repository, place.work, main, tip)
            return main

    def keep_failed(self, number: int, reason: str) -> str:
        """Keep a step's tree with the reason it failed, whatever is in it. The commit."""
        place = self.place
        with self._repository() as repository:
            before = refs.commit_of(repository, place.attempt(number))
            if not self._note(number).exists():
                if before is None:
                    raise WorkspaceError(f"step {number} has no worktree")
                return before
            tree, left_out = read_leniently(self.folder(number))
            message = f"Attempt {number}: {clean(reason)}\n"
            message += "".join(f"\nleft out: {clean(what)}" for what in left_out)
            base = self._base(number)
            commit = refs.write(repository, base, place.folder, tree, message=message)
            if before is not None and refs.alike(repository, before, commit):
                return before
            refs.move(repository, place.attempt(number), commit, before or NOWHERE)
            return commit

    def restore(self, number: int, reference: str) -> str:
        """Put the folder of a kept attempt, proposal or version into a step's worktree."""
        with self._repository() as repository:
            commit = refs.commit_of(repository, reference)
            found = {} if commit is None else refs.files_of(repository, commit, self.place.folder)
            if commit is None or not found:
                raise WorkspaceError("no such commit, or it has no such folder")
            replace_tree(self.folder(number), found)
            return commit

    def changes(self, number: int, *, since: str | None = None) -> str:
        """The diff of a step's folder since the tip it started from, or another commit."""
        with self._repository() as repository:
            base = self._base(number) if since is None else since
            tree, _ = read_leniently(self.folder(number))
            commit = refs.write(repository, base, self.place.folder, tree, message="now")
            return refs.difference(repository, base, commit, self.place.folder)

    def close(self, number: int) -> None:
        """Remove a step's worktree. Safe to call twice."""
        with self._repository() as repository, refs.alone(repository):
            self._note(number).unlink(missing_ok=True)  # first: from now on it is not whole
            refs.remove_worktree(repository, self._path(number))

    def _landing(self, repository: Any, number: int, submission: Submission, authored: str) -> str:
        """The landing commit of a step's tree on main's tip. Raises WorkspaceError."""
        from avo_pytest import landing

        main = self._main(repository)
        try:
            tree = read_tree(self.folder(number))
        except OSError as error:
            said = error.strerror or str(error).rpartition(": ")[2]
            raise WorkspaceError(f"{self.place.folder}: {said}") from None
        raw = refs.write(
            repository, main, self.place.folder, tree,
            message=f"{clean(submission.idea)}\n", author=submission.author, authored=authored,
        )  # fmt: skip
        with _refusals():
            proposal = landing.read_proposal(repository, raw, main)
            return landing.landing_commit(repository, main, proposal, {})

    def _base(self, number: int) -> str:
        """The commit that a step started from."""
        try:
            return str(json.loads(self._note(number).read_text(encoding="utf-8"))["commit"])
        except FileNotFoundError:
            raise WorkspaceError(f"step {number} has no worktree") from None

    def _path(self, number: int) -> Path:
        return self.home / "worktrees" / str(number)

    def _note(self, number: int) -> Path:
        return self.home / "worktrees" / f"{number}.json"

    def _main(self, repository: Any) -> str:
        for reference in DEFAULT_INCUMBENTS:
            if (commit := refs.commit_of(repository, reference)) is not None:
                return commit
        raise WorkspaceError("the repository has no main branch")

    def _tip(self, repository: Any, place: Place) -> str:
        commit = refs.commit_of(repository, place.work)
        if commit is None:
            raise WorkspaceError(f"{place.work} is gone")
        return commit

    @contextlib.contextmanager
    def _repository(self) -> Iterator[Any]:
        try:
            with branches.opened(self.root) as repository:
                yield repository
        except (GitError, TreeError) as error:
            raise WorkspaceError(str(error)) from error


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    from avo_pytest.landing import Refused

    try:
        yield
    except Refused as refused:
        raise WorkspaceError(f"{refused.rule}: {refused.text}") from refused
