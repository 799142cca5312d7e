# SPDX-License-Identifier: MIT
"""Options: command line over [tool.avo], refused with the option's name and what is allowed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from avo_pytest.options import TABLE, Options, parse


def write_table(root: Path, text: str) -> None:
    (root / "pyproject.toml").write_text(f"[tool.avo]\n{text}\n", encoding="utf-8")


def test_nothing_given_leaves_all_to_the_judge(tmp_path):
    assert parse({}, tmp_path) == Options()


def test_every_option_has_a_field_and_every_field_an_option():
    assert {option.name for option in TABLE} == {field.name for field in fields(Options)}


def test_command_line_wins_over_table(tmp_path):
    write_table(tmp_path, 'kernel = "attention"\nblocks = 7\nbaselines = ["a", "b"]')
    options = parse({"blocks": "3"}, tmp_path)
    assert (options.kernel, options.blocks, options.baselines) == ("attention", 3, ("a", "b"))


def test_table_of_the_gate_is_not_an_option(tmp_path):
    write_table(tmp_path, '[[tool.avo.gates]]\nkernel = "attention"')
    assert parse({}, tmp_path) == Options()


@pytest.mark.parametrize(
    ("text", "names"), [("all", None), ("none", ()), ("a", ("a",)), ("a, b", ("a", "b"))]
)
def test_baselines(tmp_path, text, names):
    assert parse({"baselines": text}, tmp_path).baselines == names


def test_an_empty_list_of_baselines_in_the_table_means_none(tmp_path):
    write_table(tmp_path, "baselines = []")
    assert parse({}, tmp_path).baselines == ()


@pytest.mark.parametrize(
    ("name", "text", "flag", "allowed"),
    [
        ("target", "sm70", "--avo-target", "auto, cpu, sm80, sm90, sm100"),
        ("mode", "guess", "--avo-mode", "measure, screen, confirm"),
        ("mode", "calibrate", "--avo-mode", "measure, screen, confirm"),
        ("share", "3/2", "--avo-share", "K/N"),
        ("share", "1/9", "--avo-share", "at most 8"),
        ("devices", "cuda:0,", "--avo-devices", "separated by commas"),
        ("regime", "hot", "--avo-regime", "refreshed, sustained"),
        ("timeout", "soon", "--avo-timeout", "seconds"),
        ("blocks", "0", "--avo-blocks", "1 or more"),
        ("json", "/dev", "--avo-json", "file that can be written"),
        ("json", f"{__file__}/record.json", "--avo-json", "file that can be written"),
        ("blocks", "two", "--avo-blocks", "1 or more"),
        ("threads", "-1", "--avo-threads", "1 or more"),
        ("seed", "0x10", "--avo-seed", "whole number"),
        ("seed", str(1 << 63), "--avo-seed", "2^63"),
        ("baselines", "a,,b", "--avo-baselines", "separated by commas"),
        ("kernel", " ", "--avo-kernel", "not empty"),
    ],
)
def test_refusal_names_option_and_what_is_allowed(tmp_path, name, text, flag, allowed):
    with pytest.raises(pytest.UsageError) as refusal:
        parse({name: text}, tmp_path)
    assert flag in str(refusal.value)
    assert repr(text) in str(refusal.value)
    assert allowed in str(refusal.value)


def test_a_bad_value_in_the_table_is_blamed_on_the_table(tmp_path):
    write_table(tmp_path, "blocks = true")
    with pytest.raises(pytest.UsageError, match=r"\[tool.avo\] blocks: 'true'"):
        parse({}, tmp_path)


@pytest.mark.parametrize("key", ["block", "score"])
def test_an_unknown_key_is_named(tmp_path, key):
    write_table(tmp_path, f"{key} = 1")
    with pytest.raises(pytest.UsageError, match=rf"\[tool.avo\] {key}: unknown"):
        parse({}, tmp_path)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool", encoding="utf-8")
    with pytest.raises(pytest.UsageError, match="pyproject.toml"):
        parse({}, tmp_path)
