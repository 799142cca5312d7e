# SPDX-License-Identifier: MIT
"""One request to the model: reserved, streamed, settled, tried again where that can help.

Retries are ours and not the SDK's, because each attempt costs and each is part of the record.
"""

from __future__ import annotations

import importlib
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agent.config import ConfigurationError, Settings
from agent.failures import Action, Failure, ModelError
from agent.prices import Prices
from agent.step import Spend
from agent.streaming import Reply, Streamer

Hear = Callable[..., None]  # `Trajectory.add`
LONGEST_PAUSE_S = 60.0
LEAST_OUTPUT_TOKENS = 4_000
THINKING_TOKENS = 12_000  # beside the text that is asked for
PREAMBLE_TOKENS = 2_000  # what the API adds by itself, for tools above all


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """At most so many input tokens: those that are cached for an hour, and the rest.

    A token is at least a byte, so that a number of bytes is a bound whatever the tokenizer.
    """

    long_lived: int
    rest: int


class Model:
    """The Messages API as the agent uses it."""

    def __init__(self, settings: Settings, prices: Prices) -> None:
        try:
            self._sdk: Any = importlib.import_module("anthropic")
        except ImportError:
            raise ConfigurationError(
                "the claude operator needs the Anthropic SDK: pip install 'avo-pytest[agent]'"
            ) from None
        self.settings, self.prices = settings, prices
        self.version = str(self._sdk.__version__)
        self._listed: dict[str, Any] = {}
        self._streamer = Streamer(self._sdk, settings)

    def preflight(self) -> Mapping[str, Any]:
        """Prices, key and models are there. Raises ConfigurationError with the fix."""
        names = dict.fromkeys((self.settings.model, self.settings.summary_model))
        for name in names:
            self.prices.of(name)
            if self.settings.check_models:
                self._listed[name] = self._streamer.lookup(name)
        return {name: _facts(self._listed.get(name)) for name in names}

    def window_tokens(self) -> int:
        """How large a conversation may grow."""
        most = getattr(self._listed.get(self.settings.model), "max_input_tokens", None)
        return min(self.settings.window_tokens, most or self.settings.window_tokens)

    def ask(
        self,
        prompt: Mapping[str, Any],
        *,
        size: Size,
        spend: Spend,
        hear: Hear,
        model: str | None = None,
        max_tokens: int | None = None,
    ) -> Reply:
        """A whole reply to `system`, `tools` and `messages`. Raises ModelError, Exhausted."""
        body = self._body(prompt, model or self.settings.model, max_tokens)
        for attempt in range(1, self.settings.retries + 2):
            answered = self._attempt(body, size, spend, hear, attempt)
            if isinstance(answered, Reply):
                return answered
            if answered.action is not Action.RETRY or attempt > self.settings.retries:
                raise ModelError(answered)
            time.sleep(self._pause_s(attempt, answered))
        raise AssertionError("unreachable")

    def complete(
        self,
        system: str,
        text: str,
        *,
        spend: Spend,
        model: str | None = None,
        max_tokens: int = 4000,
        hear: Hear | None = None,
    ) -> str:
        """The text that follows one text: for digests and directions. Raises as `ask` does."""
        messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
        prompt = {"system": [{"type": "text", "text": system}], "messages": messages}
        size = Size(long_lived=0, rest=len((system + text).encode()) + PREAMBLE_TOKENS)
        reply = self.ask(
            prompt,
            size=size,
            spend=spend,
            hear=hear or _nobody,
            model=model,
            max_tokens=max_tokens + THINKING_TOKENS,
        )
        if reply.stop == "refusal" or not reply.text.strip():
            why = reply.refusal or f"it said nothing ({reply.stop})"
            raise ModelError(Failure(kind="refused", action=Action.STOP, text=why))
        return reply.text

    def _body(self, prompt: Mapping[str, Any], model: str, most: int | None) -> dict[str, Any]:
        listed = self._listed.get(model)
        limit = getattr(listed, "max_tokens", None) or self.settings.max_output_tokens
        effort = "low" if model == self.settings.summary_model else self.settings.effort
        body = {**prompt, "model": model}
        body["max_tokens"] = min(most or self.settings.max_output_tokens, limit)
        if _supported(listed, "thinking"):
            thinking = {"type": self.settings.thinking, "display": self.settings.thinking_display}
            body["thinking"] = (
                thinking if self.settings.thinking == "adaptive" else {"type": "disabled"}
            )
        if _supported(listed, "effort"):
            body["output_config"] = {"effort": effort}
        return body

    def _attempt(
        self, body: dict[str, Any], size: Size, spend: Spend, hear: Hear, attempt: int
    ) -> Reply | Failure:
        reserved, asked = self._reserve(body, size, spend)
        about = {"attempt": attempt, "model": body["model"], "max_tokens": asked["max_tokens"]}
        hear("request", **about, reserved_usd=reserved.usd)
        answered, usage = self._streamer.stream(asked)
        if isinstance(answered, Reply):
            usd = self.prices.usd(answered.usage, asked=body["model"], answered=answered.model)
            spend.settle(reserved.name, usd=usd)
            hear("response", **_told(answered), usd=usd)
            return answered.priced(usd)
        usd = 0.0
        if answered.billed:  # a stream that broke, counted with the most that it can have cost
            usd = self.prices.of(body["model"]).usd(usage) if usage else reserved.usd
        spend.settle(reserved.name, usd=usd)
        hear("failure", attempt=attempt, **asdict(answered), usd=usd)
        return answered

    def _reserve(
        self, body: dict[str, Any], size: Size, spend: Spend
    ) -> tuple[_Reserved, dict[str, Any]]:
        """Of the most that it can cost; where that is more than is left, of a shorter reply."""
        price = self.prices.of(body["model"])

        def most_usd(output: int) -> float:
            return price.ceiling_usd(long_lived=size.long_lived, rest=size.rest, output=output)

        tokens = body["max_tokens"]
        if most_usd(tokens) > spend.left().get("usd", math.inf):
            tokens = min(tokens, max(LEAST_OUTPUT_TOKENS, tokens // 4))
        name = spend.reserve(f"a request to {body['model']}", usd=most_usd(tokens))
        return _Reserved(name, most_usd(tokens)), {**body, "max_tokens": tokens}

    def _pause_s(self, attempt: int, failure: Failure) -> float:
        if failure.wait_s is not None:
            return failure.wait_s
        doubled = self.settings.backoff_s * 2 ** min(attempt - 1, 16)
        return float(min(LONGEST_PAUSE_S, doubled) * random.uniform(0.5, 1.0))


@dataclass(frozen=True, slots=True)
class _Reserved:
    name: str
    usd: float


def _told(reply: Reply) -> dict[str, Any]:
    return {
        "request_id": reply.request_id,
        "model": reply.model,
        "stop_reason": reply.stop,
        "refusal": reply.refusal,
        "usage": asdict(reply.usage),
        "seconds": reply.seconds,
    }


def _facts(listed: Any) -> dict[str, Any]:
    names = ("id", "lifecycle", "max_input_tokens", "max_tokens")
    return {name: getattr(listed, name, None) for name in names} if listed else {}


def _supported(listed: Any, capability: str) -> bool:
    """Yes where the endpoint does not say."""
    capabilities = getattr(listed, "capabilities", None)
    return capabilities is None or bool(getattr(capabilities, capability).supported)


def _nobody(*_: Any, **__: Any) -> None:
    """Where nobody keeps a record."""
