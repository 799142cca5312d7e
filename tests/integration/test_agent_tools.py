# SPDX-License-Identifier: MIT
"""A step's tools on real files, real git and the real judge, on the simulated device."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import tools as agent_tools
from agent.budget import Exhausted
from agent.step import Submission
from agent.workspace import Workspace, WorkspaceError
from avo_pytest import branches, ledger
from avo_pytest.branches import HERE, Remote
from avo_pytest.loading import _module

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")

TESTS = Path(__file__).parents[1]
world_of = _module(TESTS / "agent_world.py")
synthetic = _module(TESTS / "synthetic_ledger.py")
MANIFEST = "kernels/toy/simulated/kernel.toml"
NAMES = (
    *("edit_file", "inspect", "knowledge", "lineage", "list_files", "memory", "more", "read_file"),
    *("remove_file", "score", "search", "submit", "wait", "write_file"),
)
# Part of the cached prompt: whoever changes a tool's words or schema changes this on purpose.
FROZEN = "ecd4e52b42a5a66a"


@pytest.fixture
def world(tmp_path):
    made = world_of.step_in(world_of.repository(tmp_path / "repository"))
    yield made
    made.evaluator.close()


def script(world, **keys):
    """Write the arm's script by the tool."""
    lines = ['target = "simulated"', *(f"{k} = {json.dumps(v)}" for k, v in keys.items())]
    result = world.call("write_file", path=MANIFEST, content="\n".join(lines) + "\n")
    assert not result.is_error, result.text


def test_tools_are_sorted_and_their_schemas_frozen(world):
    assert tuple(world.tools) == NAMES
    said = [(t.name, t.description, json.dumps(t.schema)) for t in world.tools.values()]
    text = json.dumps(said)
    assert str(world.root) not in text and "toy" not in text
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == FROZEN
    for tool in world.tools.values():
        given = dict.fromkeys(tool.schema["required"], 7.5) | {"nonsense": 1}
        result = tool.run(given)
        assert result.is_error and "Traceback" not in result.text


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/etc/passwd",
            "../../../outside",
            "kernels/../../outside",
            "~/outside",
            ".git",
            "./.git",
        ),
        *("kernels/toy/simulated/link", "kernels/toy/simulated/up/outside", "linked/problem.py"),
        *("kernels\\toy", "kernels/toy/simulated/pipe", "kernels/toy/simulated", "", "\x1b[31m"),
    ],
)
def test_no_path_leads_out(world, path):
    outside = world.root.parent / "outside"
    outside.write_text("secret")
    (world.folder / "link").symlink_to(outside)
    (world.folder / "up").symlink_to(world.root.parent)
    (world.worktree / "linked").symlink_to(world.root / "bench" / "toy")
    os.mkfifo(world.folder / "pipe")
    before = (world.root / "bench" / "toy" / "problem.py").read_text()
    for name, given in (
        ("read_file", {}),
        ("edit_file", {"old": "secret", "new": "x"}),
        ("write_file", {"content": "x"}),
        ("search", {"pattern": "secret"}),
    ):
        if name == "search" and not path:
            continue  # the whole worktree
        result = world.call(name, path=path, **given)
        if path == "kernels/toy/simulated" and name == "search":
            assert result.text == "no line matches"
            continue
        assert result.is_error, (name, result.text)
        assert "secret" not in result.text and str(world.root) not in result.text
    assert outside.read_text() == "secret"
    assert (world.root / "bench" / "toy" / "problem.py").read_text() == before


@pytest.mark.parametrize("path", ["bench/toy/problem.py", "pyproject.toml", "kernels/toy/new.toml"])
def test_only_the_target_folder_is_written(world, path):
    for name, given in (
        ("edit_file", {"old": "toy", "new": "x"}),
        ("write_file", {"content": "x"}),
        ("remove_file", {}),
    ):
        result = world.call(name, path=path, **given)
        assert result.is_error and "only files in kernels/toy/simulated/" in result.text
    assert world.workspace.changes(1) == ""


def test_an_edit_replaces_exactly_one_text(world):
    script(world, gain=0.01, fault="zeros")
    edit = {"path": MANIFEST}
    assert (
        "line 2 is the nearest"
        in world.call("edit_file", **edit, old="gain= 0.01", new="x").text.lower()
    )
    several = world.call("edit_file", **edit, old=" = ", new=" =")
    assert several.is_error and "occurs 3 times (lines 1, 2, 3)" in several.text
    assert world.call("edit_file", **edit, old="a", new="a").is_error
    assert not world.call("edit_file", **edit, old=" = ", new="=", all=True).is_error
    text = (world.folder / "kernel.toml").read_text()
    assert text == 'target="simulated"\ngain=0.01\nfault="zeros"\n'
    assert world.call("read_file", path=MANIFEST, first=2, last=2).text.startswith("2  gain=0.01")
    found = world.call("search", pattern="^gain.*1$", kind="regex", path="kernels").text
    assert found == f"{MANIFEST}:2: gain=0.01"
    assert sorted(path.name for path in world.folder.iterdir()) == ["kernel.toml"]


def test_a_long_result_can_be_read_to_its_end(world):
    lines = [f"line {i} \x1b[2J é" for i in range(2000)]
    path = "kernels/toy/simulated/notes.txt"
    world.call("write_file", path=path, content="\n".join(lines))
    result = world.call("read_file", path=path, last=2000)
    read = result.text.rsplit("\n(", 1)[0]
    while result.more:
        assert len(result.text) < 4000
        name, offset = re.fullmatch(
            r'more {"result": "(\w+)", "offset": (\d+)}', result.more
        ).groups()
        result = world.call("more", result=name, offset=int(offset))
        part, _, left = result.text.partition("\n(up to ")
        read += part
        while left:
            offset = int(left.split()[0])
            part, _, left = world.call("more", result=name, offset=offset).text.partition(
                "\n(up to "
            )
            read += part
    assert "\x1b" not in read
    assert re.findall(r"line (\d+) ", read) == [str(i) for i in range(2000)]
    assert world.call("more", result="r99", offset=0).is_error


def test_scores_say_what_was_found_and_what_it_cost(world):
    script(world, gain=0.02)
    ticket = world.call("score", mode="quick").facts["ticket"]
    script(world, fault="zeros")  # while the judge works on what it was given
    good = world.call("wait", ticket=ticket)
    assert not good.is_error and good.facts["verdict"] == "MEASURED" and good.facts["correct"]
    assert good.facts["gain"] == pytest.approx(0.02, abs=0.004)
    assert good.facts["lower"] < good.facts["gain"] < good.facts["upper"]
    assert "r16 | " in good.text and len(good.text) < 4000
    wrong = world.scored("screen")
    assert (wrong.facts["verdict"], wrong.facts["correct"]) == ("INCORRECT", False)
    assert not wrong.is_error and "r1:" in wrong.facts["reason"]
    assert world.spend.spent()["gpu_seconds"] == pytest.approx(
        good.facts["gpu_seconds"] + wrong.facts["gpu_seconds"]
    )
    roofline = world.call("inspect", what="roofline").text
    assert re.search(r"^r24 \| 24\.\d* \| .* ms \| 3\.125e\+07 \| ", roofline, re.M), roofline
    again = world.call("wait", ticket=ticket)
    assert again.facts == good.facts
    assert world.call("wait", ticket="quick-000000000000").is_error
    assert world.call("wait", ticket="../../../x").is_error
    for text in (good.text, wrong.text):
        assert str(world.root) not in text


def test_a_judge_that_cannot_work_says_nothing_about_the_candidate(world):
    (world.root / "bench" / "toy" / "problem.py").write_text("raise RuntimeError('a stranger')\n")
    failed = world.scored()
    assert (failed.facts["verdict"], failed.facts["correct"]) == ("ERROR", None)
    assert "a stranger" in failed.text and str(world.root) not in failed.text


def test_what_is_left_of_the_budget_limits_the_judge(tmp_path):
    root = world_of.repository(tmp_path / "repository")
    world = world_of.step_in(root, limits={"gpu_seconds": 30.0})
    script(world, gain=0.01)
    ticket = world.call("score", mode="quick").facts["ticket"]
    request = json.loads((world.evaluator.home / ticket / "request.json").read_text())
    assert request["timeout_s"] <= 30.0
    with pytest.raises(Exhausted):  # all that is left is reserved
        world.call("score", mode="quick")
    assert not world.call("wait", ticket=ticket).is_error
    assert 0 < world.spend.spent()["gpu_seconds"] < 30


CHILD = """
import signal, sys, time
from pathlib import Path
from agent.evaluate import Evaluator
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started the tests ignores
root = Path(sys.argv[1])
judge = Evaluator(root, "toy", "simulated", "simulated", home=root / "tickets")
print(judge.start("screen", root / "kernels" / "toy" / "simulated"), flush=True)
time.sleep(600)
"""


def _judges(root: Path) -> list[int]:
    """Processes that have anything to do with a repository."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes() + bytes((entry / "cwd").readlink())
        except OSError:
            continue
        if str(root).encode() in line and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.soak)],
    ids=lambda n: n.name,
)
def test_a_judge_ends_with_its_agent_and_is_found_by_its_ticket(tmp_path, number):
    root = world_of.repository(tmp_path / "repository")
    world_of.simulated().script(root, gain=0.02)
    agent = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert agent.stdout is not None
    ticket = agent.stdout.readline().strip()
    deadline = time.monotonic() + 60
    while len(_judges(root)) < 3 and time.monotonic() < deadline:  # agent, guard, judge
        time.sleep(0.01)
    agent.send_signal(number)
    agent.wait(30)
    while _judges(root) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _judges(root)
    (root / "tickets" / ticket / "record.json").write_text("what a judge left that was ended")
    judge = world_of.Evaluator(root, "toy", "simulated", "simulated", home=root / "tickets")
    with judge:
        found = judge.wait(ticket, 120)
        assert found is not None and found.verdict == "INCONCLUSIVE" and found.correct
        assert judge.wait(ticket, 0) is found
    with world_of.Evaluator(root, "toy", "simulated", home=root / "tickets") as later:
        assert later.wait(ticket, 0) == found  # finished: nothing is started


def test_a_proposal_is_in_normal_form_and_the_lineage_goes_on(world):
    script(world, gain=0.02)
    result = world.call("submit", idea="Faster \x1b[31m#12", expected_gain_percent=2)
    assert result.submission is not None and result.facts["scored"] is False
    assert result.submission.expected_gain == pytest.approx(0.02)
    assert result.submission.author == agent_tools.AUTHOR
    space = world.workspace
    commit = space.propose(1, result.submission)
    assert space.propose(1, result.submission) == commit
    git = world_of.git
    assert (
        git(world.root, "rev-parse", f"{commit}^")
        == space.main()
        == git(world.root, "rev-parse", "main")
    )
    assert git(world.root, "rev-parse", "evolve/r1/1") == commit
    assert git(world.root, "diff", "--name-only", "main", commit) == MANIFEST
    said = git(world.root, "show", "--no-patch", "--format=%an|%cn|%s", commit)
    assert said == "avo agent (AI)|avo|toy/simulated: Faster [31mno. 12"
    assert space.accept(commit) == commit == space.tip() == space.accept(commit)
    assert space.worktree(2) != space.worktree(1)
    assert (space.folder(2) / "kernel.toml").read_text() == (
        world.folder / "kernel.toml"
    ).read_text()
    main = git(world.root, "rev-parse", "main")
    assert space.return_to_main() == main == space.tip() == space.return_to_main()
    kept = git(world.root, "for-each-ref", "--format=%(objectname)", "refs/avo/attempts/r1/")
    assert kept == commit  # the lineage that was left


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda f: (f / "evil").symlink_to("/etc/passwd"), "only regular files"),
        (lambda f: (f / ".gitattributes").write_text("* filter=x\n"), "attributes"),
        (lambda f: (f / "a b").write_text(""), "name"),
        (lambda f: (f / "kernel.toml").unlink(), "manifest|empty|regular|No such"),
        (lambda f: (f / "x").write_text("version https://git-lfs.github.com/spec/v1\n"), "lfs"),
        (lambda f: os.mkfifo(f / "pipe"), "only regular files"),
        (lambda f: None, "empty"),
    ],
)
def test_what_cannot_land_cannot_be_submitted_but_is_kept(world, spoil, rule):
    spoil(world.folder)
    result = world.call("submit", idea="an idea")
    assert result.is_error and re.search(rule, result.text), result.text
    assert result.submission is None and str(world.root) not in result.text
    with pytest.raises(WorkspaceError):
        world.workspace.propose(1, Submission(idea="an idea"))
    commit = world.workspace.keep_failed(1, "it cannot land")
    assert world.workspace.keep_failed(1, "it cannot land") == commit
    assert "tree r1/1: Attempt 1: it cannot land" in world.call("lineage", action="failed").text


def test_failed_trees_are_offered_to_the_next_step(world):
    script(world, gain=-0.01)
    world.workspace.keep_failed(1, "slower")
    world.workspace.close(1)
    world.workspace.close(1)
    assert not world.worktree.exists()
    later = world.workspace.worktree(2)
    assert world.workspace.changes(2) == ""
    found = agent_tools.toolbox(
        later, world.workspace.folder(2), workspace=world.workspace, evaluator=world.evaluator,
        spend=world.spend, knowledge=world_of.Knowledge(),
        memory=world_of.Memory.of(world.root, "toy", "simulated"), lineage_root=world.root,
        shell=False,
    )  # fmt: skip
    lineage = next(tool for tool in found if tool.name == "lineage")
    assert "-gain = -0.01" in lineage.run({"action": "diff", "of": "r1/1"}).text
    assert not lineage.run({"action": "restore", "of": "r1/1"}).is_error
    assert "+gain = -0.01" in lineage.run({"action": "diff"}).text
    assert lineage.run({"action": "restore", "of": "r1/7"}).is_error


def test_the_ledger_is_read_by_its_tool(world):
    device = {"kernel": "toy", "target": "simulated", "device": "simulated", "role": "local"}
    entries = synthetic.ledger(30, promotions=4, **device)
    with branches.opened(world.root) as repository:
        ledger.create(Remote(repository, HERE), {}, entries)
    ask = lambda **given: world.call("lineage", **given)  # noqa: E731
    ladder = ask(action="list").text
    promoted = [e for e in entries if e.version is not None and e.kind == "verdict"]
    assert len(promoted) == 4 and all(e.idea[:12] in ladder for e in promoted)
    assert promoted[0].id in ask(action="show", version=promoted[0].version).text
    assert "s8k" in ask(action="show", run=promoted[0].id).text
    history = ask(action="history", configuration="s8k").text
    assert sum("TFLOPS" in line for line in history.splitlines()) >= 5
    failed = ask(action="failed").text
    lost = [e for e in entries if e.kind == "verdict" and e.version is None]
    assert all(e.id in failed for e in lost[:5])
    assert ask(action="show", version=999).is_error and ask(action="show").is_error


def test_knowledge_and_memory_are_there_across_steps(world):
    assert "swizzle" in world.call("knowledge", query="swizzle of shared memory").text.lower()
    page = re.match(r"- ([\w-]+):", world.call("knowledge").text)
    assert page is not None and not world.call("knowledge", page=page[1]).is_error
    assert world.call("knowledge", page="../../../etc/passwd").is_error
    world.call("memory", note="tiles of 64 spill 12 registers", kind="failed")
    assert "tiles of 64 spill" in world.call("memory").text


def _inspection(target, **given):
    """What `inspect` says of this repository's own kernel."""
    from agent.tools import inspect, scoring
    from agent.tools.tool import Pages

    root = TESTS.parent
    judge = world_of.Evaluator(root, "attention", target)
    scored = scoring.Scoring(root / "kernels" / "attention" / target, None, judge, None)
    (tool,) = inspect.tools(inspect.Inspection(root, judge, scored, None), Pages({root: ""}))
    result = tool.run(given)
    assert str(root) not in result.text
    return result


def test_what_the_compiler_made_of_a_kernel():
    built = _inspection("cpu", what="build")
    assert not built.is_error, built.text
    assert re.search(r"KEY_BLOCK=\d+", built.text) and re.search(r"_fma \d+", built.text)
    loop = _inspection("cpu", what="loop")
    assert not loop.is_error and re.search(r"^loop of \d+ instructions in ", loop.text)
    assert re.search(r"v?f(n?m(add|sub)|mla)|vdpbf16ps", loop.text)
    assert "score first" in _inspection("cpu", what="roofline").text
    assert _inspection("cpu", what="profile").is_error
    assert "there are: " in _inspection("cpu", what="loop", code="zzz").text


@pytest.mark.soak
def test_what_the_compiler_made_of_a_hopper_kernel():
    pytest.importorskip("cuda.core", reason="the cuda extra is not installed")
    built = _inspection("sm90", what="build")
    assert re.search(r"attention_forward: \d+ registers, 0 bytes spilled", built.text), built.text
    assert re.search(r"HGMMA \d+", built.text)
    assert "HGMMA" in _inspection("sm90", what="loop").text
    assert "sm_80" in _inspection("sm80", what="build", arch="sm_80").text
    assert _inspection("sm90", what="build", arch="sm_80").is_error


def test_a_kernel_that_does_not_build_says_why(world):
    folder = world.root / "kernels" / "toy" / "cpu"
    folder.mkdir()
    (folder / "kernel.toml").write_text(
        'schema = 1\ntarget = "cpu"\n[compile]\nsource = "toy.cpp"\n[[launch]]\nfunction = "toy"\n'
        'arguments = ["x", "y"]\n'
    )
    (folder / "toy.cpp").write_text("#include </etc/shadow>\nint missing = nowhere;\n")
    world_of.git(world.root, "add", "-A")
    world_of.git(world.root, "commit", "--quiet", "-m", "A CPU kernel")
    shutil.rmtree(world.home)
    world_of.git(world.root, "worktree", "prune")
    world_of.git(world.root, "update-ref", "-d", "refs/heads/evolve/r1/work")
    cpu = world_of.step_in(world.root, target="cpu", device="cpu")
    result = cpu.call("inspect", what="build")
    assert result.is_error and "toy.cpp" in result.text and "does not compile" in result.text
    assert str(world.root) not in result.text and "root:" not in result.text


SHIM = """#!/bin/sh
count=$(cat "$AVO_COUNT" 2>/dev/null || echo 0)
echo $((count + 1)) > "$AVO_COUNT"
[ "$count" = "$AVO_DIE_AT" ] && kill -9 $PPID && sleep 5
exec "$AVO_GIT" "$@"
"""
LIFE = """
import sys
from pathlib import Path
from agent.step import Submission
from agent.workspace import Workspace
root = Path(sys.argv[1])
space = Workspace(root, root / ".avo" / "evolve" / "r1")
space.begin("r1", "toy", "simulated")
done = space.home / "done"
if not done.exists():
    folder = space.worktree(1) / "kernels" / "toy" / "simulated"
    (folder / "kernel.toml").write_text('target = "simulated"\\ngain = 0.01\\n')
    space.keep_failed(1, "first")
    space.accept(space.propose(1, Submission(idea="gain", author="x (AI)")))
    done.write_text("")
space.close(1)
space.worktree(2)
print(space.tip())
"""


def _life(root: Path, folder: Path, die_at: int) -> subprocess.CompletedProcess[str]:
    """A run's git work in a process that is killed as it starts its nth git."""
    git = subprocess.run(
        ["which", "git"], capture_output=True, text=True, check=True
    ).stdout.strip()
    folder.mkdir(exist_ok=True)
    (folder / "git").write_text(SHIM)
    (folder / "git").chmod(0o755)
    (folder / "count").unlink(missing_ok=True)
    environment = {
        **os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(TESTS.parent),
        "AVO_COUNT": str(folder / "count"), "AVO_DIE_AT": str(die_at), "AVO_GIT": git,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", LIFE, str(root)], env=environment, capture_output=True, text=True
    )


def _killed_everywhere(tmp_path: Path, points: list[int]) -> None:
    for point in points:
        root = world_of.repository(tmp_path / f"at-{point}")
        died = _life(root, tmp_path / "bin", point)
        done = _life(root, tmp_path / "bin", -1)
        assert done.returncode == 0, (point, done.stderr)
        git, space = world_of.git, Workspace(root, root / ".avo" / "evolve" / "r1")
        assert git(root, "rev-parse", "main") == git(root, "rev-parse", "evolve/r1/work^")
        assert git(root, "rev-parse", "evolve/r1/1") == done.stdout.strip() == space.tip()
        assert git(root, "log", "-1", "--format=%s", "refs/avo/attempts/r1/1") == "Attempt 1: first"
        assert "gain = 0.01" in (space.folder(2) / "kernel.toml").read_text()
        assert not space.folder(1).exists()
        listed = git(root, "worktree", "list", "--porcelain")
        assert listed.count("worktree ") == 2, (point, died.returncode, listed)
        git(root, "fsck", "--strict", "--no-dangling")


def test_every_operation_can_be_repeated_after_a_kill(tmp_path):
    _killed_everywhere(tmp_path, [9])


@pytest.mark.soak
def test_every_operation_can_be_repeated_after_a_kill_at_each_git(tmp_path):
    root = world_of.repository(tmp_path / "whole")
    assert _life(root, tmp_path / "bin", -1).returncode == 0
    count = int((tmp_path / "bin" / "count").read_text())
    assert count > 30
    _killed_everywhere(tmp_path, list(range(count)))
