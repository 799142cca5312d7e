# SPDX-License-Identifier: MIT
"""One attempt at one request through the SDK: a whole reply, or the failure as a value."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from agent.config import EFFORTS, ConfigurationError, Settings
from agent.failures import Action, Failure, of_connection, of_status
from agent.prices import Usage

UNPARSABLE = "Unable to parse tool parameter JSON"  # how the SDK begins that ValueError
CONNECT_S = 20.0
MOST_TOKENS_A_SECOND = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole message. `content`: blocks exactly as they go back."""

    content: tuple[dict[str, Any], ...]
    stop: str
    usage: Usage
    model: str
    request_id: str
    seconds: float
    usd: float = 0.0
    refusal: str = ""

    @property
    def text(self) -> str:
        """What it says, without thinking and calls."""
        return "\n".join(b["text"] for b in self.content if b["type"] == "text")

    @property
    def calls(self) -> tuple[dict[str, Any], ...]:
        """The tools it wants."""
        return tuple(b for b in self.content if b["type"] == "tool_use")

    def priced(self, usd: float) -> Reply:
        """The same with what it cost."""
        return replace(self, usd=usd)


class Streamer:
    """A client of the SDK without its retries."""

    def __init__(self, sdk: Any, settings: Settings) -> None:
        import httpx2

        self._sdk, self._http, self._settings = sdk, httpx2, settings
        timeout = httpx2.Timeout(settings.idle_s, connect=min(CONNECT_S, settings.idle_s))
        self._client = sdk.Anthropic(max_retries=0, timeout=timeout)

    def lookup(self, model: str) -> Any:
        """The model as the models endpoint lists it. Raises ConfigurationError with the fix."""
        try:
            listed = self._client.with_options(max_retries=2).models.retrieve(model)
        except self._sdk.NotFoundError:
            raise ConfigurationError(
                f"the API has no model {model!r}; it has {self._names()}. Set model and"
                " summary_model in [tool.avo.agent]"
            ) from None
        except self._sdk.APIConnectionError as error:
            raise ConfigurationError(f"cannot reach {self._client.base_url}: {error}") from None
        except self._sdk.APIStatusError as error:
            raise ConfigurationError(f"asking for {model!r}: {_keyless(error)}") from None
        except (TypeError, self._sdk.CredentialsError):
            raise ConfigurationError(
                "no API key. Fix: export ANTHROPIC_API_KEY=…, or use --operator sweep, which needs"
                " none"
            ) from None
        self._check(model, listed)
        return listed

    def stream(self, body: dict[str, Any]) -> tuple[Reply | Failure, Usage | None]:
        """The reply or what went wrong, and the most tokens that a stream which broke can cost."""
        began_at, late, stream = time.monotonic(), threading.Event(), None
        answered: Reply | Failure | None
        try:
            with self._client.messages.stream(**body) as stream:
                with self._deadline(stream, late):
                    for _ in stream:
                        pass
                answered = self._reply(stream, time.monotonic() - began_at)
        except Exception as error:
            answered = self._failure(error, stream)
            if answered is None:
                raise
        seconds = time.monotonic() - began_at
        if isinstance(answered, Failure) and late.is_set():
            answered = replace(answered, kind="slow stream", action=Action.RETRY)
        return answered, _at_most(_usage(stream), seconds, body["max_tokens"])

    def _reply(self, stream: Any, seconds: float) -> Reply | Failure:
        message = stream.current_message_snapshot
        request_id = stream.request_id or ""
        if message.stop_reason is None:
            text = f"no end of the message after {seconds:.0f} s"
            kind = "dropped stream"
            return of_connection(text, kind=kind, began=True, request_id=request_id)
        return Reply(
            content=tuple(b for b in (block.to_dict() for block in message.content) if _full(b)),
            stop=message.stop_reason,
            usage=Usage.of(message.usage),
            model=message.model,
            request_id=request_id,
            seconds=round(seconds, 3),
            refusal=_refusal(message),
        )

    def _failure(self, error: Exception, stream: Any) -> Failure | None:
        began = _usage(stream) is not None
        request_id = getattr(stream, "request_id", None) or ""
        if isinstance(error, self._sdk.APIStatusError):
            return of_status(error, began=began)
        kinds = {
            "timed out": self._sdk.APITimeoutError,
            "no connection": self._sdk.APIConnectionError,
            "silent stream": self._http.TimeoutException,
            "dropped stream": (self._http.HTTPError, self._http.StreamError, OSError),
        }
        for kind, classes in kinds.items():
            if isinstance(error, classes):
                text = str(error) or type(error).__name__
                return of_connection(text, kind=kind, began=began, request_id=request_id)
        if isinstance(error, (ValueError, RuntimeError, AssertionError)) and stream is not None:
            return _malformed(str(error), request_id)
        return None

    @contextlib.contextmanager
    def _deadline(self, stream: Any, late: threading.Event) -> Iterator[None]:
        """Pings keep a stream alive for ever, and the SDK swallows them: time is kept outside."""

        def end() -> None:
            late.set()
            network = stream.response.extensions.get("network_stream")
            raw = network.get_extra_info("socket") if network is not None else None
            with contextlib.suppress(OSError):
                if raw is not None:
                    raw.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self._settings.request_minutes * 60, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _names(self) -> str:
        with contextlib.suppress(self._sdk.APIError):
            return ", ".join(listed.id for listed in self._client.models.list(limit=100))
        return "a list that cannot be read now"

    def _check(self, model: str, listed: Any) -> None:
        if listed.lifecycle == "retired":
            raise ConfigurationError(f"{model!r} is retired; the API has {self._names()}")
        effort = getattr(listed.capabilities, "effort", None)
        if model != self._settings.model or effort is None or not effort.supported:
            return
        able = [e for e in EFFORTS if getattr(getattr(effort, e, None), "supported", False)]
        if self._settings.effort not in able:
            raise ConfigurationError(
                f"{model!r} has no effort {self._settings.effort!r}: {', '.join(able)}"
            )


def _full(block: dict[str, Any]) -> bool:
    """A blank text comes at times, and is refused when it goes back."""
    return bool(block["type"] != "text" or block["text"].strip())


def _usage(stream: Any) -> Usage | None:
    """As far as the stream told; None before its first event."""
    if stream is None:
        return None
    with contextlib.suppress(AssertionError, AttributeError):
        return Usage.of(stream.current_message_snapshot.usage)
    return None


def _at_most(usage: Usage | None, seconds: float, limit: int) -> Usage | None:
    """What went in is told at once; what came out only at the end, but no model is that fast."""
    if usage is None:
        return None
    fastest = usage.output + math.ceil(seconds * MOST_TOKENS_A_SECOND) + 1
    return replace(usage, output=min(limit, fastest))


def _refusal(message: Any) -> str:
    if message.stop_reason != "refusal":
        return ""
    details = message.stop_details
    parts = (getattr(details, "category", None), getattr(details, "explanation", None))
    return ": ".join(str(p) for p in parts if p) or "no reason given"


def _malformed(text: str, request_id: str) -> Failure:
    """Input of a call that is no JSON loses the reply; any other nonsense is a broken stream."""
    if not text.startswith(UNPARSABLE):
        kind = "dropped stream"
        return of_connection(text, kind=kind, began=True, request_id=request_id)
    return Failure(
        kind="malformed tool input",
        action=Action.RESEND,
        text=f"the input of a call was no JSON ({_where(text)})",
        status=200,
        request_id=request_id,
        billed=True,
    )


def _where(text: str) -> str:
    return text.split(" JSON: ")[0].rpartition("Error: ")[2].strip(" .")[:100]


def _keyless(error: Any) -> str:
    """The message, with the fix where it is about the key."""
    if error.status_code in (401, 403):
        return (
            f"{error.api_message or error.message}. Fix: export ANTHROPIC_API_KEY=… (a valid one)"
        )
    return str(error.api_message or error.message)
