# SPDX-License-Identifier: MIT
"""Settings of the agent, from pyproject.toml."""

from __future__ import annotations

import pytest

from agent.config import MODEL, SUMMARY_MODEL, ConfigurationError, Settings, load_settings
from agent.operators import operator


def written(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    return tmp_path


def test_nothing_said_means_the_defaults(tmp_path):
    assert load_settings(tmp_path) == Settings()
    assert load_settings(written(tmp_path, "[tool.other]\n")) == Settings()
    assert (Settings().model, Settings().summary_model) == (MODEL, SUMMARY_MODEL)


def test_the_file_is_read_and_arguments_win(tmp_path):
    root = written(tmp_path, '[tool.avo.agent]\nmodel = "m"\nretries = 3\nknowledge = ["a", "b"]\n')
    found = load_settings(root, model="n", effort=None)
    assert (found.model, found.retries, found.knowledge, found.effort) == (
        "n", 3, ("a", "b"), "high",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("modle = 'm'", "has no key 'modle'"),
        ("retries = 1.5", "retries = 1.5 is not int"),
        ("retries = true", "retries = True is not int"),
        ("idle_s = -1", "idle_s = -1 is not float"),
        ("effort = 'enormous'", "effort = 'enormous': low, medium"),
        ("thinking = 'budget'", "thinking = 'budget': adaptive"),
        ("shed_at = 0.7", "0 < shed_at <= handoff_at"),
        ("knowledge = 'a'", "knowledge = 'a' is not tuple"),
        ("retries = = 1", "Invalid value"),
    ],
)
def test_a_mistake_names_file_and_key(tmp_path, line, wrong):
    with pytest.raises(ConfigurationError, match=r"pyproject\.toml") as caught:
        load_settings(written(tmp_path, f"[tool.avo.agent]\n{line}\n"))
    assert wrong in str(caught.value)


def test_an_operator_is_known_by_name():
    with pytest.raises(ConfigurationError, match="no operator 'guess': there are claude, command"):
        operator("guess", Settings())
    assert operator("claude", Settings()).name == "claude"
