# SPDX-License-Identifier: MIT
"""What lies generated beside the ledger: the ladder of each target, the badges of each series."""

from __future__ import annotations

from collections.abc import Sequence

from avo_pytest.entries import Entry
from avo_pytest.lineage import lineages
from avo_pytest.report.badge import badges
from avo_pytest.report.ladder import as_markdown


def generated(entries: Sequence[Entry]) -> dict[str, bytes]:
    """Path on the ledger branch → contents."""
    files = {f"badges/{path}": text.encode() for path, text in badges(entries).items()}
    for name in sorted({f"{e.kernel}-{e.target}" for e in entries}):
        mine = [e for e in entries if f"{e.kernel}-{e.target}" == name]
        files[f"ladders/{name}.md"] = as_markdown(lineages(mine), name).encode()
    return files
