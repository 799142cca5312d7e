# SPDX-License-Identifier: MIT
"""An evolution of the real CPU kernel: a scripted model edits it, this machine measures it.

pytest -m soak -s tests/soak/test_real_evolution.py   (a quiet machine; four minutes)

`main` begins with rung 3 of docs/lineage/attention-cpu.notes.md. Two steps climb a rung, by factors
that no noise hides; between them come a rung below, a wrong kernel, one that remembers results, and
one that does not compile. Proposals go out as pull requests, and a gate judges each with a confirm.
Compiler, sandbox, clock, git, SDK and HTTP are real; GitHub and the model are on loopback.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the agent extra is not installed")
pytest.importorskip("anthropic", reason="the agent extra is not installed")

from avo_pytest.devices.cpu import isolation  # noqa: E402
from avo_pytest.loading import _module  # noqa: E402

ROOT = Path(__file__).parents[2]
evolving = _module(ROOT / "tests" / "evolving.py")
github_api = _module(ROOT / "tests" / "github_api.py")
messages = _module(ROOT / "tests" / "messages_api.py")
call, git, told = messages.call, evolving.git, evolving.told

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(isolation()[0] != "child", reason="no sandbox here: avo runner setup"),
]
FOLDER = "kernels/attention/cpu"
RUNGS = ROOT / "docs" / "lineage" / "attention-cpu"
# The differences are large: few samples find them, and disturbed ones do no harm.
PYPROJECT = """\
[tool.pytest.ini_options]
addopts = ["--import-mode=importlib"]
[tool.avo]
kernel = "attention"
[tool.avo.policy.cpu]
replicates = 8
screen_blocks = 16
confirm_blocks = 2
max_disturbed = 0.5
"""
SHAPES = "_CPU_SHAPES = ((8, 8, 8, 512), (4, 4, 4, 1024), (2, 8, 2, 1024), (1, 4, 4, 2048))"
FEWER = "_CPU_SHAPES = ((1, 4, 4, 512), (1, 4, 2, 768))"
WORK = "    auto rows = [=](int32_t thread) {"
SHARED = "                     threads);\n        return;"  # the loader's threads have done it
JOINED = "    for (std::thread& other : others) other.join();"
KEEP = "kept.assign(o, o + words); known = q;"
REMEMBER = """\
    static std::vector<uint16_t> kept;
    static const uint16_t* known;
    const int64_t words = batch * seq * heads * D;
    if (known == q && kept.size() == size_t(words)) {
        std::memcpy(o, kept.data(), 2 * words);
        return;
    }
"""


def written(source):
    """A whole version, file by file."""
    return [
        call("write_file", {"path": f"{FOLDER}/{path.name}", "content": path.read_text()})
        for path in sorted(source.iterdir())
    ]


def edited(*pairs):
    path = f"{FOLDER}/attention.cpp"
    return [call("edit_file", {"path": path, "old": old, "new": new}) for old, new in pairs]


STEPS = {  # what the model does, and what must come of it
    1: (written(RUNGS / "4-tiled"), "PROMOTE"),
    2: (written(RUNGS / "2-vector"), "REJECT"),
    3: (edited(("causal && i < seq ? i + 1 : limit", "limit")), "INCORRECT"),  # no mask
    4: (
        edited(
            (WORK, REMEMBER + WORK),
            (SHARED, SHARED.replace("return;", f"{KEEP} return;")),
            (JOINED, f"{JOINED} {KEEP}"),
        ),
        "INCORRECT",
    ),
    5: (edited((JOINED, "    join(others);")), "INCORRECT"),  # no such function
    6: (written(ROOT / FOLDER), "PROMOTE"),
}
SCORED = (1, 5)  # steps in which the model looks before it submits
WHY = {2: "the gain is at most -", 3: "RMS", 4: "RMS", 5: "build error"}


def model(request):
    """The same answer to the same conversation."""
    if request["model"] != messages.MODELS[0]:
        return messages.answer("A note.")
    brief = json.dumps(request["messages"][0])
    step = next(n for n in STEPS if f"This is step {n} of run" in brief)
    turns = [messages.answer(messages.think("An idea."), *STEPS[step][0])]
    if step in SCORED:
        turns += [messages.answer(call("score", {"mode": "quick"})), messages.answer(call("wait"))]
    turns.append(messages.answer(call("submit", {"idea": f"idea {step}"})))
    return turns[sum(m["role"] == "assistant" for m in request["messages"])]


def repository(folder):
    """The judge's problem with fewer shapes, and a kernel that can become faster."""
    root = folder / "repository"
    shutil.copytree(ROOT / "bench" / "attention", root / "bench" / "attention")
    shutil.copytree(RUNGS / "3-packed", root / FOLDER)
    problem = root / "bench" / "attention" / "problem.py"
    assert SHAPES in problem.read_text()
    problem.write_text(problem.read_text().replace(SHAPES, FEWER))
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / ".gitignore").write_text(".avo/\n__pycache__/\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "the beginning")
    return root


def test_the_real_kernel_evolves(tmp_path):
    root, fork = repository(tmp_path), tmp_path / "fork.git"
    git(tmp_path, "init", "-q", "--bare", str(fork))
    home = root / ".avo" / "evolve" / "r1"
    with github_api.serve("owner/name", bare=fork) as github, messages.MessagesApi(model) as api:
        environment = {
            **github.environment(), **api.environment, "AVO_PROPOSER_REMOTE": str(fork),
            "AVO_PROPOSER_OWNER": "proposer",
        }  # fmt: skip
        options = ("--operator", "claude", "--steps", str(len(STEPS)), "--name", "r1",
                   "--max-usd", "50", "--score-via", "ci", "--pull-requests")  # fmt: skip
        for step in STEPS:
            place = ("attention", "--target", "cpu", "--device", "cpu")
            code, said = evolving.evolve(
                root, *options, environment=environment, place=place, limit_s=1800
            )
            print(said)
            assert code == 3, said
            if step == 1:
                evolving.upstream(home, "attention", "cpu")
            (commit,) = told(home, "proposed", "commit")[-1]
            print(evolving.gate(home, commit, "cpu", limit_s=1200))
            options = ("--resume", "r1")
        code, said = evolving.evolve(root, *options, environment=environment)
        print(said)
        assert code == 0, said
        holds(home, said)
        requested(home, fork, github)


def holds(home, said):
    """Journal, ledger, branches and report tell the same."""
    verdicts = [verdict for _, verdict in STEPS.values()]
    assert told(home, "judged", "step", "verdict") == list(zip(STEPS, verdicts, strict=True))
    gains = dict(told(home, "judged", "step", "gain"))
    assert gains[1] > 0.3 and gains[6] > 0.2, gains
    reasons = dict(told(home, "judged", "step", "reason"))
    assert not {n: reasons[n] for n, text in WHY.items() if text not in reasons[n]}
    assert told(home, "ended", "step") == [(n,) for n in STEPS]
    entries = evolving.ledger(home)
    assert [(e["verdict"], e.get("version")) for e in entries if e["kind"] == "verdict"] == [
        (verdict, {1: 0, 6: 1}.get(n)) for n, verdict in zip(STEPS, verdicts, strict=True)
    ]
    subjects = [f"attention/cpu: idea {n}" for n in (1, 6)]
    assert evolving.subjects(home) == subjects
    remote, main = home / "remote.git", home / "main"
    for name in ("attention.cpp", "kernel.toml", "tile.h"):
        shown = git(remote, "show", f"main:{FOLDER}/{name}")
        assert shown == (ROOT / FOLDER / name).read_text().strip()
    branches = git(main, "for-each-ref", "--format=%(refname)", "refs/heads/evolve").splitlines()
    assert branches == [*(f"refs/heads/evolve/r1/{n}" for n in STEPS), "refs/heads/evolve/r1/work"]
    tips = [git(main, "rev-parse", f"{name}:{FOLDER}") for name in ("main", "evolve/r1/work")]
    assert tips[0] == tips[1]
    kept = git(main, "for-each-ref", "--format=%(refname)", "refs/avo/attempts/r1").splitlines()
    numbers = {int(name.rpartition("/")[2]) for name in kept if name.rpartition("/")[2].isdigit()}
    assert numbers == {2, 3, 4, 5}
    report = (home / "report.md").read_text()
    assert report.count("| submitted |") == len(STEPS) and "idea 6" in report
    assert evolving.last(said).startswith("AVO evolve attention/cpu: version 1 was promoted: +")


def requested(home, fork, github):
    """A pull request a step; what was not promoted is closed, the rest is the gate's to close."""
    pulls = [github.pulls[number] for number in sorted(github.pulls)]
    assert [pull["head_ref"] for pull in pulls] == [f"evolve/r1/{n}" for n in STEPS]
    commits = [git(fork, "rev-parse", pull["head_ref"]) for pull in pulls]
    assert commits == [commit for (commit,) in told(home, "proposed", "commit")]
    assert [pull["open"] for pull in pulls] == [v == "PROMOTE" for _, v in STEPS.values()]
    assert "| 1 | quick | MEASURED | +" in pulls[0]["body"]
    assert "| 1 | quick | INCORRECT |" in pulls[4]["body"]
