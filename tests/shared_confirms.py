# SPDX-License-Identifier: MIT
"""A confirm of one machine, as several would have measured it: the same samples, in shares.

Load it by path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from avo_pytest import shares
from avo_pytest.promotion import derive
from avo_pytest.score import Record, Stage
from avo_pytest.verifying import recorded_policy

NONCE = "asked"


def split(whole: Record, count: int) -> list[Record]:
    """Each share has the whole's screen, and the processes of its own places."""
    return [_share(whole, number, count) for number in range(1, count + 1)]


def named(records: Sequence[Record]) -> list[tuple[str, Record]]:
    return [(f"{'abcdefgh'[n]}.json", record) for n, record in enumerate(records)]


def judged(record: Record, **changes: Any) -> Record:
    """With what a judge would have derived of it."""
    made = replace(record, **changes)
    return replace(made, derived=derive(made, recorded_policy(made)))


def _share(whole: Record, number: int, count: int) -> Record:
    screens = {r.number for r in whole.replicates if r.stage is Stage.SCREEN}
    own = shares.places(number, count, whole.plan["replicates"])
    kept = screens | {len(screens) + place for place in own}
    return judged(
        whole,
        run=f"20260102-00000{number}-abcd",
        created=f"2026-01-02T00:00:0{number}+00:00",
        seed=100 + number,
        nonce=NONCE,
        plan={**whole.plan, "share": f"{number}/{count}"},
        replicates=tuple(r for r in whole.replicates if r.number in kept),
        samples=tuple(s for s in whole.samples if s.replicate in kept),
        blocks=tuple(b for b in whole.blocks if b["replicate"] in kept),
        checks=tuple(c for c in whole.checks if c.replicate is None or c.replicate in kept),
    )
