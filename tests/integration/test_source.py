# SPDX-License-Identifier: MIT
"""Candidates and incumbents out of real git repositories, and without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avo_pytest.source import GitFault, SourceError, find_candidate, find_incumbent


def git(root: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
    }  # fmt: skip
    return subprocess.run(
        ["git", *arguments], cwd=root, env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repo with a space"
    folder = root / "kernels" / "k" / "cpu"
    folder.mkdir(parents=True)
    (folder / "kernel.toml").write_text("first\n")
    (folder / "k.cpp").write_text("// 1\n")
    git(root.parent, "init", "-q", "-b", "main", str(root))
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def test_main_is_the_incumbent_of_a_changed_tree(repository: Path, tmp_path: Path) -> None:
    manifest = repository / "kernels" / "k" / "cpu" / "kernel.toml"
    manifest.write_text("second\n")
    incumbent = find_incumbent(repository, "k", "cpu", None, tmp_path)
    candidate = find_candidate(repository, "k", "cpu", None, tmp_path)
    assert incumbent is not None and incumbent.label == "main"
    assert (incumbent.path / "kernel.toml").read_text() == "first\n"
    assert (incumbent.path / "k.cpp").read_text() == "// 1\n"
    assert (candidate.path / "kernel.toml").read_text() == "second\n"


def test_a_commit_may_be_named_by_its_hash(repository: Path, tmp_path: Path) -> None:
    sha = git(repository, "rev-parse", "HEAD").strip()
    assert find_candidate(repository, "k", "cpu", sha, tmp_path).label == sha


def test_without_git_there_is_no_incumbent(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert find_incumbent(tmp_path / "plain", "k", "cpu", None, tmp_path) is None


def test_none_is_no_incumbent(repository: Path, tmp_path: Path) -> None:
    assert find_incumbent(repository, "k", "cpu", "none", tmp_path) is None


def test_an_unknown_reference_is_named(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no-such-branch"):
        find_candidate(repository, "k", "cpu", "no-such-branch", tmp_path)


def test_a_folder_that_is_not_there_is_named(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="main: no kernels/k/sm80 there"):
        find_candidate(repository, "k", "sm80", "main", tmp_path)


def test_without_the_git_executable_one_sentence_says_so(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "git", None)
    with pytest.raises(SourceError, match=r"main: .*\(git is not installed\)$"):
        find_candidate(repository, "k", "cpu", "main", tmp_path)
    assert find_incumbent(repository, "k", "cpu", None, tmp_path) is None


def test_a_repository_of_another_user_is_not_mistaken_for_one_without_main(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    with pytest.raises(GitFault, match=r"dubious ownership .*\(git config --global --add safe"):
        find_incumbent(repository, "k", "cpu", None, tmp_path)


def test_a_folder_without_a_manifest_is_refused(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"kernel\.toml"):
        find_candidate(repository, "k", "cpu", str(tmp_path), tmp_path)


def test_a_checkout_may_be_named_as_a_folder(repository: Path, tmp_path: Path) -> None:
    source = find_incumbent(repository, "k", "cpu", str(repository), tmp_path)
    assert source is not None and (source.path / "k.cpp").is_file()


def test_a_symbolic_link_in_the_tree_is_refused(repository: Path, tmp_path: Path) -> None:
    (repository / "kernels" / "k" / "cpu" / "secret").symlink_to("/etc/passwd")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "link")
    with pytest.raises(SourceError, match="symbolic link"):
        find_candidate(repository, "k", "cpu", "main", tmp_path)


def test_hooks_and_filters_of_the_candidate_do_not_run(repository: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (repository / ".gitattributes").write_text("* filter=evil\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "attributes")
    git(repository, "config", "filter.evil.smudge", f"touch '{marker}'")
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch '{marker}'\n")
    hook.chmod(0o755)
    find_candidate(repository, "k", "cpu", "main", tmp_path)
    assert not marker.exists()
