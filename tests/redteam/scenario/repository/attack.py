# Trees, branches and settings that reach too far: G01-G07, G16, G17, P07, P08, R10, S14.
# SPDX-License-Identifier: MIT
"""Each act makes a repository with a candidate on branch `evil`; the twin's is an ordinary one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from avo_pytest.assignment import Request, assign
from avo_pytest.identity import read_tree
from avo_pytest.source import SourceError, find_candidate

SUITE = Path(__file__).parents[2]
REAL = SUITE.parents[1]
KERNEL = Path("kernels", "attention", "cpu")
RAN = "ran-by-the-candidate"


class Bench:
    """A small repository: the judge's files and an honest kernel on main, a branch `evil`."""

    def __init__(self, root: Path) -> None:
        self.root = root / "repository"
        self.marker = root / RAN
        self.folder = self.root / KERNEL
        shutil.copytree(SUITE / "cpu" / "common", self.folder)
        problem = self.root / "bench" / "attention"
        problem.mkdir(parents=True)
        text = (SUITE / "bench" / "attention" / "problem.py").read_text()
        here = "Path(__file__).parents[4]"
        (problem / "problem.py").write_text(text.replace(here, f"Path({str(REAL)!r})"))
        self.git("init", "-q", "-b", "main")
        self.commit("honest")
        self.git("checkout", "-q", "-b", "evil")

    def git(self, *arguments: str, stdin: str = "") -> str:
        names = {
            f"GIT_{who}_{what}": "a@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        done = subprocess.run(
            ["git", "-c", "core.hooksPath=/dev/null", *arguments],
            cwd=self.root, env={**os.environ, **names, "GIT_CONFIG_GLOBAL": os.devnull},
            input=stdin, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)

    def back_to_main(self) -> None:
        self.commit("evil")
        self.git("checkout", "-q", "--force", "main")

    def extracted(self) -> tuple[str, str]:
        """What the judge takes from the branch."""
        scratch = self.root.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        try:
            source = find_candidate(self.root, "attention", "cpu", "evil", scratch)
        except SourceError as error:
            return "refused", str(error)
        return self.unless_run(f"took {', '.join(sorted(read_tree(source.path)))}")

    def unless_run(self, text: str) -> tuple[str, str]:
        return ("ok", "the candidate's code ran") if self.marker.exists() else ("refused", text)

    def code(self) -> str:
        return f"open({str(self.marker)!r}, 'w')\n"


def working_tree(bench: Bench) -> tuple[str, str]:
    try:
        read_tree(bench.folder)
    except OSError as error:
        return "refused", str(error)
    return "ok", ""


def link_on_disk(bench: Bench) -> tuple[str, str]:
    (bench.folder / "answers.h").symlink_to("/etc/passwd")
    return working_tree(bench)


def pipe_on_disk(bench: Bench) -> tuple[str, str]:
    os.mkfifo(bench.folder / "answers.h")
    return working_tree(bench)


def linked_folder(bench: Bench) -> tuple[str, str]:
    (bench.folder / "more").symlink_to("/etc")
    return working_tree(bench)


def too_much(bench: Bench) -> tuple[str, str]:
    (bench.folder / "answers.bin").write_bytes(bytes(9 << 20))
    return working_tree(bench)


def too_many(bench: Bench) -> tuple[str, str]:
    for number in range(201):
        (bench.folder / f"{number}.h").write_text("")
    return working_tree(bench)


def link_in_git(bench: Bench) -> tuple[str, str]:
    (bench.folder / "answers.h").symlink_to("/etc/passwd")
    bench.back_to_main()
    return bench.extracted()


def submodule(bench: Bench) -> tuple[str, str]:
    head = bench.git("rev-parse", "HEAD")
    bench.git("update-index", "--add", "--cacheinfo", f"160000,{head},{KERNEL}/sub")
    bench.git("commit", "-q", "-m", "evil")
    bench.git("checkout", "-q", "--force", "main")
    return bench.extracted()


def climbing_path(bench: Bench) -> tuple[str, str]:
    """A tree with an entry named `..`, which git writes when asked at the lowest level."""
    blob = bench.git("hash-object", "-w", "--stdin", stdin="evil")
    inner = bench.git("mktree", stdin=f"100644 blob {blob}\tkernel.toml\n")
    tree = bench.git("mktree", stdin=f"100644 blob {blob}\tkernel.toml\n040000 tree {inner}\t..\n")
    for part in reversed(KERNEL.parts):
        tree = bench.git("mktree", stdin=f"040000 tree {tree}\t{part}\n")
    bench.git("branch", "-f", "evil-tree", bench.git("commit-tree", tree, "-m", "evil"))
    bench.git("checkout", "-q", "main")
    bench.git("branch", "-f", "evil", "evil-tree")
    return bench.extracted()


def tree_bomb(bench: Bench) -> tuple[str, str]:
    """Ten folders in each of ten folders, and so on: a dozen objects, 10^12 files."""
    blob = bench.git("hash-object", "-w", "--stdin", stdin="evil")
    tree = bench.git("mktree", stdin=f"100644 blob {blob}\tf\n")
    for _ in range(12):
        tree = bench.git("mktree", stdin="".join(f"040000 tree {tree}\t{n}\n" for n in range(10)))
    for part in reversed(KERNEL.parts):
        tree = bench.git("mktree", stdin=f"040000 tree {tree}\t{part}\n")
    commit = bench.git("commit-tree", tree, "-m", "evil")
    bench.git("checkout", "-q", "main")
    bench.git("branch", "-f", "evil", commit)
    return bench.extracted()


def filters_and_hooks(bench: Bench) -> tuple[str, str]:
    (bench.root / ".gitattributes").write_text("* filter=evil\n")
    (bench.folder / ".gitattributes").write_text("* filter=evil\n")
    bench.back_to_main()
    command = f"sh -c 'touch {bench.marker}; cat'"
    bench.git("config", "filter.evil.smudge", command)
    hook = bench.root / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch '{bench.marker}'\n")
    hook.chmod(0o755)
    return bench.extracted()


def pytest_files(bench: Bench) -> tuple[str, str]:
    """conftest, ini, plugins, sitecustomize and .pth in the branch, while main is judged with."""
    for place in (
        bench.root,
        bench.folder,
        bench.root / "bench",
        bench.root / "bench" / "attention",
    ):
        (place / "conftest.py").write_text(bench.code())
        (place / "sitecustomize.py").write_text(bench.code())
        (place / "evil.pth").write_text(f"import os; {bench.code()}")
    (bench.root / "pytest.ini").write_text("[pytest]\naddopts = -p evil\n")
    (bench.root / "evil.py").write_text(bench.code())
    bench.back_to_main()
    return judged(bench)


def kernel_is_a_package(bench: Bench) -> tuple[str, str]:
    """Python beside the kernel: the judge reads that folder, it never imports from it."""
    for name in (
        "conftest.py",
        "__init__.py",
        "torch.py",
        "numpy.py",
        "sitecustomize.py",
        "test_x.py",
    ):
        (bench.folder / name).write_text(bench.code())
    return judged(bench, "--avo-candidate", str(bench.folder))


def seed_on_the_command_line(bench: Bench) -> tuple[str, str]:
    """The author knows what will be drawn, and his kernel is right there."""
    bench.back_to_main()
    return confirmed(bench, "--avo-seed", "7")


def seed_in_the_settings(bench: Bench) -> tuple[str, str]:
    bench.back_to_main()
    (bench.root / "pyproject.toml").write_text("[tool.avo]\nseed = 7\n")
    return confirmed(bench)


def confirmed(bench: Bench, *options: str) -> tuple[str, str]:
    """A confirm as far as collecting what it would run, and the sentence that ends it."""
    done = collected(bench, "--avo-candidate", "evil", "--avo-mode", "confirm", *options)
    if done.returncode == 0 and "attention" in done.stdout:
        return "ok", "the confirm would begin"
    return "refused", f"exit status {done.returncode}: {done.stderr.strip()[-400:]}"


def judged(bench: Bench, *options: str) -> tuple[str, str]:
    """The judge on the trusted checkout, as far as collecting what it would run."""
    given = options or ("--avo-candidate", "evil")
    done = collected(bench, "--avo-incumbent", "none", *given)
    if done.returncode not in (0, 5) or "attention" not in done.stdout:
        return "ok", f"the judge did not run: {done.stdout[-300:]} {done.stderr[-300:]}"
    return bench.unless_run("nothing of the candidate's ran")


def collected(bench: Bench, *options: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--avo-score"]
    line += ["--avo-target", "cpu", "--avo-baselines", "none", "--collect-only"]
    shutil.copy(
        REAL / "bench" / "attention" / "test_attention.py", bench.root / "bench" / "attention"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    return subprocess.run(
        [*line, *options], cwd=bench.root, env=environment, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def easier_problem(bench: Bench) -> tuple[str, str]:
    """The branch changes the problem; the judge's own is used (and a folder taken as it is)."""
    problem = bench.root / "bench" / "attention" / "problem.py"
    problem.write_text(problem.read_text().replace("baselines=()", 'baselines=(), name="easy"'))
    bench.back_to_main()
    request = Request(root=bench.root, kernel="attention", target="cpu", candidate="evil")
    name = assign(request).problem.name
    return ("refused" if name == "attention" else "ok"), f"judged by the problem {name!r}"


ACTS: dict[int, Callable[[Bench], tuple[str, str]]] = {
    1: link_on_disk, 2: pipe_on_disk, 3: linked_folder, 4: too_much, 5: too_many, 6: link_in_git,
    7: submodule, 8: climbing_path, 9: filters_and_hooks, 10: pytest_files,
    11: kernel_is_a_package, 12: easier_problem, 13: tree_bomb,
    14: seed_on_the_command_line, 15: seed_in_the_settings,
}  # fmt: skip


SEEDED = (14, 15)  # the twin of these lets the judge draw


def attempt(folder: Path, constants: dict[str, int], honest: bool) -> tuple[str, str]:
    """What the runner calls."""
    bench = Bench(folder)
    if not honest:
        return ACTS[constants["ATTACK"]](bench)
    (bench.folder / "more.h").write_text("// one more file\n")
    read_tree(bench.folder)
    bench.back_to_main()
    if constants["ATTACK"] in SEEDED:
        return confirmed(bench)
    status, reason = bench.extracted()
    return ("ok", "") if status == "refused" and "more.h" in reason else ("refused", reason)
