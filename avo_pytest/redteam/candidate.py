# SPDX-License-Identifier: MIT
"""From a case to a folder as it would lie under `kernels/`: its own files over the common ones."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from avo_pytest.redteam.suite import FOLDER, Case

COMMON = "common"


def compose(root: Path, case: Case, target: Path, secret: Path, *, honest: bool = False) -> Path:
    """Write the case's candidate, or its honest twin (HONEST=1, ATTACK=0), into `target`."""
    folder = root / FOLDER / case.folder
    constants = {**case.constants, **({"HONEST": 1} if honest else {})}
    _lay(folder.parent / COMMON, target)
    _lay(folder, target)
    _finish(target, constants, secret)
    if not honest:
        _edit(target / "kernel.toml", case.edits)
    return target


def compose_common(root: Path, case: Case, target: Path, secret: Path) -> Path:
    """The plain honest kernel that this case's files were made from."""
    _lay((root / FOLDER / case.folder).parent / COMMON, target)
    _finish(target, {"HONEST": 1}, secret)
    return target


def _edit(manifest: Path, edits: Mapping[str, str]) -> None:
    text = manifest.read_text(encoding="utf-8")
    for old, new in edits.items():
        if text.count(old) != 1:
            raise ValueError(f"{manifest}: {old!r} is not there exactly once")
        text = text.replace(old, new)
    manifest.write_text(text, encoding="utf-8")


def _lay(folder: Path, target: Path) -> None:
    shutil.copytree(folder, target, dirs_exist_ok=True, symlinks=True)


def _finish(target: Path, constants: Mapping[str, int], secret: Path) -> None:
    manifest = target / "kernel.toml"
    text = manifest.read_text(encoding="utf-8")
    for name, value in constants.items():
        text, found = re.subn(rf"^{name} = -?\d+$", f"{name} = {value}", text, flags=re.MULTILINE)
        if found != 1:
            raise ValueError(f"{manifest}: {found} lines begin with {name} =; one is needed")
    manifest.write_text(text, encoding="utf-8")
    for path in target.rglob("*"):
        if path.is_file() and not path.is_symlink() and b"@SECRET@" in path.read_bytes():
            path.write_bytes(path.read_bytes().replace(b"@SECRET@", str(secret).encode()))
