# SPDX-License-Identifier: MIT
"""An Artifact: code files and resolved launch plans in one folder with `artifact.json`."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avo_pytest.plan import Argument, Launch, LaunchPlan, TensorMap, Workspace

SCHEMA = 1
FILE = "artifact.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """What `build` made. `codes`: code key → file; `plans`: configuration name → plan.

    `hash` names the code bytes and the plans of the configurations that the problem itself defines;
    drawn ones are left out, so that it is the same for every seed.
    """

    path: Path
    kernel: str
    target: str
    arch: str
    hash: str
    codes: Mapping[str, Path]
    plans: Mapping[str, LaunchPlan]
    report: Mapping[str, Any]


def load_artifact(path: Path) -> Artifact:
    """Read an artifact's folder. Raises OSError or ValueError."""
    raw = json.loads((path / FILE).read_text(encoding="utf-8"))
    if raw.get("schema") != SCHEMA:
        raise ValueError(
            f"{path / FILE}: schema {raw.get('schema')!r}; this version reads {SCHEMA}"
        )
    plans = [_plan(plan) for plan in raw["plans"]]
    return Artifact(
        path=path,
        kernel=raw["kernel"],
        target=raw["target"],
        arch=raw["arch"],
        hash=raw["hash"],
        codes={key: path / name for key, name in raw["codes"].items()},
        plans={plan.configuration: plan for plan in plans},
        report=raw["report"],
    )


def store(cache: Path, description: Mapping[str, Any], codes: Mapping[str, Path]) -> Path:
    """Put an artifact into the cache under a name made of its contents; return its folder."""
    files = {key: f"{key}{path.suffix}" for key, path in codes.items()}
    text = json.dumps({"schema": SCHEMA, **description, "codes": files}, sort_keys=True, indent=1)
    final = cache / hashlib.sha256(text.encode()).hexdigest()[:32]
    with new_folder(final) as folder:
        if folder is not None:
            for key, path in codes.items():
                shutil.copyfile(path, folder / files[key])
            (folder / FILE).write_text(text, encoding="utf-8")
    return final


@contextmanager
def new_folder(final: Path) -> Iterator[Path | None]:
    """A folder that appears as `final` at once and complete, or None where that is there already.

    Of two processes that make the same folder, one wins and the other's is thrown away.
    """
    if final.is_dir():
        yield None
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=final.parent, prefix=".new-"))
    try:
        yield folder
        folder.chmod(0o755)
        os.rename(folder, final)  # noqa: PTH104 - must not replace, so the error counts
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove a folder that others may be reading or removing; fine when it is not there."""
    if not folder.is_dir():
        return
    doomed = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".old-"))
    with suppress(FileNotFoundError):
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def plan_identity(plan: LaunchPlan) -> dict[str, Any]:
    """A plan as it enters the hash: without the variant's name, which changes nothing."""
    return {key: value for key, value in asdict(plan).items() if key != "variant"}


def _plan(raw: Mapping[str, Any]) -> LaunchPlan:
    return LaunchPlan(
        configuration=raw["configuration"],
        variant=raw["variant"],
        code=raw["code"],
        workspaces=tuple(Workspace(**w) for w in raw["workspaces"]),
        tensor_maps=tuple(TensorMap(**_tuples(m)) for m in raw["tensor_maps"]),
        launches=tuple(_launch(launch) for launch in raw["launches"]),
    )


def _launch(raw: Mapping[str, Any]) -> Launch:
    arguments = tuple(Argument(**argument) for argument in raw["arguments"])
    return Launch(**{**_tuples(raw), "arguments": arguments})


def _tuples(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in raw.items()}
