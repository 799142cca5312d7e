# SPDX-License-Identifier: MIT
"""What a simulated machine does to launch times: named kinds of noise, and incidents.

`avo simulate` draws from the same kinds of noise, a whole stream of candidates at once.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

DEVICE = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How times vary, in units of ln(time): 0.01 is 1 %. Shares are probabilities.

    Drift and steps are the machine's, the same for all arms; the rest is drawn for each arm.
    """

    launch: float = 0.0015  # sd of one launch, or scale where it has tails
    degrees: float = math.inf  # of the Student's t that a launch follows: inf is normal
    layout: float = 0.0004  # sd of what loading an arm into a process makes of it
    drift: float = 0.0  # sd of the random walk's step from one launch to the next
    step: float = 0.0  # a jump up or down …
    step_share: float = 0.0  # … before this share of the launches
    slow: float = 0.0  # the second mode is slower by this; …
    slow_loads: float = 0.0  # … an arm is in it for a whole process, …
    slow_launches: float = 0.0  # … or for one launch
    carry: float = 0.0  # a launch is slower after one of another arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Incidents:
    """What goes wrong with the machine. Launches count from 0 in each process, over all arms."""

    disturbed: float = 0.0  # share of launches that are slower by `disturbed_by`, and said so
    disturbed_by: float = 0.2  # ln(time)
    throttled: float = 0.0  # share of blocks that are slower by `throttled_by`, and said so
    throttled_by: float = 0.1  # ln(time)
    foreign: tuple[int, ...] = ()  # processes that share the device
    lost_at: int | None = None  # launch at which the worker is killed …
    lost_in: tuple[int, ...] = ()  # … in these replicates; none: in all


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A simulated machine. `ms` is a launch's time before noise."""

    name: str = "normal"
    ms: float = 1.0
    noise: Noise = field(default_factory=Noise)
    incidents: Incidents = field(default_factory=Incidents)


# `normal` has the spread measured on an H100 (A/A of attention: process values 0.06 to 0.09 %,
# block values of one configuration 0.1 to 2 %). The others add one thing to it, larger than seen
# there: a step is a clock's of 15 in 1980 MHz, a slow mode a layout's that caches do not like.
NOISES: Mapping[str, Noise] = MappingProxyType(
    {
        "normal": Noise(),
        "drift": Noise(drift=0.0005, step=0.0076, step_share=0.01),
        "layout": Noise(layout=0.0015),
        "tails": Noise(degrees=2.0),
        "bimodal": Noise(slow=0.004, slow_loads=0.25, slow_launches=0.1),
        "carry-over": Noise(carry=0.003),
    }
)


def load(device: str, root: Path) -> Scenario:
    """The machine of `simulated`, `simulated:NAME` or `simulated:FILE` (TOML, relative to root).

    Raises ValueError with a sentence, OSError for a file that cannot be read.
    """
    _, _, which = device.partition(":")
    if not which or which in NOISES:
        return Scenario(name=which or "normal", noise=NOISES[which or "normal"])
    path = root / which
    if not path.is_file():
        neither = f"neither a kind of noise ({', '.join(NOISES)}) nor the file {path}"
        raise ValueError(f"device {device!r}: {neither}")
    table = read_toml(path)
    parts = {"noise": Noise, "incidents": Incidents}
    values = {k: made(parts[k], v, f"{path}: [{k}]") if k in parts else v for k, v in table.items()}
    scenario: Scenario = made(Scenario, {"name": which, **values}, str(path))
    return scenario


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's table. Raises ValueError naming the file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from None


def made(cls: type[Any], table: Any, where: str) -> Any:
    """A frozen value from a TOML table. Raises ValueError naming file, key and what it takes."""
    if not isinstance(table, dict):
        raise ValueError(f"{where}: a table, not {table!r}")
    defaults = {f.name: _default(f) for f in fields(cls)}
    for key, value in table.items():
        if key not in defaults:
            raise ValueError(f"{where}: {key}: unknown; the keys are {', '.join(defaults)}")
        if not isinstance(value, _kinds(defaults[key])) or isinstance(value, bool):
            raise ValueError(f"{where}: {key}: {value!r} is no value like {defaults[key]!r}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})


def _default(one: Field[Any]) -> Any:
    if one.default_factory is not MISSING:
        return one.default_factory()
    return one.default


def _kinds(default: Any) -> tuple[type, ...]:
    """What may stand in a file where this is the default."""
    if isinstance(default, tuple):
        return (list,)
    return {float: (float, int), type(None): (int,)}.get(type(default), (type(default),))
