# SPDX-License-Identifier: MIT
"""What lies generated beside the ledger: the ladder of each target, the badges of each series."""

from __future__ import annotations

from collections.abc import Iterable

from avo_pytest.entries import Entry
from avo_pytest.lineage import lineages
from avo_pytest.report.badge import badges
from avo_pytest.report.ladder import as_markdown


def generated(entries: Iterable[Entry], kernel: str, target: str) -> dict[str, bytes]:
    """Path on the ledger branch → contents, of one target: no entry changes another's."""
    mine = [e for e in entries if (e.kernel, e.target) == (kernel, target)]
    name = f"{kernel}-{target}"
    files = {f"badges/{path}": text.encode() for path, text in badges(mine).items()}
    return {**files, f"ladders/{name}.md": as_markdown(lineages(mine), name).encode()}
