# SPDX-License-Identifier: MIT
"""Checked integer expressions of `kernel.toml`: names, arithmetic, comparisons, a few functions.

Every intermediate value fits into int64, there is no power or shift, and a text has at most 500
characters, so an expression can neither run long nor grow. `//` and `%` round down.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import simpleeval

MAX_LENGTH = 500
INT64 = range(-(2**63), 2**63)

Value = int | bool


class ExpressionError(ValueError):
    """An expression that cannot be read or evaluated; `reason` says why, without the text."""

    def __init__(self, text: int | str, reason: str) -> None:
        super().__init__(f"{text!r}: {reason}")
        self.text, self.reason = text, reason


def evaluate(text: int | str, names: Mapping[str, int]) -> int:
    """The integer that `text` (or a plain integer) stands for. Raises ExpressionError."""
    value = _value(text, names)
    if type(value) is bool:
        raise ExpressionError(text, "gives true or false, not an integer; use select(…, 1, 0)")
    return value


def holds(text: int | str, names: Mapping[str, int]) -> bool:
    """Whether a condition is true (or a non-zero integer). Raises ExpressionError."""
    return bool(_value(text, names))


def names_of(text: int | str) -> frozenset[str]:
    """Every name the expression uses, without functions. Raises ExpressionError."""
    if isinstance(text, int):
        return frozenset()
    return frozenset(n.id for n in ast.walk(_parse(text)) if isinstance(n, ast.Name)) - FUNCTIONS


def _value(text: int | str, names: Mapping[str, int]) -> Value:
    tree = _parse(str(text))
    evaluator = simpleeval.SimpleEval(operators=_OPERATORS, functions={}, names=dict(names))
    evaluate_node = functools.partial(evaluator.eval, str(text))
    evaluator.nodes = {node: evaluator.nodes[node] for node in _NODES}
    evaluator.nodes[ast.Call] = functools.partial(_call, evaluate_node)
    try:
        value = evaluate_node(tree)
    except ZeroDivisionError:
        raise ExpressionError(text, "division by zero") from None
    except simpleeval.NameNotDefined as error:
        raise ExpressionError(text, f"unknown name {error.name!r}") from None
    except (simpleeval.InvalidExpression, ArithmeticError, TypeError) as error:
        raise ExpressionError(text, str(error)) from None
    except RecursionError:
        raise ExpressionError(text, "nested too deeply") from None
    if type(value) not in (int, bool):
        raise ExpressionError(text, "does not give an integer")
    return value if type(value) is bool else _fits(value)


@functools.lru_cache(maxsize=1024)  # the same few texts for every configuration
def _parse(text: str) -> ast.expr:
    if len(text) > MAX_LENGTH:
        raise ExpressionError(text[:40] + "…", f"longer than {MAX_LENGTH} characters")
    try:
        tree = ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        detail = error.msg if isinstance(error, SyntaxError) else "cannot be parsed"
        raise ExpressionError(text, f"not an expression ({detail})") from None
    for node in ast.walk(tree):
        _check_node(text, node)
    return tree


def _check_node(text: str, node: ast.AST) -> None:
    if isinstance(node, ast.Call):
        _check_call(text, node)
    elif isinstance(node, ast.Constant):
        if type(node.value) is not int:
            raise ExpressionError(text, f"{node.value!r} is not an integer")
        if node.value not in INT64:
            raise ExpressionError(text, f"{node.value} does not fit into 64 bits")
    elif isinstance(node, ast.operator | ast.unaryop | ast.cmpop):
        if type(node) not in _OPERATORS and type(node) is not ast.Not:
            raise ExpressionError(text, f"{_symbol(node)} is not offered; there are {_OFFERED}")
    elif not isinstance(node, (*_NODES, ast.boolop, ast.Load)):
        raise ExpressionError(text, f"{type(node).__name__} is not offered; there are {_OFFERED}")


def _check_call(text: str, node: ast.Call) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else "?"
    if name not in FUNCTIONS:
        raise ExpressionError(text, f"unknown function {name!r}; there are {', '.join(_ARITY)}")
    count = len(node.args)
    least, most = _ARITY[name]
    starred = node.keywords or any(isinstance(a, ast.Starred) for a in node.args)
    if starred or not least <= count <= most:
        wanted = str(least) if least == most else f"at least {least}"
        raise ExpressionError(text, f"{name} takes {wanted} plain arguments, not {count}")


def _symbol(node: ast.AST) -> str:
    if isinstance(node, ast.Div):
        return "/ (use // or ceil_div)"
    return "**" if isinstance(node, ast.Pow) else type(node).__name__


def _call(evaluate_node: Callable[[ast.expr], Any], node: ast.Call) -> Value:
    """Call a function; `select` evaluates only the branch it takes."""
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name == "select":
        condition, yes, no = node.args
        return _integer(evaluate_node(yes if evaluate_node(condition) else no))
    return _FUNCTIONS[name](*(evaluate_node(argument) for argument in node.args))


def _fits(value: int) -> int:
    if value not in INT64:
        raise OverflowError(f"{value} does not fit into 64 bits")
    return value


def _integer(value: Value) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not an integer; use select(…, 1, 0)")
    return value


def _checked(function: Callable[..., int]) -> Callable[..., int]:
    return lambda *values: _fits(function(*(_integer(v) for v in values)))


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _log2(x: int) -> int:
    """Rounded down."""
    if x < 1:
        raise ArithmeticError(f"log2 and pow2_floor need at least 1, not {x}")
    return x.bit_length() - 1


def _pow2_floor(x: int) -> int:
    return 1 << _log2(x)


_NODES = (ast.Name, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Constant)
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _checked(operator.add),
    ast.Sub: _checked(operator.sub),
    ast.Mult: _checked(operator.mul),
    ast.FloorDiv: _checked(operator.floordiv),
    ast.Mod: _checked(operator.mod),
    ast.USub: _checked(operator.neg),
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., int]] = {
    "ceil_div": _checked(_ceil_div),
    "min": _checked(min),
    "max": _checked(max),
    "log2": _checked(_log2),
    "pow2_floor": _checked(_pow2_floor),
}
_MANY = MAX_LENGTH
_ARITY = {
    "ceil_div": (2, 2),
    "min": (2, _MANY),
    "max": (2, _MANY),
    "select": (3, 3),
    "log2": (1, 1),
    "pow2_floor": (1, 1),
}
FUNCTIONS = frozenset(_ARITY)
_OFFERED = "+ - * // %, comparisons, and, or, not, " + ", ".join(f"{f}()" for f in _ARITY)
