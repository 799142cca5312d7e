# SPDX-License-Identifier: MIT
"""From somebody's commit to the one commit that may land on `main`: read as data, never run.

A proposal replaces one folder `kernels/<kernel>/<target>` and nothing else. The landing commit is
`main`'s tip with that folder replaced, by a fixed form: the same proposal, tip and trailers give
the same commit wherever it is built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from avo_pytest import commits
from avo_pytest.branches import GitError, git_text
from avo_pytest.commits import REGULAR, Commit, Node
from avo_pytest.gates import NAME
from avo_pytest.identity import MAX_BYTES, MAX_DEPTH, MAX_FILES, File, hash_of
from avo_pytest.landing_message import landing_message, plain_idea
from avo_pytest.printable import one_plain_line

KERNELS = "kernels"
MANIFEST = "kernel.toml"
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")  # of a path, neither hidden nor an option
LFS = b"version https://git-lfs"
LATEST_S = 4_102_444_800  # the year 2100
_SPLIT = "split it: a kernel's change alone goes through the gate, anything else by review"


class Refused(Exception):
    """A proposal or a record that may not land: which rule says so, its sentence, what to do."""

    def __init__(self, rule: str, text: str, advice: str = "") -> None:
        super().__init__(text)
        self.rule, self.text, self.advice = rule, text, advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A commit that replaces one target folder. Hashes are `identity.hash_of` of the folder, as
    the judge has it; `incumbent` is empty where the base has no such folder."""

    commit: str
    kernel: str
    target: str
    candidate: str
    incumbent: str
    idea: str
    author: str  # Name <mail>
    authored: str  # seconds +hhmm
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # path → mode, blob

    @property
    def folder(self) -> str:
        return f"{KERNELS}/{self.kernel}/{self.target}"


def read_proposal(repository: Any, commit: str, base: str) -> Proposal:
    """What a commit proposes, against its last common commit with `base`. Raises Refused for
    everything that may not land, GitError where git fails."""
    said = commits.read_commit(repository, commit)
    kernel, target = _one_folder(repository, commit, _common(repository, commit, base))
    folder = f"{KERNELS}/{kernel}/{target}"
    tree = commits.descend(repository, commit, folder)
    if tree is None:
        raise Refused("manifest", f"{folder} is deleted", "a target is taken away by review")
    nodes = _files(repository, tree, folder)
    return Proposal(
        commit=commit,
        kernel=kernel,
        target=target,
        candidate=_hash(repository, nodes, folder),
        incumbent=folder_hash(repository, base, kernel, target),
        idea=_idea(said, kernel, target),
        author=_author(said),
        authored=_authored(said),
        files={path: (node.mode, node.sha) for path, node in nodes.items()},
    )


def landing_commit(
    repository: Any, tip: str, proposal: Proposal, trailers: Mapping[str, str]
) -> str:
    """The commit on `tip` that lands a proposal. One that has this form already is itself, so that
    whoever proposed it finds his own commit on `main`."""
    tree = commits.replaced(repository, tip, proposal.folder, proposal.files)
    if tree == git_text(repository, "rev-parse", f"{tip}^{{tree}}"):
        raise Refused("empty", f"{proposal.folder} is on main already as it is proposed")
    plain = _write(repository, tip, proposal, tree, {})
    if plain == proposal.commit:
        return plain
    return _write(repository, tip, proposal, tree, trailers)


def folder_hash(repository: Any, commit: str, kernel: str, target: str) -> str:
    """Hash of a target folder of a commit as the judge has it; empty where there is none."""
    tree = commits.descend(repository, commit, f"{KERNELS}/{kernel}/{target}")
    if tree is None:
        return ""
    nodes = commits.below(repository, tree, most=2 * MAX_FILES, depth=MAX_DEPTH)
    return _hash(repository, nodes, "")


def _write(
    repository: Any, tip: str, proposal: Proposal, tree: str, trailers: Mapping[str, str]
) -> str:
    return commits.write(
        repository,
        tree,
        (tip,),
        author=proposal.author,
        authored=proposal.authored,
        message=landing_message(
            f"{proposal.kernel}/{proposal.target}", proposal.idea, proposal.candidate, trailers
        ),
    )


def _common(repository: Any, commit: str, base: str) -> str:
    try:
        return git_text(repository, "merge-base", commit, base)
    except GitError as error:
        text = f"{commit[:12]} has no common commit with main"
        raise Refused("history", text, "start from main") from error


def _one_folder(repository: Any, commit: str, base: str) -> tuple[str, str]:
    """The only kernel and target that differ. Compares three levels of trees, no deeper."""
    path: list[str] = []
    trees = [f"{base}^{{tree}}", f"{commit}^{{tree}}"]
    for rule in ("mixed", "several", "several"):
        before, after = (commits.children(repository, t) if t else {} for t in trees)
        differing = sorted(n for n in before.keys() | after.keys() if _differs(before, after, n))
        if not differing:
            raise Refused("empty", "nothing is changed", "change something in a target folder")
        if not path and (other := [n for n in differing if n != KERNELS]):
            raise Refused("mixed", f"{_shown(other[0])} is changed, outside {KERNELS}/", _SPLIT)
        if len(differing) > 1:
            names = ", ".join(_shown("/".join([*path, n])) for n in differing[:3])
            raise Refused(rule, f"{names} are changed", "one target folder at a time")
        path.append(differing[0])
        found = [side.get(differing[0]) for side in (before, after)]
        if odd := [n for n in found if n is not None and n.kind != "tree"]:
            raise Refused(*_not_a_tree("/".join(path), odd[-1]))
        trees = [n.sha if n else "" for n in found]
    if not all(NAME.fullmatch(part) for part in path[1:]):
        where = _shown("/".join(path))
        raise Refused("name", f"{where} is no name of a kernel and target (a-z, 0-9, _)")
    return path[1], path[2]


def _differs(before: Mapping[str, Node], after: Mapping[str, Node], name: str) -> bool:
    return before.get(name) != after.get(name)


def _not_a_tree(path: str, node: Node) -> tuple[str, str, str]:
    rule, _ = _KINDS.get(node.mode, ("mixed", ""))
    return rule, f"{_shown(path)} is changed, which is in no target folder", _SPLIT


_KINDS = {
    "120000": ("link", "a symbolic link"),
    "160000": ("submodule", "a submodule"),
    "100755": ("mode", "executable"),
}


def _files(repository: Any, tree: str, folder: str) -> dict[str, Node]:
    """What a proposed folder has: regular files with plain names, few and small."""
    try:
        nodes = commits.below(repository, tree, most=2 * MAX_FILES, depth=MAX_DEPTH)
    except commits.TooMuch as error:
        raise Refused("size", f"{folder}: {error}") from error
    except commits.Malformed as error:
        raise Refused("name", f"{folder}: {_shown(str(error))}") from error
    for path, node in nodes.items():
        where = _shown(f"{folder}/{path}")
        if path.endswith(".gitattributes"):
            raise Refused("attributes", f"{where} would change how git reads files", "remove it")
        if node.mode != REGULAR:
            rule, what = _KINDS.get(node.mode, ("mode", f"of mode {node.mode}"))
            raise Refused(rule, f"{where} is {what}", "only regular files of mode 100644 may land")
        if not all(PART.fullmatch(part) for part in path.split("/")):
            raise Refused("name", f"{where} is no plain name", "letters, digits, _ . + - only")
    # where a disk does not tell such names apart, one covers the other: not what was judged
    parts = (p for path in map(PurePosixPath, nodes) for p in (path, *path.parents))
    names = sorted(set(map(str, parts)), key=lambda name: (name.lower(), name))
    for one, other in pairwise(names):
        if one.lower() == other.lower():
            where = _shown(f"{folder}/{one} and {other}")
            raise Refused("case", f"{where} differ only in case", "rename one of them")
    if MANIFEST not in nodes:
        raise Refused("manifest", f"{folder} has no {MANIFEST}", "see docs/kernel-toml.md")
    if len(nodes) > MAX_FILES or sum(n.size for n in nodes.values()) > MAX_BYTES:
        raise Refused("size", f"{folder} has more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB")
    return nodes


def _hash(repository: Any, nodes: Mapping[str, Node], folder: str) -> str:
    """As the judge extracts a commit's folder: everything readable, nothing executable. `folder`
    is set for what was proposed, where a pointer to a file elsewhere is refused."""
    found = dict(
        zip(nodes, commits.contents(repository, [n.sha for n in nodes.values()]), strict=True)
    )
    for path, content in found.items():
        if folder and content.startswith(LFS):
            where = _shown(f"{folder}/{path}")
            raise Refused(
                "lfs", f"{where} is a pointer to a file kept elsewhere", "commit the file"
            )
    return hash_of({path: File(False, content) for path, content in found.items()})


def _idea(said: Commit, kernel: str, target: str) -> str:
    first = said.message.strip().partition("\n")[0]
    return plain_idea(first.removeprefix(f"{kernel}/{target}: "))


def _author(said: Commit) -> str:
    name, _, mail = said.author.rpartition("<")
    name, mail = (one_plain_line(part, 100) for part in (name, mail.rstrip(">")))
    return f"{name or 'unknown'} <{mail.replace(' ', '')}>"


def _authored(said: Commit) -> str:
    seconds, _, zone = said.authored.partition(" ")
    if not seconds or int(seconds) > LATEST_S or int(zone[1:3]) > 14 or int(zone[3:]) > 59:
        raise Refused("date", f"{said.sha[:12]} has no date that git understands", "commit again")
    return said.authored


def _shown(path: str) -> str:
    return one_plain_line(path, 200)
