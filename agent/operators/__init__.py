# SPDX-License-Identifier: MIT
"""What performs a step. Each module here has `create(settings)`, imported only when asked for."""

from __future__ import annotations

import importlib

from agent.config import ConfigurationError, Settings
from agent.step import Operator

NAMES = ("claude", "command", "sweep")


def operator(name: str, settings: Settings) -> Operator:
    """The operator of that name."""
    if name not in NAMES:
        raise ConfigurationError(f"no operator {name!r}: there are {', '.join(NAMES)}")
    made: Operator = importlib.import_module(f"agent.operators.{name}").create(settings)
    return made
