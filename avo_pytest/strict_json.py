# SPDX-License-Identifier: MIT
"""From JSON to frozen dataclasses, exactly: every key, none unknown, each of its annotated type.

A record may come from anywhere, so that whatever is wrong is a ValueError with a sentence.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any

Check = Callable[[Any], bool]
MOST_SHOWN = 40
MOST_DIGITS = 20  # 64 bits
MOST_DEPTH = 64  # what is read must also be copied and written, which recurses deeper


def loads(text: str | bytes) -> Any:
    """JSON as its standard has it: no NaN, no key twice, no nesting or number beyond reason."""
    try:
        found = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse,
            parse_int=_int,
            parse_float=_float,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _deeper_than(found, MOST_DEPTH):
        raise ValueError("nested too deeply")
    return found


def build(cls: Any, raw: Any, **parsed: Any) -> Any:
    """`cls(**raw)`, with `parsed` for the fields that are not plain."""
    if not isinstance(raw, dict):
        raise ValueError(f"{cls.__name__}: {_short(raw)} is not an object")
    kinds = _kinds(cls)
    if raw.keys() != kinds.keys():
        odd = sorted(raw.keys() ^ kinds.keys())
        raise ValueError(f"{cls.__name__}: missing or unknown keys {', '.join(odd)[:200]}")
    try:
        values = {k: _value(kinds, k, v) for k, v in raw.items() if k not in parsed}
    except ValueError as error:
        raise ValueError(f"{cls.__name__}: {error}") from None
    return cls(**{**values, **parsed})


def list_of(raw: Mapping[str, Any], name: str, kind: type[Any]) -> list[Any]:
    """The list under a key, of dicts or strings. Raises ValueError."""
    found = raw.get(name)
    if not isinstance(found, list) or not all(isinstance(x, kind) for x in found):
        what = "objects" if kind is dict else "texts"
        raise ValueError(f"{name} is missing or not a list of {what}")
    return found


def enum_of(cls: type[StrEnum], value: Any) -> StrEnum:
    """The member with this value. Raises ValueError naming what is allowed."""
    if value not in list(cls):
        raise ValueError(f"{_short(value)} is not one of {', '.join(cls)}")
    return cls(value)


def _value(kinds: Mapping[str, str], name: str, value: Any) -> Any:
    kind = kinds[name]
    if not _FITS[kind](value):
        raise ValueError(f"{name} is {_short(value)}, not {kind}")
    return _tuple(value) if isinstance(value, list) else value


def _tuple(value: list[Any]) -> tuple[Any, ...]:
    return tuple(_tuple(x) if isinstance(x, list) else x for x in value)


@functools.cache
def _kinds(cls: Any) -> dict[str, str]:
    """Field → its annotation as written."""
    return {f.name: str(f.type) for f in fields(cls)}


def _is(*kinds: type[Any]) -> Check:
    return lambda value: type(value) in kinds  # exactly: true is not 1


def _all(outer: type[Any], *kinds: type[Any]) -> Check:
    def check(value: Any) -> bool:
        inner = value.values() if type(value) is dict else value
        return type(value) is outer and all(type(x) in kinds for x in inner)

    return check


def _rows(value: Any) -> bool:
    return type(value) is list and all(map(_all(list, float, int), value))


_FITS: dict[str, Check] = {
    "str": _is(str),
    "bool": _is(bool),
    "int": _is(int),
    "float": _is(float, int),
    "int | None": _is(int, type(None)),
    "float | None": _is(float, int, type(None)),
    "tuple[str, ...]": _all(list, str),
    "tuple[int, ...]": _all(list, int),
    "tuple[float, ...]": _all(list, float, int),
    "tuple[tuple[float, ...], ...]": _rows,
    "Mapping[str, Any]": _is(dict),
    "Mapping[str, str]": _all(dict, str),
    "Mapping[str, float]": _all(dict, float, int),
}


def _deeper_than(value: Any, depth: int) -> bool:
    """Whether containers lie in more than `depth` others. Level by level, without recursion."""
    level = [value]
    for _ in range(depth + 1):
        held = [
            x.values() if isinstance(x, dict) else x for x in level if isinstance(x, dict | list)
        ]
        level = [x for inner in held for x in inner if isinstance(x, dict | list)]
    return bool(level)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _int(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _float(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{_short(text)} is beyond any number that was measured")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key is there twice among {', '.join(found)[:200]}")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"
