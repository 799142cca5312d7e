# SPDX-License-Identifier: MIT
"""Calibrations on disk: one file each in `.avo/calibrations`, never overwritten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from avo_pytest.calibration import (
    Calibration,
    Conditions,
    applies,
    from_dict,
    of_another_version,
    to_dict,
)
from avo_pytest.journal import write_atomically
from avo_pytest.policy import Policy

FOLDER = "calibrations"


def save(home: Path, calibration: Calibration, name: str) -> Path:
    """Write it under a name (the run's) into the folder of `home` (`.avo`). Raises OSError."""
    path = home / FOLDER / f"{name}.json"
    write_atomically(path, json.dumps(to_dict(calibration), sort_keys=True, indent=1) + "\n")
    return path


def newest(
    home: Path, wanted: Conditions, *, at: str, policy: Policy, version: str
) -> tuple[Calibration | None, str]:
    """The newest that applies, one of this version of the kernel (tree hash) before any other;
    without one the reason why the newest of this kernel, target and set does not."""
    why, other = "", None
    for path, found in stored(home):
        if isinstance(found, Calibration) and _place(found.conditions) != _place(wanted):
            continue
        reason = found if isinstance(found, str) else applies(found, wanted, at=at, policy=policy)
        if reason is None and isinstance(found, Calibration):
            if of_another_version(found, version) is None:
                return found, ""
            other = other or found
        why = why or f"{path.name}: {reason}"
    return other, "" if other else why or "there is none"


def of_version(home: Path, kernel: str, target: str, version: str) -> Iterator[Calibration]:
    """Those that were made of this version of the kernel (tree hash), the newest first."""
    made = (found for _, found in stored(home) if isinstance(found, Calibration))
    for one in made:
        if (one.conditions.kernel, one.conditions.target, one.version) == (kernel, target, version):
            yield one


def stored(home: Path) -> Iterator[tuple[Path, Calibration | str]]:
    """Every file, the newest first, with what is in it or why that cannot be read."""
    paths = sorted((home / FOLDER).glob("*.json"), key=lambda p: p.name, reverse=True)
    read = [(path, _read(path)) for path in paths]
    yield from sorted(read, key=lambda pair: _created(pair[1]), reverse=True)


def _place(conditions: Conditions) -> tuple[str, str, str]:
    return conditions.kernel, conditions.target, conditions.set


def _read(path: Path) -> Calibration | str:
    try:
        return from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        return str(error)


def _created(found: Calibration | str) -> str:
    """ISO 8601 in UTC sorts as text; what cannot be read comes last."""
    return found.created if isinstance(found, Calibration) else ""
