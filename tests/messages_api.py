# SPDX-License-Identifier: MIT
"""A scripted Messages API on loopback: real HTTP, real server-sent events, real cache arithmetic.

    with MessagesApi([answer(think("…"), call("edit", {"path": "a.h"})), answer("Done.")]) as api:
        environment = {**os.environ, **api.environment}   # ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY
        ...
    assert api.requests[0]["model"] == "claude-opus-5-5"

A script is a list, taken in order, of `Answer`s or of functions `request -> Answer` (the request as
a dict, as it came); or one function for every request, which a run that is killed and resumed
wants: it decides by what is in the request (`last_text(request)`, `results(request)`). `others`
gives other models (the summary model) scripts of their own; without one they share the first.
A script that is used up answers 400, so that a test cannot hang or pass by accident.

An `answer` is made of texts, `think(…)` and `call(…)`; its stop reason follows from that. Faults:
`failure(status, …)` before the stream, and in it `overloaded(after=2)`, `dropped`, `stalled`,
`trickling`; `refusal()`; `answer(…, stop="pause_turn")`; `call("edit", raw='{"pa')` is malformed
input, and with `stop="max_tokens"` a call that was cut off. Requests the real API refuses (see
messages_prompt.py) and prompts beyond `window_tokens` are refused here too. `usage` reports what
the prefix cache really saved; `api.advance(seconds)` moves its clock. `api.usages` keeps every one.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from avo_pytest.loading import _module

prompt = _module(Path(__file__).with_name("messages_prompt.py"))
script = _module(Path(__file__).with_name("messages_script.py"))
Answer, answer, call, think = script.Answer, script.answer, script.call, script.think
failure, overloaded, dropped = script.failure, script.overloaded, script.dropped
stalled, trickling, refusal = script.stalled, script.trickling, script.refusal
results, last_text = script.results, script.last_text

KEY = "sk-ant-loopback-0123456789abcdef"
MODELS = ("claude-opus-5-5", "claude-haiku-5-5")
Request = dict[str, Any]
Step = Any  # an Answer, or a function that makes one of a request
Script = Sequence[Step] | Callable[[Request], Any]


class MessagesApi:
    """The server; a context manager. Everything it saw is in `requests`, `headers`, `usages`."""

    def __init__(
        self,
        steps: Script,
        *,
        others: Mapping[str, Script] | None = None,
        models: Sequence[str] = MODELS,
        window_tokens: int = 1_000_000,
    ) -> None:
        self.models, self.window_tokens = tuple(models), window_tokens
        self.requests: list[Request] = []
        self.headers: list[dict[str, str]] = []
        self.usages: list[dict[str, Any]] = []
        self.closing = threading.Event()
        self._scripts = {name: _steps(s) for name, s in {"": steps, **(others or {})}.items()}
        self._store: dict[str, float] = {}
        self._numbers = itertools.count(1)
        self._ahead_s = 0.0
        self._paused = False
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.api = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.environment = {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": KEY}

    def __enter__(self) -> MessagesApi:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def advance(self, seconds: float) -> None:
        """Let time pass for the cache."""
        self._ahead_s += seconds

    def read_share(self, model: str = MODELS[0]) -> float:
        """Of all input tokens so far, the part read from the cache."""
        mine = [u for u in self.usages if u["model"] == model]
        read = sum(u["cache_read_input_tokens"] for u in mine)
        written = sum(u["input_tokens"] + u["cache_creation_input_tokens"] for u in mine)
        return read / max(1, read + written)

    def take(self, request: Request, headers: dict[str, str]) -> tuple[Any, dict[str, Any], str]:
        """The answer to a request, its usage at the start, its id."""
        with self._lock:
            number = f"req_{next(self._numbers):06d}"
            self.requests.append(request)
            self.headers.append(headers)
            reply = self._checked(request)
            self._paused = reply.stop == "pause_turn"
            if reply.status != 200:
                return reply, {}, number
            cached = prompt.cached(prompt.blocks(request), self._store, time.time() + self._ahead_s)
            usage = _usage(cached)
            self.usages.append({**usage, "model": request["model"], "number": number})
            return reply, usage, number

    def _checked(self, request: Request) -> Any:
        if request["model"] not in self.models:
            return failure(404, f"not_found_error: model: {request['model']}")
        try:
            prompt.check(request, paused=self._paused)
        except prompt.Rejected as error:
            return failure(400, f"invalid_request_error: {error}")
        tokens = prompt.blocks(request)[-1].tokens
        if tokens > self.window_tokens:
            text = f"prompt is too long: {tokens} tokens > {self.window_tokens} maximum"
            return failure(400, f"invalid_request_error: {text}")
        steps = self._scripts.get(request["model"], self._scripts[""])
        step = next(steps, None)
        if step is None:
            return failure(400, "invalid_request_error: the script is used up")
        return step(request) if callable(step) else step


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.0: a connection a request, closed at its end, so that a drop is a drop."""

    def do_GET(self) -> None:
        api: MessagesApi = self.server.api  # type: ignore[attr-defined]
        name = self.path.split("?")[0].removeprefix("/v1/models").strip("/")
        if not self._authorized():
            return
        if not name:
            page = {"data": [_model(m, api.window_tokens) for m in api.models], "has_more": False}
            self._json(200, page, {})
        elif name in api.models:
            self._json(200, _model(name, api.window_tokens), {})
        else:
            self._json(404, _error(f"not_found_error: model: {name}"), {})

    def do_POST(self) -> None:
        api: MessagesApi = self.server.api  # type: ignore[attr-defined]
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._authorized():
            return
        reply, usage, number = api.take(request, dict(self.headers))
        if reply.status != 200:
            headers = {**reply.headers, "request-id": number}
            self._json(reply.status, _error(reply.error), headers)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("request-id", number)
        self.end_headers()
        with suppress(OSError):  # the client went away
            for place, event in enumerate(script.events(request, reply, usage, number)):
                if reply.fault and place == reply.after:
                    self._fault(reply, api)
                    return
                self._event(event)

    def _fault(self, reply: Any, api: MessagesApi) -> None:
        if reply.fault == "overloaded":
            self._event(_error("overloaded_error: Overloaded"))
        elif reply.fault == "stalled":
            api.closing.wait(reply.seconds)
        elif reply.fault == "trickling":
            end = time.monotonic() + reply.seconds
            while time.monotonic() < end and not api.closing.wait(0.02):
                self._event({"type": "ping"})

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def _authorized(self) -> bool:
        given = self.headers.get("authorization", "") + self.headers.get("x-api-key", "")
        if KEY not in given:
            self._json(401, _error("authentication_error: invalid x-api-key"), {})
        return KEY in given

    def _json(self, status: int, value: object, headers: Mapping[str, str]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, text)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def _usage(cached: Any) -> dict[str, Any]:
    written = cached.written_1h + cached.written_5m
    return {
        "input_tokens": cached.total - cached.read - written,
        "cache_read_input_tokens": cached.read,
        "cache_creation_input_tokens": written,
        "cache_creation": {
            "ephemeral_1h_input_tokens": cached.written_1h,
            "ephemeral_5m_input_tokens": cached.written_5m,
        },
        "output_tokens": 1,
    }


def _model(name: str, window_tokens: int) -> dict[str, Any]:
    yes, no = {"supported": True}, {"supported": False}
    efforts = dict.fromkeys(("low", "medium", "high", "xhigh", "max"), yes)
    kinds = {"adaptive": yes, "between_tools": no, "disabled": no, "enabled": no}
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2026-09-22T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": window_tokens,
        "max_tokens": 128_000,
        "capabilities": {
            "effort": {"supported": True, **efforts},
            "thinking": {"supported": True, "types": kinds},
        },
    }


def _error(text: str) -> dict[str, Any]:
    kind, _, message = text.partition(": ")
    return {"type": "error", "error": {"type": kind, "message": message or kind}}


def _steps(given: Script) -> Iterator[Step]:
    return itertools.repeat(given) if callable(given) else iter(given)
