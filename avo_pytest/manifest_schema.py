# SPDX-License-Identifier: MIT
"""From the text of a `kernel.toml` to a table that obeys the JSON Schema; errors are sentences."""

from __future__ import annotations

import functools
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema

from avo_pytest.specification import ManifestError, did_you_mean

SCHEMA = Path(__file__).resolve().parent / "schemas" / "kernel.schema.json"
MAX_BYTES = 64 * 1024
_ORDER = ("const", "additionalProperties", "required")  # the most telling error first
_NOT_OFFERED = {
    "interleave": "interleaved layouts are not offered; remove the key",
    "im2col": "im2col maps are not offered, only tiled ones",
    "access_policy": "L2 access-policy windows are not offered",
    "priority": "stream priorities are not offered",
    "min_blocks": "write __launch_bounds__ in the source instead",
}
_TYPES = {
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}


def read(path: Path) -> dict[str, Any]:
    """The manifest's table. Raises ManifestError for the first thing that is wrong."""
    if path.is_symlink() or not path.is_file():
        raise ManifestError(path, "", "no such regular file (links are not followed)")
    if path.stat().st_size > MAX_BYTES:
        raise ManifestError(path, "", f"larger than {MAX_BYTES} bytes")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(path, "", f"not valid TOML: {error}") from None
    errors = list(_validator().iter_errors(raw))
    if errors:
        first = min(errors, key=_rank)
        raise ManifestError(path, key_of(first.absolute_path), _sentence(first))
    return raw


def key_of(parts: Iterable[str | int]) -> str:
    """`launch[0].grid[1]` for ("launch", 0, "grid", 1)."""
    key = ""
    for part in parts:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key


@functools.cache
def _validator() -> Any:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def _rank(error: Any) -> tuple[int, int]:
    telling = _ORDER.index(error.validator) if error.validator in _ORDER else len(_ORDER)
    return telling, len(error.absolute_path)


def _sentence(error: Any) -> str:
    value, wanted = error.instance, error.validator_value
    match error.validator:
        case "additionalProperties":
            return _unknown_key(value, error.schema.get("properties", {}))
        case "required":
            missing = next(key for key in wanted if key not in value)
            return f"the key {missing!r} is missing"
        case "const":
            return f"{value!r}: this version reads {wanted!r} only"
        case "enum":
            return f"{value!r} is not one of {', '.join(map(repr, wanted))}"
        case "type":
            kinds = wanted if isinstance(wanted, list) else [wanted]
            return f"{value!r} must be {' or '.join(_TYPES[k] for k in kinds)}"
        case "pattern":
            return f"{value!r} does not match {wanted}"
        case "maxItems" | "maxProperties":
            return f"has {len(value)} entries; at most {wanted} are allowed"
        case "minItems" | "minProperties":
            return f"has {len(value)} entries; at least {wanted} is needed"
        case "maxLength":
            return f"{value[:40]!r}… is longer than {wanted} characters"
        case "minimum" | "maximum":
            return f"{value} is beyond the {error.validator} of {wanted}"
    return str(error.message)


def _unknown_key(table: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    key = next(k for k in table if k not in known)
    if key in _NOT_OFFERED:
        return f"unknown key {key!r}: {_NOT_OFFERED[key]}"
    return f"unknown key {key!r}{did_you_mean(key, known)}; known keys: {', '.join(known)}"
