# SPDX-License-Identifier: MIT
"""What `main` says at one commit: its judge, problem, policy and gates. For the recorder alone:
a problem is code of `main`, which is trusted, and is run.
"""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from avo_pytest import commits, gates, policy
from avo_pytest.branches import GitError
from avo_pytest.commits import Node
from avo_pytest.gates import Gate, GateError
from avo_pytest.harness import PACKAGE, harness_hash
from avo_pytest.landing import KERNELS, folder_hash
from avo_pytest.loading import load_problem, problem_reference
from avo_pytest.policy import Policy, PolicyError
from avo_pytest.problem import Problem
from avo_pytest.score import Record

PYPROJECT = "pyproject.toml"
MOST_FILES, MOST_DEPTH = 20_000, 20  # of trusted folders, which nobody bombs


class Untold(GitError):
    """What `main` says cannot be told, which is no fault of whoever asks."""


@dataclass(frozen=True)
class Tip:
    """One commit of `main`, its trusted files below `root`."""

    repository: Any
    commit: str
    root: Path
    kernel: str

    @functools.cached_property
    def gates(self) -> tuple[Gate, ...]:
        try:
            return gates.load(self.root)
        except (GateError, OSError) as error:
            raise Untold(f"main: {error}") from error

    @functools.cached_property
    def harness(self) -> str:
        """Of the judge that `main` has; of the one that runs, where `main` is another project."""
        package = self.root / PACKAGE.name
        if not (package / "worker.py").is_file():
            return self.running
        return harness_hash(self.root, self._reference, package=package)

    @functools.cached_property
    def running(self) -> str:
        """Of the judge that runs, on the problem that `main` has."""
        return harness_hash(self.root, self._reference)

    @property
    def has_problem(self) -> bool:
        return (self.root / self._reference.rpartition(":")[0]).is_file()

    @functools.cached_property
    def problem(self) -> Problem:
        try:
            return load_problem(self._reference, root=self.root)
        except Exception as error:  # somebody's code, which may fail in any way
            raise Untold(f"main: {self._reference}: {type(error).__name__}: {error}") from error

    @functools.cached_property
    def _reference(self) -> str:
        return problem_reference(self.kernel, self.root)

    def policy(self, record: Record) -> Policy:
        """The rules for the record's kind of device and its set of configurations."""
        kind = policy.kind_of(record.target)
        try:
            found = policy.load(self.root, kind)
        except PolicyError as error:
            raise Untold(f"main: {error}") from error
        whole = self.problem.throughput.get(kind, {}).get(record.set, ())
        names = tuple(c.name for c in whole)
        return replace(found, set=record.set, harness=self.harness, configurations=names)

    def moved(self, commit: str) -> Tip:
        """Another commit with the same trusted files, and what was read of them."""
        there = copy.copy(self)
        object.__setattr__(there, "commit", commit)
        return there

    def candidate(self, target: str) -> str:
        """Hash of what `main` has for a target of the kernel; empty: nothing."""
        return folder_hash(self.repository, self.commit, self.kernel, target)


@contextmanager
def lookout(repository: Any, kernel: str) -> Iterator[Callable[[str], Tip]]:
    """Commit → tip. Its trusted files are laid out, nothing of `kernels/` among them, and what was
    read of them is kept for the next commit that has the same."""
    with tempfile.TemporaryDirectory(prefix="avo-main-") as scratch:
        known: dict[tuple[tuple[str, Node], ...], Tip] = {}

        def at(commit: str) -> Tip:
            top = commits.children(repository, f"{commit}^{{tree}}")
            trusted = tuple(sorted((k, v) for k, v in top.items() if k != KERNELS))
            if trusted not in known:
                root = Path(scratch) / str(len(known))
                root.mkdir()
                _lay_out_all(repository, dict(trusted), kernel, root)
                known[trusted] = Tip(repository, commit, root, kernel)
            return known[trusted].moved(commit)

        yield at


def _lay_out_all(repository: Any, top: Mapping[str, Node], kernel: str, root: Path) -> None:
    """Policy and gates, the kernel's problem with what lies around it, the judge if it is there."""
    if not gates.NAME.fullmatch(kernel):
        raise Untold(f"{kernel!r} is no name of a kernel")
    _lay_out(repository, top.get(PYPROJECT), root / PYPROJECT)
    try:
        file = PurePosixPath(problem_reference(kernel, root).rpartition(":")[0])
    except ValueError as error:
        raise Untold(f"main: {PYPROJECT}: {error}") from error
    for name in {*file.parts[:1], PACKAGE.name}:
        _lay_out(repository, top.get(name), root / name)


def _lay_out(repository: Any, node: Node | None, place: Path) -> None:
    """A file or folder as it is: no filters, no attributes, no links."""
    if node is None:
        return
    nodes = {"": node}
    if node.kind == "tree":
        nodes = commits.below(repository, node.sha, most=MOST_FILES, depth=MOST_DEPTH)
    plain = {path: n for path, n in nodes.items() if n.kind == "blob" and n.mode != "120000"}
    found = commits.contents(repository, [n.sha for n in plain.values()])
    for path, content in zip(plain, found, strict=True):
        file = place / path if path else place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
