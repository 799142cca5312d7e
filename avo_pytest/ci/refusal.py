# SPDX-License-Identifier: MIT
"""Why a proposal is not judged, or not believed: a rule, a sentence, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FILE = "refusal.json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """As `verdict.Reason`. `recorded`: whether the ledger keeps it."""

    rule: str
    text: str
    advice: str = ""
    recorded: bool = True

    def plain(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


class Refused(Exception):
    """Ends a job with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(f"{refusal.rule}: {refusal.text}")


def refuse(rule: str, text: str, advice: str = "", *, recorded: bool = True) -> Refused:
    """To be raised."""
    return Refused(Refusal(rule, text, advice, recorded))
