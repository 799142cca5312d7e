# SPDX-License-Identifier: MIT
"""The table of attacks: `suite.toml` of a folder → cases. Unknown keys and double names are errors.

A `[[group]]` holds what its `cases` have in common; `attack = N` is short for the macro ATTACK.

A case says what it must end in and by which sentence, so that a trick which fails for another
reason than the intended one counts as missed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

FOLDER = Path("tests", "redteam")
TABLE = "suite.toml"
# Trials that end before anything runs need no device; `scenario` cases are Python, not kernels.
KERNEL_TARGETS = ("cpu", "sm80", "sm90")
TARGETS = (*KERNEL_TARGETS, "scenario")


class SuiteError(Exception):
    """There is no suite here, or its table is wrong; the sentence says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attack, or one control where `honest` is true.

    `status` (or one of several, a|b) and `reason` (a pattern), and `phase` where given, are what it
    must end in. With status ok
    it is harmless instead: `most` bounds how much faster than the honest twin it may be, and
    `least` how much slower. `per_launch` says with which probability one launch is caught and
    `per_run` a whole run; `by` names the mechanism. `threads`: of a CPU launch.
    """

    name: str
    family: str
    target: str
    catalogue: tuple[str, ...]
    by: str
    status: str
    reason: str = ""
    phase: str = ""
    folder: str = ""
    constants: Mapping[str, int] = field(default_factory=dict)
    edits: Mapping[str, str] = field(default_factory=dict)  # text of kernel.toml → other text
    honest: bool = False
    twin: bool = True
    canary: bool = False
    most: float = 0.0
    least: float = 0.0
    per_launch: str = "1"
    per_run: str = "1"
    timeout_s: float = 4.0
    threads: int = 1

    @property
    def static(self) -> bool:
        """Whether it must end before anything runs, so that no device is needed."""
        return self.status in ("build_error", "refused")


def load(root: Path) -> list[Case]:
    """All cases of `root/tests/redteam`. Raises SuiteError."""
    path = root / FOLDER / TABLE
    groups = _table(path).get("group", ())
    cases = [_case(path, {**group, **raw}) for group in groups for raw in group.get("cases", ())]
    names = [case.name for case in cases]
    for name in names:
        if names.count(name) > 1:
            raise SuiteError(f"{path}: two cases are called {name!r}")
    for case in cases:
        if not (root / FOLDER / case.folder).is_dir():
            raise SuiteError(f"{path}: {case.name}: no folder {case.folder}")
    return cases


def cannot_occur(root: Path) -> dict[str, str]:
    """Rows of the catalogue that no case attacks, each with the reason. Raises SuiteError."""
    return dict(_table(root / FOLDER / TABLE).get("cannot_occur", {}))


def chosen(
    cases: list[Case], *, canary: bool = False, target: str | None = None, family: str | None = None
) -> list[Case]:
    """The cases that the command line asks for. Raises SuiteError where there are none."""
    kept = [
        case
        for case in cases
        if (case.canary or not canary)
        and target in (None, case.target)
        and family in (None, case.family)
    ]
    if not kept:
        families = ", ".join(sorted({case.family for case in cases}))
        raise SuiteError(f"nothing to do; targets: {', '.join(TARGETS)}; families: {families}")
    return kept


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SuiteError(
            f"{path}: no such file. The suite is not part of the installed package: clone the "
            "avo-pytest repository and run `avo redteam` there, or name it with --root"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SuiteError(f"{path}: {error}") from None


def _case(path: Path, raw: Mapping[str, Any]) -> Case:
    name = raw.get("name", "?")
    raw = {key: value for key, value in raw.items() if key != "cases"}
    if "attack" in raw:
        raw["constants"] = {"ATTACK": raw.pop("attack")}
    known = {f.name for f in fields(Case)}
    needed = {f.name for f in fields(Case) if f.default is f.default_factory is MISSING}
    if odd := (raw.keys() - known) | (needed - raw.keys()):
        raise SuiteError(f"{path}: {name}: missing or unknown keys {', '.join(sorted(odd))}")
    given = {**raw, "catalogue": tuple(raw["catalogue"])}
    target = str(given["target"])
    if target not in TARGETS:
        raise SuiteError(f"{path}: {name}: target {target!r} is none of {', '.join(TARGETS)}")
    room = {"sm80": "cuda", "sm90": "cuda"}.get(target, target)
    case = Case(**{**given, "folder": f"{room}/{raw.get('folder', name)}"})
    if case.status != "ok" and not case.reason:
        raise SuiteError(f"{path}: {name}: needs a pattern for its reason")
    try:
        re.compile(case.reason)
    except re.error as error:
        raise SuiteError(f"{path}: {name}: {case.reason!r} is no pattern: {error}") from None
    return case
