# SPDX-License-Identifier: MIT
"""What made a candidate slow when it was compiled: serialised wgmma, spills.

The machine that judges may have another compiler than the one that `avo build --strict` asked: near
the limit of registers ptxas 13.0 serialises what 13.5 takes, and the other way round, and the
candidate is then half as fast for no reason that its source shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from avo_pytest.inspection import complaints
from avo_pytest.printable import one_plain_line
from avo_pytest.score import Record
from avo_pytest.specification import Target

UNCOUNTED = "nvdisasm is missing"  # tells of the machine, not of the candidate
LENGTH = 200  # of a line; a candidate's source has a hand in what its compiler says


def remarks(record: Record) -> list[str]:
    """A line for each code object and complaint, which is named by the macros it alone has."""
    parts = record.build.get("candidate")
    target = next((known for known in get_args(Target) if known == record.target), None)
    if target is None or not isinstance(parts, Mapping):
        return []
    found = (
        complaint
        for key, part in parts.items()
        for complaint in complaints(target, {_name(key, part, parts): part})
    )
    return [one_plain_line(line, LENGTH) for line in found if UNCOUNTED not in line]


def _name(key: str, part: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> str:
    others = [other["macros"] for other in parts.values() if other is not part]
    own = (
        f"{name}={value}"
        for name, value in part["macros"].items()
        if any(other.get(name) != value for other in others)
    )
    return " ".join(own) or key[:12]
