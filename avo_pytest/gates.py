# SPDX-License-Identifier: MIT
"""The gate table, `[[tool.avo.gates]]`: which devices decide about a target.

The `judge` of a target moves `main`; a `witness` must not have seen a loss; all else is `local`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avo_pytest import shares

JUDGE, WITNESS, LOCAL = "judge", "witness", "local"
ROLES = (JUDGE, WITNESS)
TABLE = "[[tool.avo.gates]]"
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")  # of a kernel or target: a folder's name
MOST = 200  # gates


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One row. `device` is how the name of the device begins; "cpu" is every CPU. `shares`: by how
    many runners a confirm is shared."""

    kernel: str
    target: str
    device: str
    labels: tuple[str, ...] = ()
    role: str
    shares: int = 1


class GateError(ValueError):
    """A row that is none; the sentence names file, row and key."""


def load(root: Path) -> tuple[Gate, ...]:
    """The table of a tree; empty where there is none. Raises GateError, OSError."""
    path = root / "pyproject.toml"
    if not path.is_file():
        return ()
    return load_text(path.read_text(encoding="utf-8", errors="replace"), str(path))


def load_text(text: str, where: str) -> tuple[Gate, ...]:
    """The table of a pyproject.toml that was read from elsewhere. Raises GateError."""
    try:
        table: Any = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise GateError(f"{where}: {error}") from error
    for key in ("tool", "avo"):
        table = table.get(key, {})
        if not isinstance(table, dict):
            raise GateError(f"{where}: {key} is no table")
    rows = table.get("gates", [])
    if not isinstance(rows, list) or len(rows) > MOST:
        raise GateError(f"{where}: {TABLE} is no list of at most {MOST} tables")
    gates = tuple(_gate(row, f"{where}: {TABLE} {n}") for n, row in enumerate(rows, 1))
    _refuse_two_judges(gates, where)
    return gates


def find(gates: Sequence[Gate], *, kernel: str, target: str, device: str) -> Gate | None:
    """The row of a device, by its longest beginning that fits; None: no row is about it."""
    fitting = [
        g
        for g in gates
        if (g.kernel, g.target) == (kernel, target)
        and (device.startswith(g.device) or g.device == target == "cpu")
    ]
    return max(fitting, key=lambda g: (len(g.device), g.role == JUDGE), default=None)


def role_of(gates: Sequence[Gate], *, kernel: str, target: str, device: str) -> str:
    """`judge`, `witness`, or `local` where no row is about the device."""
    found = find(gates, kernel=kernel, target=target, device=device)
    return LOCAL if found is None else found.role


def called(gates: Sequence[Gate], *, kernel: str, target: str, device: str) -> str:
    """A device's name in the ledger: its row's, else its own."""
    found = find(gates, kernel=kernel, target=target, device=device)
    return device if found is None else found.device


def witnesses(gates: Sequence[Gate], *, kernel: str, target: str) -> tuple[Gate, ...]:
    """The rows whose devices must not have seen a loss."""
    return tuple(g for g in gates if (g.kernel, g.target, g.role) == (kernel, target, WITNESS))


def _gate(row: Any, where: str) -> Gate:
    if not isinstance(row, Mapping):
        raise GateError(f"{where}: a table, not {row!r}")
    keys = Gate.__dataclass_fields__.keys()
    if unknown := sorted(row.keys() - keys):
        raise GateError(f"{where} {unknown[0]}: unknown; the keys are {', '.join(sorted(keys))}")
    if missing := sorted(keys - row.keys() - {"labels", "shares"}):
        raise GateError(f"{where} {missing[0]}: is missing")
    for key in ("kernel", "target"):
        if not isinstance(row[key], str) or not NAME.fullmatch(row[key]):
            raise GateError(f"{where} {key}: {row[key]!r} is no name of a folder (a-z, 0-9, _)")
    device, role, labels = row["device"], row["role"], row.get("labels", [])
    if not isinstance(device, str) or not device.strip() or not device.isprintable():
        raise GateError(f"{where} device: {device!r} is no beginning of a device's name")
    if role not in ROLES:
        raise GateError(f"{where} role: {role!r} is not one of {', '.join(ROLES)}")
    if not isinstance(labels, list) or not all(isinstance(x, str) and x for x in labels):
        raise GateError(f"{where} labels: {labels!r} is no list of runner labels")
    count = row.get("shares", 1)
    if type(count) is not int or not 1 <= count <= shares.MOST:
        raise GateError(
            f"{where} shares: {count!r} is no number of runners from 1 to {shares.MOST}"
        )
    return Gate(**{**row, "labels": tuple(labels)})


def _refuse_two_judges(gates: Sequence[Gate], where: str) -> None:
    seen: dict[tuple[str, str], int] = {}
    for number, gate in enumerate(gates, 1):
        if gate.role != JUDGE:
            continue
        key = gate.kernel, gate.target
        if key in seen:
            raise GateError(
                f"{where}: {TABLE} {number} role: {gate.kernel}/{gate.target} has a judge in row "
                f"{seen[key]} already; one decides, others may be witnesses"
            )
        seen[key] = number
