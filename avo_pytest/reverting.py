# SPDX-License-Identifier: MIT
"""Taking a version back: a new commit on `main` that restores what it replaced, never a rewrite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from avo_pytest import branches, commits, ledger
from avo_pytest.branches import COMMITTER, GitError, Remote, Tips
from avo_pytest.entries import REVERT, Entry, from_line, new_id, to_line
from avo_pytest.identity import MAX_DEPTH, MAX_FILES
from avo_pytest.landing import KERNELS, folder_hash
from avo_pytest.landing_message import plain_idea
from avo_pytest.ledger import BRANCH, NoLedger
from avo_pytest.lineage import Rung, lineages
from avo_pytest.outcomes import KNOWN, MAIN, REVERTED, Outcome
from avo_pytest.report.generated import generated


@dataclass(frozen=True, slots=True)
class _Undoing:
    """One version, and where `main` and the ledger were when it was looked at."""

    remote: Remote
    main: str
    rung: Rung
    reason: str
    now: datetime


def revert(
    remote: Remote,
    *,
    kernel: str,
    target: str,
    version: int,
    reason: str = "",
    now: datetime | None = None,
) -> Outcome:
    """Restore what `version` replaced, if it is what `main` has now. Raises GitError, Damaged."""
    done: list[Outcome] = []

    def build(tips: Tips) -> Mapping[str, str]:
        main, book = tips[MAIN], tips[BRANCH]
        if main is None or book is None:
            raise NoLedger(f"{remote.name} has no branch main, or no ledger")
        before = ledger.read(remote.repository, book, ledger.mentioning([(kernel, target)]))
        rung = _rung(before, kernel, target, version)
        if rung.reverted:
            entry = next(e for e in reversed(before) if _undoes(e, rung))
            done[:] = [Outcome(kind=KNOWN, entry=entry, main=entry.commit, text=_already(rung))]
            return {}
        return _built(_Undoing(remote, main, rung, reason, now or datetime.now(UTC)), before, book)

    def _built(undoing: _Undoing, before: Sequence[Entry], book: str) -> Mapping[str, str]:
        commit, entry = _undone(undoing)
        files = generated([*before, from_line(to_line(entry))], kernel, target)
        appended = ledger.extended(remote.repository, book, [entry], files=files)
        text = f"version {version} of {kernel}/{target} is taken back"
        done[:] = [Outcome(kind=REVERTED, entry=entry, main=commit, text=text)]
        return {MAIN: commit, BRANCH: appended.commit}

    remote.transact((MAIN, BRANCH), build)
    return done[0]


def _rung(entries: Sequence[Entry], kernel: str, target: str, version: int) -> Rung:
    """The version, where it is the newest that was not taken back; or was it taken back already."""
    own = [x for x in lineages(entries) if (x.series.kernel, x.series.target) == (kernel, target)]
    found = [r for x in own for r in x.rungs if r.version == version and r.entry.kind != "seed"]
    if not found:
        raise GitError(f"{kernel}/{target} has no promoted version {version} in the ledger")
    standing = [r.version for x in own for r in x.rungs if not r.reverted]
    if not found[0].reverted and version != max(standing):
        raise GitError(
            f"{kernel}/{target}: version {max(standing)} was built on version {version}: "
            f"take back {max(standing)} first"
        )
    return found[0]


def _undone(undoing: _Undoing) -> tuple[str, Entry]:
    """The new commit, and what the ledger says about it."""
    repository, landed = undoing.remote.repository, undoing.rung.entry
    place = f"{landed.kernel}/{landed.target}"
    if not branches.has(repository, landed.commit):
        raise GitError(f"{place}: the landing commit of version {landed.version} is not here")
    now_there = folder_hash(repository, undoing.main, landed.kernel, landed.target)
    if now_there != landed.identities.get("candidate"):
        raise GitError(f"{place}: main has {now_there[:12]}, not version {landed.version}")
    (before,) = commits.read_commit(repository, landed.commit).parents
    restored = folder_hash(repository, before, landed.kernel, landed.target)
    if restored != landed.identities.get("incumbent"):
        raise GitError(f"{place}: {before[:12]} is not what version {landed.version} replaced")
    commit = _commit(undoing, before, restored)
    reason = {"rule": REVERT, "text": plain_idea(undoing.reason or "no reason was given")}
    entry = Entry(
        id=new_id(undoing.now),
        kind=REVERT,
        created=undoing.now.isoformat(timespec="seconds"),
        kernel=landed.kernel,
        target=landed.target,
        device=landed.device,
        role=landed.role,  # else who sees only judges would not see it
        epoch=landed.epoch,
        version=landed.version,
        commit=commit,
        reasons=(reason,),
        identities={"candidate": restored, "incumbent": now_there},
    )
    return commit, entry


def _commit(undoing: _Undoing, before: str, restored: str) -> str:
    repository, landed = undoing.remote.repository, undoing.rung.entry
    folder = f"{KERNELS}/{landed.kernel}/{landed.target}"
    tree = commits.descend(repository, before, folder)
    assert tree is not None  # it has a hash
    nodes = commits.below(repository, tree, most=2 * MAX_FILES, depth=MAX_DEPTH)
    files = {path: (node.mode, node.sha) for path, node in nodes.items()}
    reason = f"{plain_idea(undoing.reason)}\n\n" if undoing.reason else ""
    place = f"{landed.kernel}/{landed.target}"
    message = (
        f"{place}: take back version {landed.version}\n\n{reason}"
        f"Avo-Kernel: {place}\nAvo-Candidate: {restored}\nAvo-Reverts: {landed.version}\n"
    )
    return commits.write(
        repository,
        commits.replaced(repository, undoing.main, folder, files),
        (undoing.main,),
        author=f"{COMMITTER['NAME']} <{COMMITTER['EMAIL']}>",
        authored=f"{int(undoing.now.timestamp())} +0000",
        message=message,
    )


def _undoes(entry: Entry, rung: Rung) -> bool:
    landed = rung.entry
    mine = (REVERT, landed.kernel, landed.target, landed.version)
    return (entry.kind, entry.kernel, entry.target, entry.version) == mine


def _already(rung: Rung) -> str:
    return f"version {rung.version} was taken back already"
