# SPDX-License-Identifier: MIT
"""What a stranger can write, bent at random: every answer is a sentence, none a traceback.

    pytest -m soak tests/redteam/test_fuzz.py

runs more than 10^5 inputs; the plain run takes the same ones from the beginning, a few of each.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avo_pytest import elf, expressions
from avo_pytest.architectures import typical_facts
from avo_pytest.entries import Damaged, from_line
from avo_pytest.identity import read_tree
from avo_pytest.loading import load_problem
from avo_pytest.manifest import ManifestError, load
from avo_pytest.printable import printable
from avo_pytest.promotion import Kind, decide
from avo_pytest.resolution import resolve
from avo_pytest.score import Record

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
QUICK, SOAK = 60, 20_000
MANIFESTS = sorted((*ROOT.glob("kernels/*/*/kernel.toml"), *HERE.glob("c*/*/kernel.toml")))
WORDS = (
    *(
        "[launch]",
        "[[launch]]",
        "[[variant]]",
        "[derived]",
        "x = 1",
        "'",
        '"',
        "\\",
        "\0",
        "é",
        "\r",
    ),
    *("-1", "0", "1", "9223372036854775807", "1e400", "nan", "inf", "true", "0x10", "1979-05-27"),
    *(
        "seq",
        "seq * seq * seq * seq * seq",
        "seq // (seq - seq)",
        "ceil_div(seq)",
        "map.k",
        "q",
        "o",
    ),
    *("__import__('os')", "().__class__", "seq if seq else 1", "9 ** 9", "[", "]", "{", "}", ","),
)
edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from(WORDS) | st.text(max_size=6)),
    min_size=1,
    max_size=6,
)


def bent(text: str, changes: list[tuple[float, int, str]]) -> str:
    """The text with slices replaced: place (share of the length), length, replacement."""
    for place, length, new in changes:
        at = int(place * len(text))
        text = text[:at] + new + text[at + length :]
    return text


@cache
def problem() -> Any:
    return load_problem("attention", root=HERE)


def check_manifest(given_: tuple[Path, list[tuple[float, int, str]]]) -> None:
    base, changes = given_
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.toml")
        path.write_text(bent(base.read_text(), changes), encoding="utf-8", errors="replace")
        try:
            manifest = load(path, problem())
            facts = typical_facts(manifest.target)
            kind = "cpu" if manifest.target == "cpu" else "cuda"
            for configuration in problem().correctness(kind)[:2]:
                resolve(manifest, problem(), configuration, facts)
        except ManifestError as error:
            assert str(error).strip()


def check_expression(text: str) -> None:
    try:
        value = expressions.evaluate(text, {"seq": 4096, "heads": 16})
        assert -(2**63) <= value < 2**63
    except expressions.ExpressionError as error:
        assert str(error).strip()


@cache
def synthetic() -> Any:
    spec = importlib.util.spec_from_file_location("fuzz_synthetic", ROOT / "tests" / "synthetic.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def record() -> tuple[Any, str]:
    """A policy and the JSON of a small record that it promotes."""
    policy = replace(synthetic().POLICY, screen_blocks=0, confirm_blocks=4, replicates=8)
    return policy, synthetic().record(0.01, policy=policy).to_json()


VALUES = (None, True, -1, 0, 2**70, 1.5, "", "x", [], {}, [[]], "NaN", 1e308, -0.0)
steps = st.lists(st.integers(0, 10**6), min_size=1, max_size=6)


def check_record(given_: tuple[list[int], int, int]) -> None:
    """One value of a record, wherever it lies, is replaced or taken away."""
    path, value, act = given_
    policy, text = record()
    whole = json.loads(text)
    place: Any = whole
    holder, key = None, None
    for step in path:
        if isinstance(place, (dict, list)) and place:
            keys = sorted(place) if isinstance(place, dict) else range(len(place))
            holder, key = place, keys[step % len(keys)]
            place = place[key]
    if act == 0:
        del holder[key]
    elif act == 1 and isinstance(holder, list):
        holder.append(place)
    else:
        holder[key] = VALUES[value % len(VALUES)]
    try:
        read = Record.from_json(json.dumps(whole))
    except ValueError as error:
        assert str(error).strip()
        return
    verdict = decide(read, policy)
    if verdict.kind is Kind.PROMOTE:
        assert all(0 < s.ms < math.inf for s in read.samples)
        assert len(read.samples) == text.count('"host_ms"')


def check_record_text(changes: list[tuple[float, int, str]]) -> None:
    policy, text = record()
    try:
        decide(Record.from_json(bent(text, changes)), policy)
    except ValueError as error:
        assert str(error).strip()


ENTRY = (
    '{"schema":1,"id":"20260102-030405-abcdef","kernel":"attention","verdict":"PROMOTE","gain":0.1}'
)


def check_ledger_line(changes: list[tuple[float, int, str]]) -> None:
    try:
        from_line(bent(ENTRY, changes))
    except Damaged as error:
        assert str(error).strip()


names = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=12
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)
kinds = st.sampled_from(("file", "folder", "link", "pipe", "executable"))


def check_tree(entries: list[tuple[str, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        here = root = Path(scratch)
        odd = False
        for name, kind, size in entries:
            path = here / name
            if path.exists() or path.is_symlink():
                continue
            if kind == "folder":
                path.mkdir()
                here = path
            elif kind == "link":
                path.symlink_to(("/etc/passwd", ".", name, "../" * 9)[size % 4])
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                path.write_bytes(bytes(size))
            odd |= kind in ("link", "pipe")
        try:
            found = read_tree(root)
        except OSError as error:
            assert str(error).strip()
            return
        assert not odd
        assert all(not name.startswith(("/", "..")) for name in found)


@cache
def cubin() -> bytes:
    pytest.importorskip("cuda.core", reason="needs the CUDA compiler packages")
    from avo_pytest.devices.cuda_trusted import compile_trusted

    return compile_trusted("sm_90")


def check_cubin(changes: list[tuple[float, int, int]]) -> None:
    image = bytearray(cubin())
    for place, length, value in changes:
        at = int(place * len(image))
        image[at : at + length % 9] = value.to_bytes(8, "little")[: length % 9]
    try:
        parsed = elf.parse(bytes(image))
        for kernel in parsed.entries:
            parsed.parameters(kernel)
    except elf.ElfError as error:
        assert str(error).strip()


def check_text(text: str) -> None:
    shown = printable(text, " | ")
    assert shown.isprintable() or "\t" in shown
    assert "\n" not in shown and "\r" not in shown and "\033" not in shown


TARGETS: dict[str, tuple[Callable[[Any], None], Any]] = {
    "manifest": (check_manifest, st.tuples(st.sampled_from(MANIFESTS), edits)),
    "expression": (
        check_expression,
        st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join) | st.text(),
    ),
    "record": (check_record, st.tuples(steps, st.integers(0, 99), st.integers(0, 3))),
    "record text": (check_record_text, edits),
    "ledger line": (check_ledger_line, edits),
    "tree": (check_tree, st.lists(st.tuples(names, kinds, st.integers(0, 9)), max_size=8)),
    "cubin": (
        check_cubin,
        st.lists(
            st.tuples(st.floats(0, 1), st.integers(0, 99), st.integers(0, 2**64 - 1)),
            min_size=1,
            max_size=5,
        ),
    ),
    "text": (check_text, st.text()),
}


def run(name: str, examples: int) -> None:
    check, strategy = TARGETS[name]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(one: Any) -> None:
        check(one)

    each()


@pytest.mark.parametrize("name", TARGETS)
def test_every_answer_is_a_sentence(name: str) -> None:
    run(name, QUICK)


@pytest.mark.soak
@pytest.mark.parametrize("name", TARGETS)
def test_every_answer_is_a_sentence_for_long(name: str) -> None:
    run(name, SOAK)
