# SPDX-License-Identifier: MIT
"""Where a target stands by its ledger: versions, which is on `main`, whether it may be promoted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from avo_pytest.claims import HOLDS, REFUTED
from avo_pytest.entries import AUDIT, JUDGE, REVERT, SEED, VERDICT, Entry
from avo_pytest.lineage import Lineage, Rung, Series, lineage


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one kernel and target. `own`: the lineage on one device."""

    landed: tuple[Entry, ...]  # on any device
    own: Lineage
    entries: tuple[Entry, ...]  # of the device, in order

    @staticmethod
    def of(entries: Iterable[Entry], kernel: str, target: str, device: str) -> Standing:
        mine = [e for e in entries if (e.kernel, e.target) == (kernel, target)]
        here = tuple(sorted((e for e in mine if e.device == device), key=lambda e: e.id))
        landed = tuple(e for e in mine if e.version is not None and e.kind in (VERDICT, SEED))
        return Standing(landed, lineage(Series(kernel, target, device), here), here)

    @property
    def next_version(self) -> int:
        """The first number that no device's lineage has used."""
        return max((e.version for e in self.landed if e.version is not None), default=-1) + 1

    def version_of(self, candidate: str) -> int | None:
        """The latest version that is this tree."""
        fitting = [e for e in self.landed if e.identities.get("candidate") == candidate]
        return max((e.version for e in fitting if e.version is not None), default=None)

    @property
    def current(self) -> Rung | None:
        return self.own.current

    @property
    def refuted(self) -> Entry | None:
        """The audit that froze promotions, if nothing has thawed them since."""
        frozen = None
        for entry in self.entries:
            if entry.kind == AUDIT and entry.verdict == REFUTED:
                frozen = entry
            elif entry.kind == REVERT or (entry.kind == AUDIT and entry.verdict == HOLDS):
                frozen = None
        return frozen

    def audited(self, epoch: str) -> bool:
        """Whether an audit that held, a seed, or a version that a judge promoted, is of this epoch.
        What the desk promoted waited for no audit and stands for none."""
        return any(
            e.epoch == epoch
            and (
                (e.kind == AUDIT and e.verdict == HOLDS)
                or (e.kind == SEED and e.version is not None)
                or (e.kind == VERDICT and e.version is not None and e.role == JUDGE)
            )
            for e in self.entries
        )
