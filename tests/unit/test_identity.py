# SPDX-License-Identifier: MIT
"""The hash of a candidate's folder: everything that a build can see, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avo_pytest.identity import MAX_FILES, read_tree, tree_hash


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "kernel"
    (folder / "sub").mkdir(parents=True)
    (folder / "kernel.toml").write_text("schema = 1\n")
    (folder / "sub" / "a.cuh").write_text("int a;\n")
    return folder


def test_hash_follows_contents_names_and_modes(folder: Path) -> None:
    hashes = [tree_hash(folder)]
    (folder / "sub" / "a.cuh").write_text("int b;\n")
    hashes.append(tree_hash(folder))
    (folder / "sub" / "a.cuh").rename(folder / "sub" / "b.cuh")
    hashes.append(tree_hash(folder))
    (folder / "kernel.toml").chmod(0o755)
    hashes.append(tree_hash(folder))
    assert len(set(hashes)) == 4


def test_hash_ignores_dates_place_and_empty_folders(folder: Path, tmp_path: Path) -> None:
    before = tree_hash(folder)
    os.utime(folder / "kernel.toml", (1, 1))
    (folder / "empty").mkdir()
    assert tree_hash(folder.rename(tmp_path / "elsewhere")) == before


def test_contents_cannot_pass_for_names(tmp_path: Path) -> None:
    """One file whose content looks like a second entry is not two files."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "a").write_bytes(b"x100644 b\x001\x00y")
    (tmp_path / "two" / "a").write_bytes(b"x")
    (tmp_path / "two" / "b").write_bytes(b"y")
    assert tree_hash(tmp_path / "one") != tree_hash(tmp_path / "two")


def test_read_tree(folder: Path) -> None:
    assert sorted(read_tree(folder)) == ["kernel.toml", "sub/a.cuh"]
    assert read_tree(folder)["sub/a.cuh"].content == b"int a;\n"


def test_links_and_special_files_are_refused(folder: Path) -> None:
    for make in (lambda p: p.symlink_to("/etc"), lambda p: p.symlink_to("none"), os.mkfifo):
        make(folder / "odd")
        with pytest.raises(OSError, match=r"odd: only regular files and folders"):
            tree_hash(folder)
        (folder / "odd").unlink()


def test_too_many_files(folder: Path) -> None:
    for i in range(MAX_FILES):
        (folder / f"f{i}").touch()
    with pytest.raises(OSError, match="more than 200 files"):
        tree_hash(folder)
