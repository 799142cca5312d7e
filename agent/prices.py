# SPDX-License-Identifier: MIT
"""What requests cost: token counts as the API reports them, and a dated table of prices."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.config import ConfigurationError

TABLE = Path(__file__).with_name("prices.toml")
MILLION = 1_000_000
KEYS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one request. `thinking` is part of `output`; the input parts add up."""

    input: int = 0  # neither read from the cache nor written to it
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    thinking: int = 0

    @property
    def prompt(self) -> int:
        """All that went in."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @classmethod
    def of(cls, reported: Any) -> Usage:
        """From a message's `usage`. Writes without a known lifetime count as the dearer ones."""
        written = reported.cache_creation_input_tokens or 0
        short = getattr(reported.cache_creation, "ephemeral_5m_input_tokens", None) or 0
        thinking = getattr(reported.output_tokens_details, "thinking_tokens", None) or 0
        return cls(
            input=reported.input_tokens or 0,
            cache_read=reported.cache_read_input_tokens or 0,
            cache_write_5m=min(short, written),
            cache_write_1h=max(0, written - short),
            output=reported.output_tokens or 0,
            thinking=thinking,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens; `long` holds for prompts of more than `long_over` tokens."""

    input: float
    output: float
    cache_read: float
    cache_write_5m: float
    cache_write_1h: float
    long: Price | None = None
    long_over: float = math.inf

    def usd(self, usage: Usage) -> float:
        """What these tokens cost."""
        if self.long is not None and usage.prompt > self.long_over:
            return self.long.usd(usage)
        usd = sum(getattr(self, key) * getattr(usage, key) for key in KEYS) / MILLION
        return float(usd)

    def ceiling_usd(self, *, long_lived: int, rest: int, output: int) -> float:
        """The most a request can cost: nothing cached, all of it written, the output in full."""
        dear = max(self.input, self.cache_write_5m, self.cache_read)
        usd = (
            max(dear, self.cache_write_1h) * long_lived + dear * rest + self.output * output
        ) / MILLION
        if self.long is not None and long_lived + rest > self.long_over:
            beyond = self.long.ceiling_usd(long_lived=long_lived, rest=rest, output=output)
            return max(usd, beyond)
        return usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """A dated table. `digest` is of its content, for the record."""

    as_of: str
    source: str
    models: Mapping[str, Price] = field(default_factory=dict)
    digest: str = ""

    def of(self, model: str) -> Price:
        """The price of a model. Raises ConfigurationError where it is unknown."""
        if model not in self.models:
            raise ConfigurationError(
                f"no price for model {model!r} in the table of {self.as_of}, so its cost cannot be"
                f" bounded. Write [models.{json.dumps(model)}] with {', '.join(KEYS)} into a TOML"
                ' file and name it in [tool.avo.agent]: prices = "FILE"'
            )
        return self.models[model]

    def usd(self, usage: Usage, *, asked: str, answered: str) -> float:
        """At the price of the model that answered; where that has none, of the one asked."""
        return self.of(answered if answered in self.models else asked).usd(usage)


def load_prices(override: Path | None = None) -> Prices:
    """The shipped table with the models of `override`, if any, laid over it."""
    files = [TABLE, *([override] if override else [])]
    tables = [_table(path) for path in files]
    models: dict[str, Price] = {}
    for path, table in zip(files, tables, strict=True):
        for name, prices in table.get("models", {}).items():
            models[name] = _price(prices, f"{path}: models.{name}")
    digest = hashlib.sha256(json.dumps(tables, sort_keys=True, default=str).encode()).hexdigest()
    last = {**tables[0], **tables[-1]}
    return Prices(
        as_of=str(last.get("as_of", "unknown")),
        source=str(last.get("source", files[-1])),
        models=models,
        digest=digest[:16],
    )


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"price table {path}: {error}") from None


def _price(raw: Any, where: str) -> Price:
    odd = sorted(set(raw) - {*KEYS, "long", "over_tokens"}) if isinstance(raw, dict) else ["…"]
    if odd:
        raise ConfigurationError(f"{where}: unknown {', '.join(odd)}")
    values: dict[str, Any] = {}
    for key in KEYS:
        value = raw.get(key)
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            raise ConfigurationError(f"{where}.{key} = {value!r} is no price in dollars")
        values[key] = float(value)
    long = raw.get("long")
    if long is None:
        return Price(**values)
    over = long.get("over_tokens") if isinstance(long, dict) else None
    if type(over) is not int or over <= 0:
        raise ConfigurationError(f"{where}.long needs over_tokens, a number of tokens")
    return Price(**values, long=_price(long, f"{where}.long"), long_over=over)
