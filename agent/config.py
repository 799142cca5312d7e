# SPDX-License-Identifier: MIT
"""How the agent is set up: `[tool.avo.agent]` of pyproject.toml, defaults for the rest.

The one place that names models.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

MODEL = "claude-opus-5-5"
SUMMARY_MODEL = "claude-haiku-5-5"  # digests, and the handoff where the model itself cannot
EFFORTS = ("low", "medium", "high", "xhigh", "max")
TABLE = "tool.avo.agent"


class ConfigurationError(Exception):
    """Something that the user has to set right; the text says what and how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of every operator; keys of `[tool.avo.agent]` have the same names."""

    model: str = MODEL
    summary_model: str = SUMMARY_MODEL
    check_models: bool = True  # against the models endpoint; some gateways have none
    effort: str = "high"
    thinking: str = "adaptive"
    thinking_display: str = "summarized"  # what people see of it; billed the same
    max_output_tokens: int = 32_000
    window_tokens: int = 200_000  # worked in; the model's own is larger and a cache miss dearer
    shed_at: float = 0.4  # of the window: old tool results go, all at once
    handoff_at: float = 0.6  # of the window: a fresh conversation
    retries: int = 12
    backoff_s: float = 1.0  # doubled each time, up to a minute, unless the server says otherwise
    idle_s: float = 180.0  # without a byte from the server
    request_minutes: float = 20.0  # of one reply in all
    remind_every_turns: int = 10
    prices: str = ""  # a TOML file over agent/prices.toml, from the repository's root
    knowledge: tuple[str, ...] = ()  # folders of pages beside agent/knowledge
    command: str = ""  # template of the `command` operator
    command_minutes: float = 60.0
    command_credentials: tuple[str, ...] = ()  # variables that it gets; else those of known CLIs
    command_hosts: tuple[str, ...] = ()  # that it may reach, host or host:port; else the same
    # Set by the outer loop; part of the cached prompt, so the same for a whole run: no clock, path.
    device: str = ""
    knowledge_index: str = ""


def load_settings(root: Path, **changes: Any) -> Settings:
    """`[tool.avo.agent]` of the root's pyproject.toml with `changes` over it."""
    path = root / "pyproject.toml"
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    table = found.get("tool", {}).get("avo", {}).get("agent", {})
    return checked({**table, **{k: v for k, v in changes.items() if v is not None}}, str(path))


def checked(values: Mapping[str, Any], where: str) -> Settings:
    """Settings of these values; an unknown key or odd value names file and key."""
    kinds = {field.name: str(field.type) for field in fields(Settings)}
    for key, value in values.items():
        if key not in kinds:
            raise ConfigurationError(f"{where}: [{TABLE}] has no key {key!r}")
        if not _FITS[kinds[key]](value):
            raise ConfigurationError(f"{where}: [{TABLE}] {key} = {value!r} is not {kinds[key]}")
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    settings = Settings(**given)
    for key, allowed in (("effort", EFFORTS), ("thinking", ("adaptive", "disabled"))):
        if getattr(settings, key) not in allowed:
            raise ConfigurationError(
                f"{where}: [{TABLE}] {key} = {getattr(settings, key)!r}: {', '.join(allowed)}"
            )
    if not 0 < settings.shed_at <= settings.handoff_at <= 0.9:
        raise ConfigurationError(f"{where}: [{TABLE}] needs 0 < shed_at <= handoff_at <= 0.9")
    return settings


_FITS: dict[str, Callable[[Any], bool]] = {
    "str": lambda v: isinstance(v, str),
    "bool": lambda v: isinstance(v, bool),
    "int": lambda v: type(v) is int and v > 0,
    "float": lambda v: type(v) in (int, float) and 0 < v < float("inf"),
    "tuple[str, ...]": lambda v: isinstance(v, (list, tuple)) and all(type(x) is str for x in v),
}
