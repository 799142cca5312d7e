# SPDX-License-Identifier: MIT
"""Folders that an agent had its hands in."""

from __future__ import annotations

import os

import pytest

from agent.tree import TreeError, copy_tree, read_leniently, replace_tree
from avo_pytest.identity import MAX_FILES, File, read_tree


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "folder"
    (made / "deep").mkdir(parents=True)
    (made / "kernel.toml").write_text("x")
    (made / "deep" / "run.sh").write_text("y")
    (made / "deep" / "run.sh").chmod(0o755)
    return made


def test_a_copy_keeps_links_for_the_judge_to_refuse_and_nothing_special(folder, tmp_path):
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    copy_tree(folder, tmp_path / "copy")
    names = sorted(str(p.relative_to(tmp_path / "copy")) for p in (tmp_path / "copy").rglob("*"))
    assert names == ["deep", "deep/run.sh", "kernel.toml", "link"]
    assert (tmp_path / "copy" / "link").is_symlink()
    with pytest.raises(OSError, match="only regular files"):
        read_tree(tmp_path / "copy")
    (tmp_path / "copy" / "link").unlink()
    assert not any(file.executable for file in read_tree(tmp_path / "copy").values())


def test_what_is_too_much_is_not_copied(folder, tmp_path):
    with (folder / "large").open("wb") as file:
        file.truncate(1 << 40)  # a hole: nothing of it is read
    with pytest.raises(TreeError, match="8 MiB"):
        copy_tree(folder, tmp_path / "copy")
    (folder / "large").unlink()
    for i in range(MAX_FILES):
        (folder / f"f{i}").touch()
    with pytest.raises(TreeError, match="200 files"):
        copy_tree(folder, tmp_path / "copy")


def test_what_can_be_kept_is_kept(folder):
    (folder / "link").symlink_to("/etc/passwd")
    with (folder / "large").open("wb") as file:
        file.truncate(1 << 40)
    tree, left_out = read_leniently(folder)
    assert sorted(tree) == ["deep/run.sh", "kernel.toml"]
    assert sorted(text.split()[0].rstrip(":") for text in left_out) == ["large", "link"]


def test_a_folder_is_replaced_as_a_whole(folder, tmp_path):
    replace_tree(folder, {"new/a.h": File(False, b"1"), "kernel.toml": File(False, b"2")})
    assert sorted(read_tree(folder)) == ["kernel.toml", "new/a.h"]
    with pytest.raises(TreeError):
        replace_tree(folder, {"../outside": File(False, b"1")})
    assert sorted(read_tree(folder)) == ["kernel.toml", "new/a.h"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
