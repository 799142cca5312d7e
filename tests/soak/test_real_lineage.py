# SPDX-License-Identifier: MIT
"""A lineage on this machine's CPU, from seed to audit: real processes, real git, nothing scripted.

pytest -m soak -s tests/soak/test_real_lineage.py     (a quiet machine; a quarter of an hour)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from avo_pytest import ledger
from avo_pytest.commands.new import kernel_files
from avo_pytest.devices.cpu import isolation
from avo_pytest.lineage import lineages
from avo_pytest.loading import _module

helper = _module(Path(__file__).parents[1] / "promotion_repository.py")
git = helper.git
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform != "linux", reason="scoring machines run Linux"),
    pytest.mark.skipif(isolation()[0] != "child", reason="no sandbox here: avo runner setup"),
]

PROJECT = """\
[tool.avo.policy]
confirm_blocks = 8
replicates = 16

[[tool.avo.gates]]
kernel = "norm"
target = "cpu"
device = "cpu"
role = "judge"
"""
SOURCE = Path("kernels/norm/cpu/norm.cpp")
WORK = "    work(0, rows / threads);"
DELAY = "    for (volatile int64_t i = 0; i < {turns}; ++i) {{}}\n" + WORK
MEMORY = """\
    static const uint16_t* seen[64];
    static int calls = 0;
    bool known = false;
    for (const uint16_t* one : seen) known = known || one == x;
    seen[calls++ % 64] = x;
    if (!known) work(0, rows / threads);
"""
# idea → what stands for the work in its place, and the verdict beside a version without a delay
IDEAS = {
    "worse": (DELAY.format(turns=2_000_000), "REJECT"),
    "equal": (f"    // the same in other words\n{WORK}", "NO-CHANGE"),
    "wrong": (WORK.replace("rows", "(rows / 2)"), "INCORRECT"),
    "cheats": (MEMORY, "INCORRECT"),
}
RERUNS = 2  # of what a disturbed machine said nothing about, as the policy has it
INVALID, UNTOLD = 13, 13


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A bare repository whose main has a delay in it, calibrated, with its seed in the ledger."""
    folder = tmp_path_factory.mktemp("team")
    bare, desk = folder / "bare.git", folder / "desk"
    git(folder, "init", "-q", "--bare", "-b", "main", str(bare))
    git(folder, "clone", "-q", str(bare), str(desk))
    git(desk, "checkout", "-q", "-b", "main")
    for path, text in kernel_files("norm", "cpu").items():
        (desk / path).parent.mkdir(parents=True, exist_ok=True)
        (desk / path).write_text(text)
    plain = (desk / SOURCE).read_text()
    (desk / SOURCE).write_text(plain.replace(WORK, DELAY.format(turns=2_000_000)))
    (desk / "pyproject.toml").write_text(PROJECT)
    (desk / ".gitignore").write_text(".avo/\n__pycache__/\n*.json\nsite/\n")
    git(desk, "add", "-A")
    git(desk, "commit", "-qm", "the beginning")
    git(desk, "push", "-q", "origin", "main")
    _run(desk, "init", "--remote")
    made = SimpleNamespace(bare=bare, desk=desk, plain=plain)
    calibrated = _run(desk, "calibrate", wanted=None)
    if calibrated.returncode:
        pytest.skip(f"this machine cannot be calibrated: {calibrated.stderr.strip()[-300:]}")
    assert handed_in(made, "seed", "measure")[0] == 0
    return made


def _run(desk: Path, *line: object, wanted: int | None = 0) -> SimpleNamespace:
    done = helper.avo(desk, *line, seconds=1800)
    print(done.stdout)
    assert wanted in (None, done.returncode), done.stdout + done.stderr
    return done


def handed_in(team: SimpleNamespace, name: str, mode: str = "confirm") -> tuple[int, dict]:
    """Measured, judged, and recorded with what may land: the status, and what was done."""
    desk, nonce = team.desk, f"asked-{name}"
    record, out = desk / f"{name}.json", desk / f"{name}.outcome.json"
    asked = ("--incumbent", "origin/main") if mode == "confirm" else ()
    _run(desk, "score", f"--mode={mode}", "--nonce", nonce, *asked, "--json", record, wanted=None)
    line = ("--remote", "origin", "--role", "judge", "--nonce", nonce, "--json", out)
    status = _run(desk, "promote", record, *line, wanted=None).returncode
    return status, json.loads(out.read_text())


def judged(team: SimpleNamespace, idea: str, work: str) -> dict:
    """A commit on main's tip, judged; again where the machine was disturbed."""
    git(team.desk, "fetch", "-q", "origin", "main")
    git(team.desk, "checkout", "-q", "--detach", "origin/main")
    (team.desk / SOURCE).write_text(team.plain.replace(WORK, work))
    git(team.desk, "commit", "-qam", idea)
    for number in range(1 + RERUNS):
        status, outcome = handed_in(team, f"{idea.split()[-1]}-{number}")
        if status != INVALID:
            break
    return outcome


def test_main_gets_the_better_one_and_the_audit_holds(team: SimpleNamespace) -> None:
    bare, desk = team.bare, team.desk
    outcome = judged(team, "without the delay", WORK)
    assert outcome["kind"] == "promoted", outcome["text"]
    assert outcome["entry"]["gain"][0] > 0.18  # 20 %
    best = git(bare, "rev-parse", "main")
    for idea, (work, verdict) in IDEAS.items():
        outcome = judged(team, idea, work)
        found = outcome["kind"], outcome["entry"]["verdict"], outcome["entry"]["idea"]
        assert found == ("recorded", verdict, idea), outcome["text"]
    assert git(bare, "rev-parse", "main") == best
    assert git(bare, "show", f"main:{SOURCE}") == team.plain.strip()
    for _ in range(1 + RERUNS):
        git(desk, "fetch", "-q", "origin")
        git(desk, "checkout", "-q", "--detach", "origin/main")
        audit = _run(desk, "audit", "--remote", "origin", "--role", "judge", wanted=None)
        if audit.returncode != UNTOLD:
            break
    assert audit.returncode == 0, audit.stdout + audit.stderr
    _everything_agrees(team, best)


def _everything_agrees(team: SimpleNamespace, best: str) -> None:
    """Ledger, commands, page and badges."""
    bare, desk = team.bare, team.desk
    entries = [e for e in ledger.load(bare) if e.verdict != "INVALID"]
    assert [e.idea for e in entries if e.kind == "verdict"] == ["without the delay", *IDEAS]
    (found,) = lineages(entries)
    assert [r.version for r in found.rungs] == [0, 1] and found.current.entry.commit == best
    audit = found.current.audit
    assert audit.verdict == "HOLDS"
    best_badge = git(bare, "show", "avo-results:badges/norm-cpu/cpu/best.json")
    value = 1000 * audit.overall["tflops"][0]
    assert json.loads(best_badge)["message"].startswith(f"{value:,.0f} GFLOPS")
    length = git(bare, "show", "avo-results:badges/norm-cpu/cpu/lineage.json")
    assert json.loads(length)["message"].startswith("v1 of ")
    shown = json.loads(_run(desk, "lineage", "--json", "--remote", "origin").stdout)
    assert [v["version"] for v in shown[0]["versions"]] == [0, 1]
    for run in (found.current.entry.id, audit.id):
        _run(desk, "verify", run, "--ledger", "origin", "--root", desk)
    pytest.importorskip("matplotlib", reason="matplotlib (the extra `report`) draws the page")
    _run(desk, "page", "--remote", "origin", "--out", desk / "site")
    page = (desk / "site" / "index.html").read_text()
    assert all(idea in page for idea in ("without the delay", *IDEAS))
