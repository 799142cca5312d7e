# SPDX-License-Identifier: MIT
"""The environment of a scorer against the lock of its image."""

from __future__ import annotations

import re

import pytest

from avo_pytest.ci import environment
from avo_pytest.ci.environment import LockError, chosen, compare, digest, installed


def lock(tmp_path, versions):
    path = tmp_path / "image.txt"
    lines = "".join(f"{name}=={version}\n" for name, version in versions.items())
    path.write_text(f"# comment\n\n{lines}")
    return path


def test_an_image_made_from_its_lock_has_no_difference(tmp_path):
    found = compare(lock(tmp_path, {**installed(), "only-on-gpus": "1.0"}))
    assert found.differences == () and found.lock == "image.txt"
    assert found.digest == digest(installed()) != found.lock_digest


def test_names_and_local_versions_are_the_same_in_every_spelling(tmp_path):
    versions = {k.upper().replace("-", "_"): f"{v}+local" for k, v in installed().items()}
    assert compare(lock(tmp_path, versions)).differences == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"numpy": "0.0.1"}, "numpy is .*, the lock has 0.0.1"),
        ({"numpy": None}, "numpy .* is installed and not in the lock"),
    ],
)
def test_every_difference_is_named(tmp_path, change, words):
    versions = {**installed(), **change}
    kept = {name: version for name, version in versions.items() if version}
    (said,) = compare(lock(tmp_path, kept)).differences
    assert re.search(words, said)


def test_many_differences_are_counted(tmp_path):
    said = compare(lock(tmp_path, {})).differences
    assert len(said) == environment.MOST_SHOWN + 1 and said[-1].endswith("more")


@pytest.mark.parametrize("line", ["numpy>=2", "-r x.txt", "numpy", "numpy==1 --hash=x", "a b==1"])
def test_a_lock_pins_and_does_nothing_else(tmp_path, line):
    path = tmp_path / "odd.txt"
    path.write_text(f"pytest==9.2.0\n{line}\n")
    with pytest.raises(LockError, match=r"odd\.txt:2: "):
        compare(path)


def test_the_lock_is_the_targets_unless_somebody_names_one(tmp_path, monkeypatch):
    monkeypatch.delenv("AVO_LOCK", raising=False)
    assert chosen(None, tmp_path, "cpu") == tmp_path / "requirements" / "cpu.txt"
    assert chosen(None, tmp_path, "sm90") == tmp_path / "requirements" / "gpu.txt"
    assert chosen(None, tmp_path, "simulated") is None
    monkeypatch.setenv("AVO_LOCK", "requirements/image.txt")
    assert chosen(None, tmp_path, "cpu") == tmp_path / "requirements" / "image.txt"
    assert chosen("none", tmp_path, "cpu") is None
    assert chosen("/etc/image.txt", tmp_path, "cpu").as_posix() == "/etc/image.txt"
