# SPDX-License-Identifier: MIT
"""The table of failures, on the SDK's own errors as they come at once and inside a stream."""

from __future__ import annotations

import pytest

anthropic = pytest.importorskip("anthropic", reason="the agent extra is not installed")

import httpx2  # noqa: E402

from agent.failures import Action, of_status  # noqa: E402

TABLE = [  # status, type in the body, message → kind, what is done
    (429, "rate_limit_error", "Number of requests", "rate limited", Action.RETRY),
    (529, "overloaded_error", "Overloaded", "overloaded", Action.RETRY),
    (200, "overloaded_error", "Overloaded", "overloaded", Action.RETRY),  # inside a stream
    (200, "rate_limit_error", "Slow down", "rate limited", Action.RETRY),
    (200, "api_error", "Internal server error", "server error", Action.RETRY),
    (200, "invalid_request_error", "Odd", "request refused", Action.STOP),
    (200, "brand_new_error", "Never seen", "server error", Action.RETRY),
    (500, "api_error", "Internal server error", "server error", Action.RETRY),
    (502, "", "<html>bad gateway</html>", "server error", Action.RETRY),
    (503, "", "", "overloaded", Action.RETRY),
    (504, "timeout_error", "Timed out", "timed out", Action.RETRY),
    (408, "", "", "timed out", Action.RETRY),
    (401, "authentication_error", "invalid x-api-key", "not authenticated", Action.STOP),
    (402, "billing_error", "Payment required", "out of credit", Action.STOP),
    (403, "permission_error", "Not allowed", "not permitted", Action.STOP),
    (404, "not_found_error", "model: x", "not found", Action.STOP),
    (413, "request_too_large", "Too large", "request too large", Action.SHRINK),
    (413, "", "<html>nginx</html>", "request too large", Action.SHRINK),
    (
        400,
        "invalid_request_error",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "context exceeded",
        Action.SHRINK,
    ),
    (
        400,
        "invalid_request_error",
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000",
        "context exceeded",
        Action.SHRINK,
    ),
    (
        400,
        "invalid_request_error",
        "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a"
        " different conversation.",
        "thinking out of place",
        Action.FORGET,
    ),
    (
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the API",
        "out of credit",
        Action.STOP,
    ),
    (400, "invalid_request_error", "tools.0: odd", "request refused", Action.STOP),
    (418, "", "teapot", "unexpected answer", Action.STOP),
]


def error(status, kind, message, **headers):
    request = httpx2.Request("POST", "https://api.example/v1/messages")
    response = httpx2.Response(status, request=request, headers={"request-id": "req_1", **headers})
    body = {"type": "error", "error": {"type": kind, "message": message}} if kind else message
    return anthropic.APIStatusError(message, response=response, body=body)


@pytest.mark.parametrize(("status", "kind", "message", "named", "action"), TABLE)
def test_every_failure_has_its_answer(status, kind, message, named, action):
    failure = of_status(error(status, kind, message), began=status == 200)
    assert (failure.kind, failure.action) == (named, action)
    assert (failure.status, failure.request_id) == (status, "req_1")
    assert failure.billed == (status == 200)
    assert message in str(failure)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "86400"}, 120.0),  # a day is no pause
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-1"}, 0.0),
        ({}, None),
    ],
)
def test_the_server_says_how_long_to_wait(headers, wait_s):
    failure = of_status(error(429, "rate_limit_error", "slow", **headers), began=False)
    assert failure.wait_s == wait_s


def test_a_body_of_a_megabyte_is_told_in_a_line():
    failure = of_status(error(500, "api_error", "x" * 1_000_000), began=False)
    assert len(failure.text) == 400
