# SPDX-License-Identifier: MIT
"""What became of a record that was handed to the recorder."""

from __future__ import annotations

from dataclasses import dataclass

from avo_pytest.entries import Entry

MAIN = "refs/heads/main"
PROMOTED, RECORDED, REFUSED, KNOWN = "promoted", "recorded", "refused", "known"
REVERTED = "reverted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a record. `main`: where it was moved to; `rule`: that refused it."""

    kind: str
    entry: Entry | None
    main: str | None = None
    rule: str = ""
    text: str = ""
