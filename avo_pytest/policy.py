# SPDX-License-Identifier: MIT
"""The rules of promotion as one frozen value: `[tool.avo.policy]` and what the judge's tree says.

Gains, regressions and shares are fractions: 0.001 is 0.1 % (of gains: ln 1.001). A table of the
device's kind, `[tool.avo.policy.cpu]` or `[tool.avo.policy.cuda]`, goes before the common one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from avo_pytest.problem import DeviceKind

TABLE = "tool.avo.policy"
ISOLATION_LEVELS = ("none", "child", "device-only")  # each better than the one before
SIMULATED = "simulated"  # the level of scripted devices; where a file asks for it, no other decides


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Every figure that a verdict depends on; the defaults are a GPU's.

    `set`, `harness` and `configurations` are filled in by the caller from his own tree, never from
    a record.
    """

    min_gain: float = 0.001  # the confirm's lower bound must lie above
    max_regression: float = 0.01  # no configuration may lose more
    max_error_growth: float = 0.02  # of any configuration's RMS error beside the incumbent's
    target_gain: float = 0.003  # what the number of replicates is chosen to find
    power: float = 0.9  # with which probability
    alpha_screen: float = 0.05
    alpha_confirm: float = 0.005
    alpha_guard: float = 0.05
    error_budget: str = "none"  # `lord`: earlier confirms lower or raise the level of the next
    false_share: float = 0.05  # then: of false ones among the promotions, at most, in expectation
    band: float = 0.999  # coverage of the calibrated bands of null twin, order and carry-over
    screen_blocks: int = 40  # then a screen gives up; 0: no screen, every candidate is confirmed
    confirm_blocks: int = 8  # of each replicate
    replicates: int | None = None  # None: chosen from the calibration, before the first sample
    max_disturbed: float = 0.05  # share of launches that stayed disturbed after all repeats
    max_throttled: float = 0.0  # share of blocks with a thermal or hardware slowdown
    max_reruns: int = 2  # of an INVALID confirm of the same artifact
    calibration_days: float = 30.0  # after that a calibration is too old
    regime: str = "refreshed"
    isolation: str = "device-only"
    set: str = ""
    harness: str = ""
    configurations: tuple[str, ...] = ()


DEFAULTS: Mapping[DeviceKind, Policy] = MappingProxyType(
    {
        "cuda": Policy(),
        "cpu": Policy(min_gain=0.005, max_regression=0.02, target_gain=0.015, isolation="child"),
    }
)
OF_THE_TREE = ("set", "harness", "configurations")  # not to be written into a file
# What older records lack, and what they are judged by.
LATER = {"max_error_growth": DEFAULTS["cuda"].max_error_growth}


class PolicyError(ValueError):
    """A policy that cannot be in force; the sentence names file, table and key."""


def kind_of(target: str) -> DeviceKind:
    """Which defaults and sets a target has."""
    return "cpu" if target in ("cpu", SIMULATED) else "cuda"


def load(root: Path, kind: DeviceKind) -> Policy:
    """The policy of a tree for one kind of device. Raises PolicyError."""
    path = root / "pyproject.toml"
    table = _table(path)
    kinds = {k: table.pop(k, {}) for k in DEFAULTS}
    for name, own in kinds.items():
        if not isinstance(own, dict):
            raise PolicyError(f"{path}: [{TABLE}] {name}: a table of its own, not {own!r}")
    # both kinds, always: a typing error must not wait for the other device
    return {name: _of_kind(name, table, kinds[name], path) for name in DEFAULTS}[kind]


def from_dict(raw: Mapping[str, Any], where: str = "policy of the record") -> Policy:
    """A recorded policy: every key, each of its type and range. Raises PolicyError."""
    if not isinstance(raw, Mapping):
        raise PolicyError(f"{where}: a table, not {raw!r}")
    raw = {**LATER, **raw}
    if absent := sorted({f.name for f in dataclasses.fields(Policy)} - raw.keys()):
        raise PolicyError(f"{where}: {absent[0]} is missing")
    own = {k: raw[k] for k in OF_THE_TREE}
    configurations = own["configurations"]
    if not isinstance(configurations, list | tuple):
        raise PolicyError(f"{where}: configurations: names, not {configurations!r}")
    for text in (own["set"], own["harness"], *configurations):
        if not isinstance(text, str):
            raise PolicyError(f"{where}: a name is {text!r}")
    own["configurations"] = tuple(configurations)
    rest = {k: v for k, v in raw.items() if k not in OF_THE_TREE}
    policy = _changed(Policy(**own), rest, where)
    refuse_contradictions(policy, where)
    return policy


def canonical(policy: Policy) -> str:
    """One text a policy: equal texts are equal policies, also after a record's JSON."""
    return json.dumps(dataclasses.asdict(policy), sort_keys=True, separators=(",", ":"))


def digest(policy: Policy) -> str:
    """SHA-256 of the canonical text."""
    return hashlib.sha256(canonical(policy).encode()).hexdigest()


def refuse_contradictions(policy: Policy, where: str) -> None:
    """Raises PolicyError for values that are fine alone and impossible together."""
    if policy.target_gain <= policy.min_gain:
        raise PolicyError(
            f"{where}: target_gain {policy.target_gain} is not above min_gain {policy.min_gain}: "
            "no number of replicates finds it"
        )
    needed = math.ceil(math.log2(1 / policy.alpha_confirm))
    if policy.replicates is not None and policy.replicates < needed:
        raise PolicyError(
            f"{where}: replicates {policy.replicates} can never promote at alpha_confirm "
            f"{policy.alpha_confirm}: the sign flips need {needed} or more"
        )


def _table(path: Path) -> dict[str, Any]:
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError(f"{path}: {error}") from error
    for key in TABLE.split("."):
        table = table.get(key, {})
        if not isinstance(table, dict):
            raise PolicyError(f"{path}: {key} of [{TABLE}]: a table, not {table!r}")
    return dict(table)


def _of_kind(
    kind: DeviceKind, common: Mapping[str, Any], own: Mapping[str, Any], path: Path
) -> Policy:
    policy = _changed(DEFAULTS[kind], common, f"{path}: [{TABLE}]")
    policy = _changed(policy, own, f"{path}: [{TABLE}.{kind}]")
    refuse_contradictions(policy, f"{path}: [{TABLE}] for {kind}")
    return policy


def _changed(policy: Policy, table: Mapping[str, Any], where: str) -> Policy:
    for key, value in table.items():
        if key not in _ALLOWED:
            known = ", ".join(sorted(_ALLOWED))
            raise PolicyError(f"{where} {key}: unknown; the keys are {known}")
        if (wrong := _ALLOWED[key](value)) is not None:
            raise PolicyError(f"{where} {key}: {value!r} is not {wrong}")
    # a whole number in a file is as good as 1.0, and one policy has one canonical text
    numbers = {k: float(v) for k, v in table.items() if _is_float(k) and v is not None}
    return dataclasses.replace(policy, **{**table, **numbers})


def _is_float(key: str) -> bool:
    return isinstance(getattr(DEFAULTS["cuda"], key), float)


_Rule = Callable[[Any], str | None]


def _fraction(low: float, high: float, *, ends: bool = True) -> _Rule:
    """Between the two; `ends`: they are allowed themselves."""
    bounds = f"from {low:g} to {high:g}" if ends else f"above {low:g} and below {high:g}"
    wrong = f"a fraction {bounds} (0.005 is 0.5 %)"

    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return wrong
        return None if (low <= value <= high if ends else low < value < high) else wrong

    return check


def _whole(low: int, high: int) -> _Rule:
    def check(value: Any) -> str | None:
        whole = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if whole else f"a whole number from {low} to {high}"

    return check


def _replicates(value: Any) -> str | None:
    return None if value is None else _whole(2, 64)(value)


def _days(value: Any) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if number and 0 < value <= 366 else "a number of days, more than 0 and up to 366"


def _one_of(*allowed: str) -> _Rule:
    return lambda value: None if value in allowed else f"one of {', '.join(allowed)}"


# A percentage written as such (0.5 for 0.5 %) is beyond every limit here.
_ALLOWED: Mapping[str, _Rule] = MappingProxyType(
    {
        "min_gain": _fraction(0, 0.09),
        "max_regression": _fraction(0, 0.2, ends=False),
        "max_error_growth": _fraction(0, 0.5),
        "target_gain": _fraction(0, 0.2, ends=False),
        "power": _fraction(0.5, 1, ends=False),
        "alpha_screen": _fraction(0, 0.5, ends=False),
        "alpha_confirm": _fraction(0, 0.1, ends=False),
        "alpha_guard": _fraction(0, 0.5, ends=False),
        "error_budget": _one_of("none", "lord"),
        "false_share": _fraction(0, 0.5, ends=False),
        "band": _fraction(0.9, 1, ends=False),
        "screen_blocks": _whole(0, 1000),
        "confirm_blocks": _whole(2, 200),
        "replicates": _replicates,
        "max_disturbed": _fraction(0, 0.5),
        "max_throttled": _fraction(0, 0.5),
        "max_reruns": _whole(0, 10),
        "calibration_days": _days,
        "regime": _one_of("refreshed", "sustained"),
        "isolation": _one_of(*ISOLATION_LEVELS, SIMULATED),
    }
)
