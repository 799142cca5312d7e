# SPDX-License-Identifier: MIT
"""A simulated arm: its `kernel.toml` scripts how fast it is and what it does wrong, and when."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from avo_pytest.artifact import Artifact, load_artifact, store
from avo_pytest.codes import BuildError
from avo_pytest.devices.scenarios import DEVICE, made, read_toml

FAULTS = {
    "crash": "its process dies",
    "timeout": "does not come back",
    "lost": "takes the worker with it",
    "zeros": "writes zeros",
    "row": "leaves one row as it was",
    "stale": "writes the output of its first launch again",
    "input": "changes its inputs",
    "canary": "writes beyond its output",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How an arm behaves. Gains are log ratios: 0.01 is 1 % faster than an arm without.

    A `fault` begins with the arm's launch `at`, counted from 0 in each process over all
    configurations, timed or not, and lasts; in these `replicates`, or in all if none are named.
    `constants` are those of a real manifest, for a sweep: each step of one away from where it is
    `best` costs `slope` of the gain.
    """

    target: str = DEVICE
    gain: float = 0.0
    gains: Mapping[str, float] = field(default_factory=dict)  # configuration → more of it
    heat: float = 0.0  # the launch after one of this arm is slower, whoever's it is
    fault: str = ""  # one of FAULTS
    at: int = 0
    replicates: tuple[int, ...] = ()
    comment: str = ""
    constants: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    best: Mapping[str, int] = field(default_factory=dict)
    slope: float = 0.0

    def faulty(self, launch: int, replicate: int) -> str:
        """The fault of this launch, or nothing."""
        here = not self.replicates or replicate in self.replicates
        return self.fault if here and launch >= self.at else ""


def build(folder: Path, kernel: str, cache: Path) -> Artifact:
    """The artifact of a scripted arm: the script is its code. Raises BuildError."""
    path = folder / "kernel.toml"
    try:
        script = _read(path)
    except ValueError as error:
        raise BuildError(str(error)) from error
    behaviour = json.dumps(asdict(script), sort_keys=True)
    description = {
        "kernel": kernel,
        "target": DEVICE,
        "arch": DEVICE,
        "hash": hashlib.sha256(behaviour.encode()).hexdigest(),
        "plans": [],
        "report": {},
    }
    return load_artifact(store(cache, description, {"script": path}))


def load(artifact: Path) -> Script:
    """The script in an artifact's folder. Raises OSError or ValueError."""
    return _read(load_artifact(artifact).codes["script"])


def _read(path: Path) -> Script:
    table: Any = read_toml(path)
    if table.get("target") != DEVICE:
        raise ValueError(f'{path}: target: must be "{DEVICE}", not {table.get("target")!r}')
    script: Script = made(Script, table, str(path))
    if script.fault and script.fault not in FAULTS:
        raise ValueError(f"{path}: fault {script.fault!r}: one of {', '.join(FAULTS)}")
    return replace(script, gain=script.gain - script.slope * _away(script, str(path)))


def _away(script: Script, where: str) -> float:
    """Steps between the constants and where they are best."""
    try:
        return sum(
            abs(script.constants[name]["value"] - best) / script.constants[name].get("step", 1)
            for name, best in script.best.items()
        )
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(f"{where}: constants: each of `best` needs a value ({error!r})") from error
