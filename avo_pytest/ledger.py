# SPDX-License-Identifier: MIT
"""The ledger: the orphan branch `avo-results`, JSON lines that are only ever appended to.

`ledger/2026-11/22.jsonl` holds the entries whose id begins with 20261122. An id decides its file,
so a duplicate is found by reading one file, and an append costs the same however long the history.
Beside it are `ladders/` and `badges/`, which are generated. Raw samples, where they are kept, are
one compressed record on a ref of its own, `refs/avo/raw/<id>`, which clones do not bring.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avo_pytest import branches, commits
from avo_pytest.branches import HERE, GitError, Remote, Tips
from avo_pytest.entries import ID, Damaged, Entry, from_line, intact, to_line
from avo_pytest.packing import pack, unpack

BRANCH = "refs/heads/avo-results"
FOLDER = "ledger"
RAW = "refs/avo/raw/"
RECORD = "record.json.gz"


class NoLedger(GitError):
    """There is no ledger here yet."""


class Duplicate(GitError):
    """An id that is taken by another entry."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did. `known`: ids that were there already, word for word."""

    commit: str
    new: tuple[str, ...]
    known: tuple[str, ...]


def append(
    remote: Remote, entries: Sequence[Entry], *, files: Mapping[str, bytes] | None = None
) -> Appended:
    """Add entries, and replace generated files, in one commit. Safe among concurrent writers.

    Raises NoLedger, Duplicate, Damaged (of the file to be appended to), GitError.
    """
    done: list[Appended] = []

    def build(tips: Tips) -> Mapping[str, str]:
        done[:] = [extended(remote.repository, tips[BRANCH], entries, files=files)]
        return {} if done[0].commit == tips[BRANCH] else {BRANCH: done[0].commit}

    remote.transact((BRANCH,), build)
    return done[0]


def extended(
    repository: Any,
    tip: str | None,
    entries: Sequence[Entry],
    *,
    files: Mapping[str, bytes] | None = None,
) -> Appended:
    """A commit on the ledger's tip with entries added; the tip itself where nothing is new.

    For a caller that moves other refs in the same push (`Remote.transact`).
    """
    if tip is None:
        raise NoLedger("there is no ledger yet; make one: avo init")
    changes = commits.differing(repository, tip, files or {})
    lines, new, known = _new_lines(repository, tip, entries)
    if not lines and not changes:
        return Appended(tip, (), known)
    message = _message([entry for entry in entries if entry.id in new], changes)
    commit = branches.write_commit(repository, tip, {**changes, **lines}, message)
    return Appended(commit, new, known)


def place(identity: str) -> str:
    """The file of an id. Raises ValueError for what is no id."""
    found = ID.fullmatch(identity)
    if found is None:
        raise ValueError(f"{identity!r} is no run id (YYYYMMDD-HHMMSS-xxxxxx)")
    month, day = found.groups()
    return f"{FOLDER}/{month[:4]}-{month[4:]}/{day}.jsonl"


def create(
    remote: Remote,
    files: Mapping[str, bytes],
    entries: Iterable[Entry],
    *,
    instead: str | None = None,
) -> str | None:
    """Begin the ledger, with the commit `instead` if given (a ledger that another repository has).

    None where there is one already, which stays as it is.
    """
    contents = dict(files)
    for entry in sorted(entries, key=lambda e: e.id):
        path = place(entry.id)
        contents[path] = contents.get(path, b"") + f"{to_line(entry)}\n".encode()

    def build(tips: Tips) -> Mapping[str, str]:
        if tips[BRANCH] is not None:
            return {}
        begun = "Begin the ledger"
        made = instead or branches.write_commit(remote.repository, None, contents, begun)
        return {BRANCH: made}

    return remote.transact((BRANCH,), build).get(BRANCH)


def read(repository: Any, commit: str, wanted: Callable[[str], bool] | None = None) -> list[Entry]:
    """Entries in order of their ids, all or those whose line is wanted; of the others only the
    digest is looked at. Raises Damaged at the first altered line."""
    entries = []
    for path, content in branches.read_folder(repository, commit, FOLDER).items():
        for number, line in enumerate(_text_lines(content, path), 1):
            if wanted is not None and not wanted(line):
                intact(line, f"{path}:{number}")
                continue
            entries.append(from_line(line, f"{path}:{number}"))
            if place(entries[-1].id) != path:
                raise Damaged(f"{path}:{number}: entry {entries[-1].id!r} is in the wrong file")
    entries.sort(key=lambda entry: entry.id)
    for before, after in zip(entries, entries[1:], strict=False):
        if before.id == after.id:
            raise Damaged(f"{place(after.id)}: entry {after.id!r} is there twice")
    return entries


def mentioning(texts: Iterable[Sequence[str]]) -> Callable[[str], bool]:
    """For `read`: lines in which all texts of a group occur as a string. As JSON writes them, so
    that nothing in quotes passes for another; what else mentions them is read too."""
    groups = [tuple(json.dumps(text) for text in group) for group in texts]
    return lambda line: any(all(text in line for text in group) for group in groups)


def load(root: Path, remote: str | None = None) -> list[Entry]:
    """All entries as known here, or of a remote, which is asked. Raises NoLedger, Damaged."""
    with branches.opened(root) as repository:
        tip = find(repository, remote)
        if tip is None:
            where = f"on {remote}" if remote else "here"
            raise NoLedger(f"there is no ledger {where} yet; make one: avo init")
        return read(repository, tip)


def find(repository: Any, remote: str | None = None) -> str | None:
    """The ledger's tip: of a remote, else as last fetched from `origin`, else of this clone."""
    if remote is not None:
        return Remote(repository, remote).tips((BRANCH,))[BRANCH]
    for ref in (branches.tracking("origin", BRANCH), BRANCH):
        try:
            return str(repository.commit(ref).hexsha)
        except Exception:  # BadName, ValueError by kind of absence
            continue
    return None


def usual_remote(repository: Any) -> str:
    """Where entries go when nobody says: to `origin` if its ledger is known, else here."""
    try:
        repository.commit(branches.tracking("origin", BRANCH))
    except Exception:  # BadName, ValueError by kind of absence
        return HERE
    return "origin"


def raw_commit(repository: Any, identity: str, record: str) -> tuple[str, str, dict[str, Any]]:
    """Ref and commit that keep a record, to be pushed; and what its entry says about it."""
    packed = pack(record.encode())
    commit = branches.write_commit(repository, None, {RECORD: packed}, f"Record {identity}")
    return f"{RAW}{identity}", commit, {**raw_facts(record), "stored": "ref"}


def raw_facts(record: str) -> dict[str, Any]:
    """Digest and size of a record's canonical JSON."""
    text = record.encode()
    return {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}


def read_raw(remote: Remote, entry: Entry) -> str:
    """The record of an entry, fetched and compared with the digest. Raises Damaged, GitError."""
    ref = f"{RAW}{entry.id}"
    commit = remote.tips((ref,))[ref]
    packed = branches.read_file(remote.repository, commit, RECORD)
    if packed is None:
        raise GitError(f"the raw samples of {entry.id} are not on {remote.name}")
    try:
        text = unpack(packed).decode()
    except ValueError as error:
        raise Damaged(f"{ref}: {error}") from error
    if raw_facts(text)["sha256"] != entry.raw.get("sha256"):
        raise Damaged(f"{ref}: the record does not match the digest in the ledger")
    return text


def load_raw(root: Path, entry: Entry, remote: str | None = None) -> str:
    """The same from a folder; without a remote, of the one where entries go."""
    with branches.opened(root) as repository:
        return read_raw(Remote(repository, remote or usual_remote(repository)), entry)


def _new_lines(
    repository: Any, tip: str, entries: Sequence[Entry]
) -> tuple[dict[str, bytes], tuple[str, ...], tuple[str, ...]]:
    """Changed files, ids that are new, ids that were there."""
    contents: dict[str, bytes] = {}
    changes: dict[str, bytes] = {}
    new, known = [], []
    for entry in entries:
        path, line = place(entry.id), to_line(entry)
        if path not in contents:
            contents[path] = branches.read_file(repository, tip, path) or b""
        there = next((o for o in _lines(contents[path], entry.id) if o.id == entry.id), None)
        if there is None:
            contents[path] += f"{line}\n".encode()
            changes[path] = contents[path]
            new.append(entry.id)
        elif to_line(there) == line:
            known.append(entry.id)
        else:
            raise Duplicate(f"entry {entry.id!r} is in the ledger already and says something else")
    return changes, tuple(new), tuple(known)


def _lines(content: bytes, identity: str) -> Iterable[Entry]:
    """Entries of a file that mention an id; the others need no parsing."""
    for line in _text_lines(content, place(identity)):
        if identity in line:
            yield from_line(line, place(identity))


def _text_lines(content: bytes, path: str) -> list[str]:
    """Strict, so that no altered byte passes: ASCII, and each line ended by one newline."""
    if content and not content.endswith(b"\n"):
        raise Damaged(f"{path}: the last line is cut")
    try:
        return content.decode("ascii").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise Damaged(f"{path}: not plain text ({error.reason})") from error


def _message(entries: Sequence[Entry], files: Mapping[str, bytes]) -> str:
    if len(entries) == 1:
        entry = entries[0]
        return f"{entry.kernel}/{entry.target}: {entry.verdict or entry.kind} {entry.id}"
    if entries:
        return f"{len(entries)} entries, {entries[0].id} to {entries[-1].id}"
    return f"{len(files)} generated files"
