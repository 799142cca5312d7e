# SPDX-License-Identifier: MIT
"""The actions of `avo lineage` that write: note, export, import, publish."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avo_pytest.entries import Entry


def note(arguments: argparse.Namespace) -> int:
    """Append failed ideas; those that the ledger has already are left out."""
    from avo_pytest import ledger, shipping

    if arguments.file is not None:
        notes = shipping.notes_in(arguments.file)
    elif len(arguments.what) == 2 and arguments.kernel and arguments.target:
        now, device = datetime.now(UTC), arguments.device or ""
        idea, outcome = arguments.what
        notes = [
            shipping.note(arguments.kernel, arguments.target, idea, outcome, now=now, device=device)
        ]
    else:
        raise ValueError("note wants IDEA OUTCOME --kernel K --target T, or --file NOTES.md")
    fresh = shipping.unknown_notes(notes, ledger.load(arguments.root, _remote(arguments)))
    return _append(arguments, fresh, len(notes) - len(fresh))


def export(arguments: argparse.Namespace) -> int:
    """Write what ships with the repository: compressed entries and the ladder of each target."""
    from avo_pytest.journal import write_atomically
    from avo_pytest.ledger import load
    from avo_pytest.shipping import FOLDER, SUFFIX, pack

    entries = load(arguments.root, arguments.remote)
    folder = arguments.out or arguments.root / FOLDER
    by_name = _by_name(arguments, entries)
    if not by_name:
        print("nothing to export: " + ("no entry fits" if entries else "the ledger is empty"))
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    for name, mine in by_name.items():
        packed = folder / f"{name}{SUFFIX}"
        packed.write_bytes(pack(mine))
        write_atomically(folder / f"{name}.md", _ladder(mine, name))
        print(f"wrote {packed} ({len(mine)} entries) and {folder / f'{name}.md'}")
    return 0


def import_(arguments: argparse.Namespace) -> int:
    """Append the entries of exports."""
    from avo_pytest.shipping import unpack

    entries = [e for path in arguments.what for e in unpack(path.read_bytes(), str(path))]
    return _append(arguments, entries, 0)


def publish(arguments: argparse.Namespace) -> int:
    """Regenerate ladders and badges on the ledger branch."""
    from avo_pytest import branches, ledger
    from avo_pytest.report.badge import badges

    with branches.opened(arguments.root) as repository:
        remote = branches.Remote(repository, _remote(arguments) or ledger.usual_remote(repository))
        tip = ledger.find(repository, remote.name)
        entries = ledger.read(repository, tip) if tip else []
        files = {
            f"ladders/{name}.md": _ladder(mine, name).encode()
            for name, mine in _by_name(arguments, entries).items()
        }
        files |= {f"badges/{path}": text.encode() for path, text in badges(entries).items()}
        before = tip
        after = ledger.append(remote, (), files=files).commit
    print(f"{'nothing changed' if before == after else f'published {len(files)} files'}")
    return 0


def _append(arguments: argparse.Namespace, entries: Sequence[Entry], left_out: int) -> int:
    from avo_pytest import branches, ledger

    with branches.opened(arguments.root) as repository:
        name = arguments.remote or ledger.usual_remote(repository)
        done = ledger.append(branches.Remote(repository, name), entries)
    known = left_out + len(done.known)
    where = "this repository" if name == branches.HERE else name
    print(f"{len(done.new)} added to the ledger of {where}, {known} known already")
    return 0


def _remote(arguments: argparse.Namespace) -> str | None:
    """Ask the remote before writing to it."""
    from avo_pytest import branches, ledger

    if arguments.remote:
        return str(arguments.remote)
    with branches.opened(arguments.root) as repository:
        return ledger.usual_remote(repository)


def _by_name(arguments: argparse.Namespace, entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    from avo_pytest.commands.lineage import chosen

    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if chosen(arguments, entry):
            found.setdefault(f"{entry.kernel}-{entry.target}", []).append(entry)
    return found


def _ladder(entries: Sequence[Entry], name: str) -> str:
    from avo_pytest.lineage import lineages
    from avo_pytest.report.ladder import as_markdown

    return as_markdown(lineages(entries), name)
