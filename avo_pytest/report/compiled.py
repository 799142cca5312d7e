# SPDX-License-Identifier: MIT
"""What made a candidate slow when it was compiled: serialised wgmma, spills.

The machine that judges may have another compiler than the one that `avo build --strict` asked: near
the limit of registers ptxas 13.0 serialises what 13.5 takes, and the other way round, and the
candidate is then half as fast for no reason that its source shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avo_pytest.inspection import complaints
from avo_pytest.printable import one_plain_line
from avo_pytest.score import Record
from avo_pytest.specification import Target

ANY: Target = "cpu"  # of it nothing is demanded; not every kernel needs tensor cores
LENGTH = 200  # of a line; a candidate's source has a hand in what its compiler says


def remarks(record: Record) -> list[str]:
    """A line for each code object and complaint, which is named by the macros it alone has."""
    parts: Mapping[str, Mapping[str, Any]] = record.build.get("candidate", {})
    return [
        one_plain_line(complaint, LENGTH)
        for key, part in parts.items()
        for complaint in complaints(ANY, {_name(key, part, parts): part})
    ]


def _name(key: str, part: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> str:
    others = [other["macros"] for other in parts.values() if other is not part]
    own = (
        f"{name}={value}"
        for name, value in part["macros"].items()
        if any(other.get(name) != value for other in others)
    )
    return " ".join(own) or key[:12]
