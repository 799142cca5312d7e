# SPDX-License-Identifier: MIT
"""Expressions of kernel.toml: what they give, and that nothing but an ExpressionError comes out."""

from __future__ import annotations

import ast
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avo_pytest.expressions import MAX_LENGTH, ExpressionError, evaluate, holds, names_of

NAMES = {"seq": 4096, "heads": 16, "BLOCK_M": 128, "causal": 0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (7, 7),
        ("ceil_div(seq + 1, BLOCK_M) * heads", 33 * 16),
        ("-7 // 2", -4),
        ("-7 % 4", 1),
        ("ceil_div(-7, 2)", -3),
        ("min(3, seq, 2) + max(1, heads)", 18),
        ("select(causal, 1 // 0, 3)", 3),
        ("select(causal or heads > 8, 5, 1 // 0)", 5),
        ("1 // causal if causal else 2", 2),
        ("log2(seq) + log2(1023)", 12 + 9),
        ("pow2_floor(1000)", 512),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775807 - 1", -(2**63)),
        ("seq *\n  heads", 65536),
    ],
)
def test_value(text: int | str, value: int) -> None:
    assert evaluate(text, NAMES) == value


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("seq > 8192 and not causal", False),
        ("1024 < seq <= 4096 and not causal", True),
        ("seq % BLOCK_M == 0", True),
        ("causal", False),
        ("heads != 16 or seq >= 4096", True),
        (1, True),
    ],
)
def test_condition(text: int | str, true: bool) -> None:
    assert holds(text, NAMES) is true


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sq + 1", "unknown name 'sq'"),
        ("seq // causal", "division by zero"),
        ("seq % causal", "division by zero"),
        ("seq > 1", "select"),
        ("(seq > 1) + 1", "True is not an integer"),
        ("select(1, seq > 1, 2)", "True is not an integer"),
        ("2 ** 3", r"\*\* is not offered"),
        ("seq / 2", "use // or ceil_div"),
        ("1 << 70", "LShift is not offered"),
        ("1.5", "1.5 is not an integer"),
        ("True", "True is not an integer"),
        ("'a' * 3", "'a' is not an integer"),
        ("seq[0]", "Subscript is not offered"),
        ("seq.bit_length()", "unknown function"),
        ("__import__('os')", "unknown function '__import__'"),
        ("open(seq)", "unknown function 'open'"),
        ("min(seq)", "at least 2"),
        ("ceil_div(1, 2, 3)", "takes 2"),
        ("max(*heads)", "plain arguments"),
        ("max(1, a=2)", "plain arguments"),
        ("log2(0)", "at least 1"),
        ("9223372036854775808", "does not fit into 64 bits"),
        ("9223372036854775807 + 1", "does not fit into 64 bits"),
        ("9223372036854775807 * 9223372036854775807", "does not fit into 64 bits"),
        ("seq; heads", "not an expression"),
        ("", "not an expression"),
        ("seq = 1", "not an expression"),
        ("(" * 240 + "1" + ")" * 240, "not an expression"),
        ("1" + " + 1" * 200, f"longer than {MAX_LENGTH}"),
        ("lambda: 1", "Lambda is not offered"),
        ("[s for s in heads]", "is not offered"),
    ],
)
def test_refused(text: str, said: str) -> None:
    with pytest.raises(ExpressionError, match=said):
        evaluate(text, NAMES)


def test_names() -> None:
    assert names_of("min(seq, select(causal, BLOCK_M, 3))") == {"seq", "causal", "BLOCK_M"}
    assert names_of(5) == frozenset()


_ATOMS = st.integers(0, 50).map(str) | st.sampled_from(sorted(NAMES))
_TREES = st.recursive(
    _ATOMS,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        )
        | inner.map(lambda a: f"-{a}")
        | st.tuples(inner, inner).map(lambda t: f"max({t[0]}, {t[1]})")
    ),
    max_leaves=8,
)


@given(_TREES)
def test_agrees_with_python(text: str) -> None:
    assert evaluate(text, NAMES) == eval(text, {"max": max}, dict(NAMES))


@given(st.text(max_size=60) | st.text("seq1+-*/%()<>=, andotrmixl2", max_size=60))
def test_any_text_gives_an_integer_or_an_expression_error(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # such as "1or 2"
        try:
            value = evaluate(text, NAMES)
        except ExpressionError:
            return
        assert type(value) is int
        ast.parse(" ".join(text.split()), mode="eval")
