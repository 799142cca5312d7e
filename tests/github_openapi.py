# SPDX-License-Identifier: MIT
"""Exchanges with the API on loopback, held against GitHub's published OpenAPI description.

The description (13 MB) is no part of this repository. `.ci/run` fetches it and names it in
AVO_GITHUB_OPENAPI:  npm pack @octokit/openapi@23.0.2, generated/api.github.com.json
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

VARIABLE = "AVO_GITHUB_OPENAPI"


@functools.cache
def description(path: str) -> Any:
    """The description with OpenAPI 3.0's `nullable` said as JSON Schema says it."""
    return json.loads(Path(path).read_text(encoding="utf-8"), object_hook=_plain)


def objections(path: str, exchanges: list[Any]) -> Iterator[str]:
    """Each thing in a request of ours, or an answer of the fake, that GitHub's does not have."""
    yield from checked(description(path), exchanges)


def checked(spec: Any, exchanges: list[Any]) -> Iterator[str]:
    """The same against a description at hand."""
    for exchange in exchanges:
        where = f"{exchange.method} {exchange.template} → {exchange.status}"
        operation = spec["paths"].get(exchange.template, {}).get(exchange.method.lower())
        if operation is None:
            yield f"{where}: GitHub has no such operation"
            continue
        yield from (f"{where}: {text}" for text in _query(spec, operation, exchange))
        yield from (f"{where}: request: {text}" for text in _request(spec, operation, exchange))
        if not exchange.scripted:
            yield from (f"{where}: answer: {text}" for text in _answer(spec, operation, exchange))


def _query(spec: Any, operation: Any, exchange: Any) -> Iterator[str]:
    known = [_resolved(spec, p) for p in operation.get("parameters", ())]
    names = {p["name"]: p for p in known if p["in"] == "query"}
    for name, value in exchange.query.items():
        if name not in names:
            yield f"no parameter {name}"
            continue
        schema = names[name]["schema"]
        typed = int(value) if schema.get("type") == "integer" else value
        yield from (f"{name}: {text}" for text in _wrong(spec, schema, typed))


def _request(spec: Any, operation: Any, exchange: Any) -> Iterator[str]:
    if exchange.body is None:
        if operation.get("requestBody", {}).get("required"):
            yield "a body is missing"
        return
    schema = _resolved(spec, operation["requestBody"])["content"]["application/json"]["schema"]
    allowed = _resolved(spec, schema).get("properties")
    if allowed is not None:
        yield from (f"unknown key {k}" for k in sorted(exchange.body.keys() - allowed.keys()))
    yield from _wrong(spec, schema, exchange.body)


def _answer(spec: Any, operation: Any, exchange: Any) -> Iterator[str]:
    responses = operation["responses"]
    found = responses.get(str(exchange.status))
    if found is None:
        if exchange.status < 400:  # errors may always occur
            yield f"GitHub answers {', '.join(responses)}"
        return
    content = _resolved(spec, found).get("content")
    if content is None:
        if exchange.answer is not None:
            yield "a body where GitHub sends none"
        return
    yield from _wrong(spec, content["application/json"]["schema"], exchange.answer)


def _wrong(spec: Any, schema: Any, value: Any) -> Iterator[str]:
    """Through `$ref`s into the whole description."""
    root = {"components": spec["components"], "allOf": [schema]}
    for error in jsonschema.Draft7Validator(root).iter_errors(value):
        place = "/".join(map(str, error.absolute_path))
        yield f"{place or 'all of it'}: {error.message[:160]}"


def _resolved(spec: Any, found: Any) -> Any:
    while "$ref" in found:
        target = spec
        for part in found["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        found = target
    return found


def _plain(raw: dict[str, Any]) -> dict[str, Any]:
    if raw.pop("nullable", None) is not True:
        return raw
    if "enum" in raw:
        raw["enum"] = [*raw["enum"], None]
    if isinstance(raw.get("type"), str):
        return {**raw, "type": [raw["type"], "null"]}
    return {"anyOf": [raw, {"type": "null"}]}
