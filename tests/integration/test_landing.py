# SPDX-License-Identifier: MIT
"""Proposals in real git objects, hostile ones among them: what may land, and as which commit."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avo_pytest import branches, commits
from avo_pytest.identity import tree_hash
from avo_pytest.landing import (
    Proposal,
    Refused,
    folder_hash,
    landing_commit,
    read_proposal,
)
from avo_pytest.loading import _module
from avo_pytest.source import find_candidate

helper = _module(Path(__file__).parents[1] / "promotion_repository.py")
git = helper.git
FOLDER = "kernels/toy/cpu"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("landing")
    git(root, "init", "-q", "-b", "main", ".")
    for path, text in {
        f"{FOLDER}/kernel.toml": "target = 'cpu'\n",
        f"{FOLDER}/old.cpp": "int old;\n",
        "kernels/toy/sm80/kernel.toml": "target = 'sm80'\n",
        "bench/toy/problem.py": "PROBLEM = 1\n",
        "pyproject.toml": "[tool.avo]\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "the beginning")
    return root


@pytest.fixture
def root(begun: Path) -> Path:
    git(begun, "checkout", "-q", "-f", "-B", "work", "main")
    git(begun, "clean", "-qfdx")
    return begun


@pytest.fixture
def repository(root: Path) -> Iterator[Any]:
    with branches.opened(root) as opened:
        yield opened


def committed(root: Path, message: str = "wider tiles") -> str:
    git(root, "add", "-A", "-f")
    git(root, "commit", "-q", "--allow-empty", "-m", message)
    return git(root, "rev-parse", "HEAD")


def write(path: str, content: str | bytes = "x\n") -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        (root / path).write_bytes(data)

    return change


def proposal(repository: Any, commit: str) -> Proposal:
    return read_proposal(repository, commit, git(Path(repository.working_dir), "rev-parse", "main"))


def test_a_change_of_one_folder_is_read(root: Path, repository: Any) -> None:
    (root / FOLDER / "old.cpp").unlink()
    write(f"{FOLDER}/parts/new.cpp", "int a;\n")(root)
    found = proposal(repository, committed(root, "toy/cpu: fixes #1\n\nbody"))
    assert (found.kernel, found.target, found.idea) == ("toy", "cpu", "fixes no. 1")
    assert found.author == "Ada <ada@example.org>"
    assert sorted(found.files) == ["kernel.toml", "parts/new.cpp"]
    assert found.candidate == tree_hash(root / FOLDER)


def test_the_hashes_are_those_of_the_judge(root: Path, repository: Any, tmp_path: Path) -> None:
    write(f"{FOLDER}/new.cpp")(root)
    found = proposal(repository, commit := committed(root))
    for reference, said in ((commit, found.candidate), ("main", found.incumbent)):
        source = find_candidate(root, "toy", "cpu", reference, tmp_path)
        assert tree_hash(source.path) == said == folder_hash(repository, reference, "toy", "cpu")


def test_the_landing_commit_replaces_that_folder_and_nothing_else(
    root: Path, repository: Any
) -> None:
    (root / FOLDER / "old.cpp").unlink()
    write(f"{FOLDER}/new.cpp")(root)
    found = proposal(repository, committed(root))
    git(root, "checkout", "-q", "-f", "main")
    write("README.md")(root)
    tip = committed(root, "an unrelated change")
    git(root, "branch", "-f", "work")
    landed = landing_commit(repository, tip, found, {"Avo-Version": "1"})
    changed = git(root, "diff", "--name-status", tip, landed).splitlines()
    assert sorted(changed) == [f"A\t{FOLDER}/new.cpp", f"D\t{FOLDER}/old.cpp"]
    facts = git(root, "log", "-1", "--format=%an <%ae>|%at|%cn|%ct|%P", landed).split("|")
    written = git(root, "log", "-1", "--format=%at", found.commit)
    assert facts == ["Ada <ada@example.org>", written, "avo", written, tip]
    trailer = "--format=%(trailers:key=Avo-Version,valueonly)"
    assert git(root, "log", "-1", trailer, landed) == "1"
    assert landing_commit(repository, tip, found, {"Avo-Version": "1"}) == landed
    assert git(root, "fsck", "--strict", "--no-dangling") == ""
    git(root, "checkout", "-q", "-f", "main")
    git(root, "reset", "-q", "--hard", "HEAD~")


def test_a_head_in_normal_form_lands_as_itself(root: Path, repository: Any) -> None:
    write(f"{FOLDER}/new.cpp")(root)
    tip = git(root, "rev-parse", "main")
    plain = landing_commit(repository, tip, proposal(repository, committed(root)), {})
    again = proposal(repository, plain)
    assert landing_commit(repository, tip, again, {"Avo-Version": "1"}) == plain


def test_several_commits_are_one_change(root: Path, repository: Any) -> None:
    write(f"{FOLDER}/new.cpp", "1\n")(root)
    committed(root, "first")
    write("pyproject.toml", "# for a while\n")(root)
    committed(root, "second")
    git(root, "checkout", "-q", "main", "--", "pyproject.toml")
    found = proposal(repository, committed(root, "third"))
    assert found.idea == "third"
    landed = landing_commit(repository, git(root, "rev-parse", "main"), found, {})
    assert git(root, "diff", "--name-only", "main", landed) == f"{FOLDER}/new.cpp"


def link(root: Path) -> None:
    (root / FOLDER / "link.cpp").symlink_to("/etc/passwd")


def the_folder_is_a_link(root: Path) -> None:
    git(root, "rm", "-rq", FOLDER)
    (root / FOLDER).symlink_to("sm80")


def submodule(root: Path) -> None:
    head = git(root, "rev-parse", "HEAD")
    git(root, "update-index", "--add", "--cacheinfo", f"160000,{head},{FOLDER}/module")
    git(root, "commit", "-qm", "a submodule")


def executable(root: Path) -> None:
    write(f"{FOLDER}/run.cpp")(root)
    (root / FOLDER / "run.cpp").chmod(0o755)


def deleted(root: Path) -> None:
    git(root, "rm", "-rq", FOLDER)


def no_manifest(root: Path) -> None:
    (root / FOLDER / "kernel.toml").unlink()


def many(root: Path) -> None:
    for number in range(201):
        write(f"{FOLDER}/n{number}.h")(root)


def deep(root: Path) -> None:
    write(f"{FOLDER}/{'d/' * 9}x.h")(root)


def two_folders(root: Path) -> None:
    write(f"{FOLDER}/new.cpp")(root)
    write("kernels/toy/sm80/new.cu")(root)


def two_kernels(root: Path) -> None:
    write(f"{FOLDER}/new.cpp")(root)
    write("kernels/other/cpu/kernel.toml")(root)


def and_also(path: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        write(f"{FOLDER}/new.cpp")(root)
        write(path)(root)

    return change


def and_beside(one: str, other: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        write(f"{FOLDER}/{one}")(root)
        write(f"{FOLDER}/{other}")(root)

    return change


CASES = {
    "bench": (and_also("bench/toy/problem.py"), "mixed", "bench is changed, outside kernels/"),
    "policy": (and_also("pyproject.toml"), "mixed", "pyproject.toml is changed"),
    "workflow": (and_also(".github/workflows/x.yml"), "mixed", ".github is changed"),
    "top attributes": (and_also(".gitattributes"), "mixed", ".gitattributes is changed"),
    "modules": (and_also(".gitmodules"), "mixed", ".gitmodules is changed"),
    "only bench": (write("bench/toy/problem.py"), "mixed", "bench is changed"),
    "kernels readme": (write("kernels/README.md"), "mixed", "in no target folder"),
    "kernel readme": (write("kernels/toy/README.md"), "mixed", "in no target folder"),
    "nothing": (lambda root: None, "empty", "nothing is changed"),
    "two targets": (two_folders, "several", "kernels/toy/cpu, kernels/toy/sm80 are changed"),
    "two kernels": (two_kernels, "several", "kernels/other, kernels/toy are changed"),
    "link": (link, "link", "link.cpp is a symbolic link"),
    "folder link": (the_folder_is_a_link, "link", "kernels/toy/cpu is changed"),
    "submodule": (submodule, "submodule", "module is a submodule"),
    "executable": (executable, "mode", "run.cpp is executable"),
    "attributes": (write(f"{FOLDER}/.gitattributes"), "attributes", "how git reads"),
    "hidden": (write(f"{FOLDER}/.hidden"), "name", "no plain name"),
    "option": (write(f"{FOLDER}/-o.cpp"), "name", "no plain name"),
    "space": (write(f"{FOLDER}/a b.cpp"), "name", "no plain name"),
    "control": (write(f"{FOLDER}/a\x1b[2Jb.cpp"), "name", "a [2Jb.cpp is no plain name"),
    "case": (and_beside("a.cpp", "A.cpp"), "case", "cpu/A.cpp and a.cpp differ only in case"),
    "folders' case": (and_beside("a/1.h", "A/2.h"), "case", "cpu/A and a differ only in case"),
    "not text": (write(f"{FOLDER}/\udcff.cpp"), "name", "no plain name"),
    "pointer": (
        write(f"{FOLDER}/big.h", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "lfs",
        "kept elsewhere",
    ),
    "big": (write(f"{FOLDER}/big.h", b"x" * (8 << 20)), "size", "8 MiB"),
    "many": (many, "size", "200 files"),
    "deep": (deep, "size", "folders inside"),
    "deleted": (deleted, "manifest", "is deleted"),
    "no manifest": (no_manifest, "manifest", "has no kernel.toml"),
    "odd target": (write("kernels/toy/CPU/kernel.toml"), "name", "no name of a kernel"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_may_not_land_is_refused_by_its_rule(root: Path, repository: Any, case: str) -> None:
    change, rule, said = CASES[case]
    change(root)
    commit = git(root, "rev-parse", "HEAD") if case == "submodule" else committed(root)
    with pytest.raises(Refused) as refused:
        proposal(repository, commit)
    assert refused.value.rule == rule
    assert said in refused.value.text and refused.value.text.isprintable()


def test_another_history_is_refused(root: Path, repository: Any) -> None:
    git(root, "checkout", "-q", "--orphan", "elsewhere")
    write(f"{FOLDER}/new.cpp")(root)
    with pytest.raises(Refused) as refused:
        proposal(repository, committed(root))
    assert refused.value.rule == "history"


def written(root: Path, kind: str, content: bytes) -> str:
    """An object as it is, whatever git thinks of it."""
    line = ["git", "hash-object", "-t", kind, "-w", "--literally", "--stdin"]
    done = subprocess.run(line, cwd=root, input=content, capture_output=True, check=True)
    return done.stdout.decode().strip()


def with_folder(root: Path, tree: str) -> str:
    """A commit whose kernels/toy/cpu is that tree."""
    for path in (FOLDER, "kernels/toy", "kernels", ""):
        if path == FOLDER:
            continue
        rows = git(root, "ls-tree", f"main:{path}").splitlines()
        name = {"kernels/toy": "cpu", "kernels": "toy", "": "kernels"}[path]
        rows = [f"040000 tree {tree}\t{name}" if r.endswith(f"\t{name}") else r for r in rows]
        tree = git(root, "mktree", given="\n".join(rows) + "\n")
    return git(root, "commit-tree", "-p", "main", "-m", "x", tree)


def test_a_tree_that_stands_for_billions_of_files_ends_at_once(root: Path, repository: Any) -> None:
    tree = git(root, "rev-parse", f"main:{FOLDER}")
    for _ in range(7):
        rows = "".join(f"040000 tree {tree}\td{n}\n" for n in range(30))
        tree = git(root, "mktree", given=rows)
    with pytest.raises(Refused) as refused:
        proposal(repository, with_folder(root, tree))
    assert refused.value.rule == "size"


@pytest.mark.parametrize("name", ["..", ".git", "a/b", "."])
def test_names_that_git_forbids_do_not_pass(root: Path, repository: Any, name: str) -> None:
    blob = git(root, "hash-object", "-w", "--stdin", given="x\n")
    toml = git(root, "rev-parse", f"main:{FOLDER}/kernel.toml")
    rows = [(name, blob), ("kernel.toml", toml)]
    content = b"".join(b"100644 %s\0%s" % (n.encode(), bytes.fromhex(s)) for n, s in sorted(rows))
    with pytest.raises(Refused) as refused:
        proposal(repository, with_folder(root, written(root, "tree", content)))
    assert refused.value.rule == "name"


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        (b"author A\x1b[2J B <a@b c> 1700000000 +0000", "A [2J B <a@bc>"),
        (b"author  <> 1700000000 +0000", "unknown <>"),
        (b"author A\xff <x> 1700000000 +0000", "A\ufffd <x>"),
        (b"author A <x> 99999999999 +0000", "date"),
        (b"author A <x> 1700000000 +9999", "date"),
        (b"author A", "date"),
        (b"nobody A <x> 1700000000 +0000", "date"),
    ],
)
def test_an_author_is_a_name_and_a_date(
    root: Path, repository: Any, author: bytes, expected: str
) -> None:
    write(f"{FOLDER}/new.cpp")(root)
    tree, tip = (
        git(root, "rev-parse", f"{committed(root)}^{{tree}}"),
        git(root, "rev-parse", "main"),
    )
    head = f"tree {tree}\nparent {tip}\n".encode() + author
    raw = head + b"\ncommitter C <c> 1700000000 +0000\ngpgsig x\n\nidea\n"
    commit = written(root, "commit", raw)
    if expected == "date":
        with pytest.raises(Refused, match="no date that git understands"):
            proposal(repository, commit)
        return
    found = proposal(repository, commit)
    assert found.author == expected
    landed = landing_commit(repository, tip, found, {})
    said = commits.read_commit(repository, landed)
    assert (said.author, said.authored) == (expected, "1700000000 +0000")


def test_what_this_clone_would_put_in_the_place_of_an_object_is_ignored(
    root: Path, repository: Any
) -> None:
    write(f"{FOLDER}/new.cpp", "honest\n")(root)
    honest = committed(root)
    git(root, "checkout", "-q", "-f", "main")
    write(f"{FOLDER}/new.cpp", "swapped\n")(root)
    git(root, "checkout", "-q", "-B", "work")
    swapped = committed(root)
    before = proposal(repository, honest)
    git(root, "replace", honest, swapped)
    try:
        assert proposal(repository, honest) == before
    finally:
        git(root, "replace", "-d", honest)
