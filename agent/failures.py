# SPDX-License-Identifier: MIT
"""What can go wrong with a request, and what is done about it: one table.

Errors come by HTTP status or, in the middle of a stream that began well, with status 200 and a
body: what decides is the error's type in the body, then its status, then its text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MOST_SHOWN = 400
LONGEST_WAIT_S = 120.0


class Action(StrEnum):
    """What follows a failure."""

    RETRY = "retry"  # the same again, after a while
    SHRINK = "shrink"  # a fresh conversation that begins with a handoff
    RESEND = "resend"  # a note to the model, then again
    FORGET = "forget"  # without the thinking so far, then again
    STOP = "stop"  # the step ends; everything so far is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One request that gave no usable reply. `status` 0: it never got one."""

    kind: str
    action: Action
    text: str
    status: int = 0
    request_id: str = ""
    wait_s: float | None = None  # as the server asks
    billed: bool = False  # the stream had begun, so tokens were spent

    def __str__(self) -> str:
        status = f" ({self.status})" if self.status else ""
        return f"{self.kind}{status}: {self.text}"


class ModelError(Exception):
    """The model gave no usable reply; nothing more is tried. `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Rule:
    """The first rule that fits decides; an empty field fits everything."""

    kind: str
    action: Action
    error: str = ""  # the body's error type
    statuses: tuple[int, ...] = ()
    text: str = ""  # somewhere in the message, lower case


RULES = (
    Rule("context exceeded", Action.SHRINK, text="prompt is too long"),
    Rule("context exceeded", Action.SHRINK, text="exceed context limit"),
    Rule("context exceeded", Action.SHRINK, text="context window"),
    Rule("thinking out of place", Action.FORGET, text="bound to a different conversation"),
    Rule("out of credit", Action.STOP, text="credit balance is too low"),
    Rule("rate limited", Action.RETRY, error="rate_limit_error"),
    Rule("overloaded", Action.RETRY, error="overloaded_error"),
    Rule("server error", Action.RETRY, error="api_error"),
    Rule("timed out", Action.RETRY, error="timeout_error"),
    Rule("not authenticated", Action.STOP, error="authentication_error"),
    Rule("out of credit", Action.STOP, error="billing_error"),
    Rule("not permitted", Action.STOP, error="permission_error"),
    Rule("not found", Action.STOP, error="not_found_error"),
    Rule("request too large", Action.SHRINK, error="request_too_large"),
    Rule("request refused", Action.STOP, error="invalid_request_error"),
    Rule("rate limited", Action.RETRY, statuses=(429,)),
    Rule("overloaded", Action.RETRY, statuses=(503, 529)),
    Rule("timed out", Action.RETRY, statuses=(408, 504)),
    Rule("server error", Action.RETRY, statuses=(409, 500, 502, 520, 522, 524)),
    Rule("not authenticated", Action.STOP, statuses=(401,)),
    Rule("out of credit", Action.STOP, statuses=(402,)),
    Rule("not permitted", Action.STOP, statuses=(403,)),
    Rule("not found", Action.STOP, statuses=(404,)),
    Rule("request too large", Action.SHRINK, statuses=(413,)),
    Rule("request refused", Action.STOP, statuses=(400, 422)),
    Rule("server error", Action.RETRY, statuses=(200,)),  # an error event that we do not know
)
UNKNOWN = Rule("unexpected answer", Action.STOP)


def of_status(error: Any, *, began: bool) -> Failure:
    """Of an `anthropic.APIStatusError`, whether it came at once or inside a stream."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error")
    inner = inner if isinstance(inner, Mapping) else {}
    text = str(inner.get("message") or error.message)
    status = int(error.status_code)
    kind = str(inner.get("type", ""))
    rule = next((r for r in RULES if _fits(r, kind, status, text.lower())), UNKNOWN)
    return Failure(
        kind=rule.kind,
        action=rule.action,
        text=text[:MOST_SHOWN],
        status=status,
        request_id=error.request_id or "",
        wait_s=_wait_s(error.response.headers),
        billed=began,
    )


def of_connection(text: str, *, kind: str, began: bool, request_id: str = "") -> Failure:
    """Of a connection that was not made, went silent, ended early or took too long."""
    return Failure(
        kind=kind,
        action=Action.RETRY,
        text=text[:MOST_SHOWN],
        request_id=request_id,
        billed=began,
    )


def _fits(rule: Rule, error: str, status: int, text: str) -> bool:
    return (
        (not rule.error or rule.error == error)
        and (not rule.statuses or status in rule.statuses)
        and rule.text in text
    )


def _wait_s(headers: Mapping[str, str]) -> float | None:
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return min(LONGEST_WAIT_S, max(0.0, float(headers[name]) * unit_s))
        except (KeyError, ValueError):
            continue  # absent, or a date
    return None
