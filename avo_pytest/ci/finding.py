# SPDX-License-Identifier: MIT
"""`verdict.json`: what `verify` found, the first thing after intake that later jobs believe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from avo_pytest.ci.order import Order
from avo_pytest.gates import WITNESS

FILE, RECORD = "verdict.json", "record.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """verdict.json. `refusal`: why there is no record that may be believed, else None.

    `records`: gate → file name, the judge's first; `told`: gate → its verdict in a sentence.
    """

    nonce: str
    proposal: str
    verdict: str
    gate: str
    refusal: Mapping[str, Any] | None = None
    records: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""  # SHA-256 of the judge's record
    notes: tuple[str, ...] = ()


def witnesses(finding: Mapping[str, Any], found: Order) -> Iterator[str]:
    """File names of the witnesses' records."""
    files = finding.get("records") or {}
    for gate in found.gates:
        if gate["role"] == WITNESS and gate["name"] in files:
            yield files[gate["name"]]
