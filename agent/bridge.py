# SPDX-License-Identifier: MIT
"""A step's tools for a command: a Unix socket that answers `tool NAME JSON`, one call at a time."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

from agent.budget import Exhausted
from agent.step import Step, Submission
from agent.trajectory import Trajectory

MOST_BYTES = 4 << 20
CLIENT = """\
#!{python} -IS
# One call of a step's tool: tool NAME ['{{"key": "value"}}']; without arguments: what there is.
import json, socket, sys
name, given = (sys.argv[1:] + ["", "{{}}"])[:2] if sys.argv[1:] else ("", "{{}}")
try:
    given = json.loads(given)
except ValueError as error:
    sys.exit(f"tool: the input is no JSON: {{error}}")
with socket.socket(socket.AF_UNIX) as server:
    server.connect("{path}")
    server.sendall(json.dumps({{"name": name, "input": given}}).encode())
    server.shutdown(socket.SHUT_WR)
    answer = b""
    while chunk := server.recv(65536):
        answer += chunk
answer = json.loads(answer)
print(answer["text"])
sys.exit(bool(answer["is_error"]))
"""


class Bridge:
    """Serves until it is closed. `submission` and `exhausted` are what came of the calls."""

    def __init__(self, path: Path, step: Step, log: Trajectory) -> None:
        self.submission: Submission | None = None
        self.exhausted = ""
        self.attempts = 0
        self._step, self._log = step, log
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        with socket.socket(socket.AF_UNIX) as last:  # wakes the thread out of `accept`
            path = self._server.getsockname()
            self._server.close()
            try:
                last.connect(path)
            except OSError:
                return

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client:
                try:
                    client.settimeout(30)
                    answer = self._answer(_received(client))
                    client.sendall(json.dumps(answer).encode())
                except OSError:
                    continue

    def _answer(self, text: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(text)
            name, given = str(asked["name"]), asked["input"]
        except (ValueError, TypeError, KeyError) as error:
            return {"text": f"no request: {error}", "is_error": True}
        tools = {tool.name: tool for tool in self._step.tools}
        if name not in tools:
            return {"text": _listed(tools), "is_error": bool(name)}
        try:
            result = tools[name].run(given)
        except Exhausted as error:
            self.exhausted = str(error)
            return {"text": f"the run's budget is spent: {error}", "is_error": True}
        self._log.add("tool", talk=1, name=name, input=given, text=result.text,
                      is_error=result.is_error, more=result.more)  # fmt: skip
        self.attempts += "verdict" in result.facts
        if result.submission is not None:
            self.submission = result.submission
        return {"text": result.text, "is_error": result.is_error}


def client(python: str, path: str) -> str:
    """The program `tool` for the command's PATH."""
    return CLIENT.format(python=python, path=path)


def _received(client: socket.socket) -> bytes:
    text = b""
    while len(text) < MOST_BYTES and (chunk := client.recv(65_536)):
        text += chunk
    return text


def _listed(tools: dict[str, Any]) -> str:
    lines = [
        f"tool {name} '{json.dumps(tool.schema['properties'], sort_keys=True)}'\n  "
        f"{tool.description}"
        for name, tool in sorted(tools.items())
    ]
    return "\n".join(lines)
