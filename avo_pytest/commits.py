# SPDX-License-Identifier: MIT
"""Commits and trees as git keeps them, read and written without a checkout.

What is read may be hostile: trees are walked level by level within limits, and a commit is parsed
from its own bytes, so that no configuration, mail map or replacement has a say in it.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avo_pytest.branches import COMMITTER, GitError, git_bytes, git_text

REGULAR = "100644"
MOST_MESSAGE_BYTES = 1 << 16
_PERSON = re.compile(r"(?P<name>[^<>\n]*)<(?P<email>[^<>\n]*)> (?P<date>\d{1,11} [+-]\d{4})")


class TooMuch(GitError):
    """A tree beyond the limits that it was read with."""


class Malformed(GitError):
    """A tree that git would not have made."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit says. `author`: `Name <mail>`; `authored`: as git writes it, `seconds +hhmm`.

    Both are empty where the commit has none in git's form.
    """

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: str
    authored: str
    message: str


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """What a tree has under one name. `size` is that of a blob, else 0."""

    mode: str
    kind: str
    sha: str
    size: int


def read_commit(repository: Any, sha: str) -> Commit:
    """Parse. Raises GitError for what is no commit."""
    size = git_text(repository, "cat-file", "-s", sha)
    if int(size) > MOST_MESSAGE_BYTES:
        raise TooMuch(f"commit {sha} has {size} bytes")
    text = git_bytes(repository, "cat-file", "commit", sha).decode("utf-8", "replace")
    head, _, message = text.partition("\n\n")
    found: dict[str, list[str]] = {}
    for line in head.split("\n"):
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    person = _PERSON.fullmatch(found.get("author", [""])[0])
    author = f"{person['name'].strip()} <{person['email'].strip()}>" if person else ""
    tree, parents = found["tree"][0], tuple(found.get("parent", ()))
    return Commit(sha, tree, parents, author, person["date"] if person else "", message)


def children(repository: Any, tree: str) -> dict[str, Node]:
    """Name → what is there, of one level; nothing below a tree that is empty."""
    listed = git_bytes(repository, "ls-tree", "-l", "-z", tree).decode("utf-8", "surrogateescape")
    found = {}
    for line in listed.split("\0")[:-1]:
        facts, _, name = line.partition("\t")
        mode, kind, sha, size = facts.split()
        found[name] = Node(mode, kind, sha, 0 if size == "-" else int(size))
    return found


def below(repository: Any, tree: str, *, most: int, depth: int) -> dict[str, Node]:
    """Path → everything below a tree but the trees. Raises TooMuch beyond `most` names: a few
    objects that name each other stand for as many as one likes."""
    found: dict[str, Node] = {}
    pending, seen = [("", tree, 0)], 0
    while pending:
        prefix, sha, level = pending.pop()
        for name, node in children(repository, sha).items():
            if "/" in name or not name:
                raise Malformed(f"{prefix}{name} is one name in its tree")
            seen += 1
            if seen > most or level >= depth:
                raise TooMuch(f"more than {most} names, or {depth} folders inside each other")
            if node.kind == "tree":
                pending.append((f"{prefix}{name}/", node.sha, level + 1))
            else:
                found[f"{prefix}{name}"] = node
    return found


def descend(repository: Any, commit: str, folder: str) -> str | None:
    """The tree of a folder of a commit; None where it has none."""
    listed = git_text(repository, "ls-tree", "-d", "-z", commit, "--", folder)
    facts, _, name = listed.rstrip("\0").partition("\t")
    mode, kind, sha = facts.split() if name == folder else ("", "", "")
    return sha if kind == "tree" else None


def contents(repository: Any, blobs: Sequence[str]) -> Iterator[bytes]:
    """The bytes of blobs in order, by one process."""
    out = git_bytes(
        repository, "cat-file", "--batch", given="".join(f"{b}\n" for b in blobs).encode()
    )
    at = 0
    for _ in blobs:
        end = out.index(b"\n", at)
        start = end + 1
        at = start + int(out[at:end].split()[2]) + 1
        yield out[start : at - 1]


def replaced(
    repository: Any, commit: str, folder: str, files: Mapping[str, tuple[str, str]]
) -> str:
    """The tree of a commit with one folder replaced by files: path in it → mode and blob."""
    with tempfile.TemporaryDirectory(prefix="avo-index-") as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        git_text(repository, "read-tree", commit, env=index)
        old = git_bytes(repository, "ls-files", "-z", "--", f":(literal){folder}/", env=index)
        rows = [b"0 %s\t%s\0" % (b"0" * len(commit), path) for path in old.split(b"\0")[:-1]]
        rows += [f"{mode} {blob}\t{folder}/{p}\0".encode() for p, (mode, blob) in files.items()]
        given = b"".join(rows)
        git_bytes(repository, "update-index", "-z", "--index-info", given=given, env=index)
        return git_text(repository, "write-tree", env=index)


def differing(repository: Any, commit: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files whose contents a commit does not have already, told without reading them."""
    if not files:
        return {}
    listed = git_text(repository, "ls-tree", "-r", "-z", commit)
    rows = [row.split("\t", 1) for row in listed.split("\0") if row]
    there = {path: facts.split()[2] for facts, path in rows}
    return {path: c for path, c in files.items() if there.get(path) != _object(c, commit)}


def write(
    repository: Any, tree: str, parents: Sequence[str], *, author: str, authored: str, message: str
) -> str:
    """A commit of ours for somebody's work: the same arguments give the same commit."""
    committer = f"{COMMITTER['NAME']} <{COMMITTER['EMAIL']}>"
    lines = [
        f"tree {tree}",
        *(f"parent {parent}" for parent in parents),
        f"author {author} {authored}",
        f"committer {committer} {authored}",
        "",
        message,
    ]
    text = "\n".join(lines).encode()
    return (
        git_bytes(repository, "hash-object", "-t", "commit", "-w", "--stdin", given=text)
        .decode()
        .strip()
    )


def _object(content: bytes, like: str) -> str:
    """The name that git gives to contents, in a repository with names such as `like`."""
    digest = hashlib.sha1 if len(like) == 40 else hashlib.sha256
    return digest(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
