# SPDX-License-Identifier: MIT
"""The whole gate in a scratch repository: three proposals, of which one lands on `main`.

Launch times are scripted; everything else is what happens to a real proposal, by the same commands.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

KERNEL = "double"
FOLDER = Path("kernels") / KERNEL / "simulated"
DEVICE = "simulated"
LONGEST_S = 120.0
WHO = {"NAME": "demo", "EMAIL": "demo@localhost"}


class DemoError(Exception):
    """A stage did not do what it should; the text has what it said."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed, how its script says so, and what the judge must say of it."""

    branch: str
    idea: str
    script: str
    verdict: str
    code: int


PROPOSALS = (
    Proposal("evolve/demo/1", "Prefetch the next row", "gain = 0.02", "PROMOTE", 0),
    Proposal("evolve/demo/2", "Unroll four times", "gain = 0.01", "REJECT", 10),
    Proposal(
        "evolve/demo/3", "Twice as fast (it leaves a row out, once it is timed)",
        'gain = 0.7\nfault = "row"\nat = 20', "INCORRECT", 12,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One proposal and what became of it."""

    proposal: Proposal
    verdict: str
    comment: str
    main: str | None  # where it moved


@dataclass(frozen=True, slots=True)
class Demo:
    """A bare repository `upstream.git`, a clone `work`, and what was drawn, all in one folder."""

    folder: Path
    say: Callable[[str], None]

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def play(self, proposals: Sequence[Proposal] = PROPOSALS) -> list[Shown]:
        """All of it. Raises DemoError."""
        self._begin()
        shown = [self._judge(proposal) for proposal in proposals]
        self._finish()
        return shown

    def _begin(self) -> None:
        self.say("\n== A repository with one kernel, its problem and its ledger")
        upstream = self.folder / "upstream.git"
        self._git("init", "-q", "--bare", "-b", "main", str(upstream), at=self.folder)
        self._git("clone", "-q", str(upstream), str(self.work), at=self.folder)
        self._git("checkout", "-q", "-b", "main")
        for path, text in _files().items():
            (self.work / path).parent.mkdir(parents=True, exist_ok=True)
            (self.work / path).write_text(text, encoding="utf-8")
        self._commit("double: the seed")
        self._git("push", "-q", "origin", "main")
        self._avo("init", "--remote", "origin")
        self._git("fetch", "-q", "origin")
        self.say(
            "\n== How noisy is the machine? The seed against itself; then the seed is version 0"
        )
        self._avo("calibrate", "--device", DEVICE, "--processes", "8")
        self._avo("score", "--device", DEVICE, "--json", "seed.json", "--", "-q")
        self._avo("promote", "seed.json", "--remote", "origin")

    def _judge(self, proposal: Proposal) -> Shown:
        """A branch is pushed; what is judged and landed is its commit, never a checkout."""
        self.say(f"\n== Proposal: {proposal.idea}")
        self._git("checkout", "-q", "-B", proposal.branch, "origin/main")
        _write(self.work / FOLDER / "kernel.toml", _kernel(proposal.script))
        self._commit(proposal.idea)
        self._git("push", "-q", "origin", f"HEAD:refs/heads/{proposal.branch}", shown=True)
        commit = self._git("rev-parse", "HEAD").strip()
        self._git("checkout", "-q", "main")
        self._avo(
            "score", "--mode", "confirm", "--device", DEVICE, "--candidate", commit,
            "--incumbent", "origin/main", "--json", "record.json", "--exit-verdict", "--", "-q",
            code=proposal.code,
        )  # fmt: skip
        self._avo("verify", "record.json")
        self._avo(
            "promote", "record.json", "--commit", commit, "--remote", "origin",
            "--json", "outcome.json", code=proposal.code,
        )  # fmt: skip
        self._git("fetch", "-q", "origin")
        shown = self._shown(proposal, commit)
        self.say("\n-- the comment that the author reads\n" + _indented(shown.comment))
        return shown

    def _shown(self, proposal: Proposal, commit: str) -> Shown:
        """With the comment that a pull request would get."""
        from avo_pytest.ci import comment
        from avo_pytest.ci.order import Order
        from avo_pytest.ledger import load

        told: Mapping[str, Any] = json.loads((self.work / "outcome.json").read_text("utf-8"))
        entry = next(e for e in load(self.work, "origin") if e.id == told["entry"]["id"])
        if entry.verdict != proposal.verdict:
            raise DemoError(f"{proposal.idea}: {entry.verdict}, not {proposal.verdict}")
        order = Order(
            event="demo", sender=WHO["NAME"], created=entry.created, repository="demo", run="1",
            attempt=1, nonce="", proposal=commit, kernel=KERNEL, target=DEVICE,
        )  # fmt: skip
        outcome = {
            "outcome": told["kind"], "verdict": entry.verdict, "main": told["main"] or "",
            "text": told["text"], "entry": entry.id,
            "advice": " ".join(r.get("advice", "") for r in entry.reasons),
        }  # fmt: skip
        text = comment.body(order, outcome, entry, {})
        return Shown(proposal=proposal, verdict=entry.verdict, comment=text, main=told["main"])

    def _finish(self) -> None:
        self.say("\n== Do the claims add up? main against the seed, measured anew")
        self._git("merge", "-q", "--ff-only", "origin/main")
        self._avo("audit", "--device", DEVICE, "--remote", "origin", "--blocks", "4")
        self.say("\n== What everybody sees")
        self._git("log", "--format=%h %an: %s", "--first-parent", "origin/main", shown=True)
        self._git("fetch", "-q", "origin")
        self._avo("lineage", "--remote", "origin")
        self._draw()

    def _draw(self) -> None:
        import importlib.util

        for path, text in _badges(self.work).items():
            (self.folder / "badges" / path).parent.mkdir(parents=True, exist_ok=True)
            _write(self.folder / "badges" / path, text)
        if importlib.util.find_spec("matplotlib") is None:
            self.say("no page: it needs matplotlib: pip install 'avo-pytest[report]'")
            return
        self._avo("page", "--out", str(self.folder / "site"), "--remote", "origin")

    def _commit(self, message: str) -> None:
        self._git("add", "-A")
        self._git("commit", "-q", "-m", message)

    def _git(self, *line: str, at: Path | None = None, shown: bool = False) -> str:
        if shown:
            self.say(f"$ git {shlex.join(line)}")
        text = _run(("git", *line), at or self.work, 0)
        if shown and text.strip():
            self.say(_indented(text))
        return text

    def _avo(self, *line: str, code: int = 0) -> None:
        self.say(f"$ avo {shlex.join(line)}")
        self.say(_indented(_run((sys.executable, "-m", "avo_pytest", *line), self.work, code)))


def _run(command: tuple[str, ...], at: Path, code: int) -> str:
    """What it said. Raises DemoError for another exit status."""
    done = subprocess.run(
        command, cwd=at, env=_environment(), text=True, errors="replace", timeout=LONGEST_S,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if done.returncode != code:
        said = f"{shlex.join(command)}: exit status {done.returncode}, not {code}"
        raise DemoError(f"{said}\n{done.stdout}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Without anybody's settings of git, pytest and ourselves, which a scratch folder has not."""
    ours = {f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in WHO.items()}
    ours |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    package = str(Path(__file__).resolve().parents[1])
    ours["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    foreign = ("GIT_", "AVO_", "PYTEST_")
    return {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | ours


def _files() -> dict[Path, str]:
    templates = resources.files("avo_pytest") / "templates"
    test = (templates / "bench" / "test_kernel.py.in").read_text(encoding="utf-8")
    return {
        Path("pyproject.toml"): (templates / "demo" / "pyproject.toml.in").read_text("utf-8"),
        Path("bench", KERNEL, "problem.py"): (templates / "demo" / "problem.py.in").read_text(
            "utf-8"
        ),
        Path("bench", KERNEL, f"test_{KERNEL}.py"): test.replace("@KERNEL@", KERNEL),
        FOLDER / "kernel.toml": _kernel(""),
        Path(".gitignore"): ".avo/\n__pycache__/\n.benchmarks/\n*.json\n",
    }


def _kernel(script: str) -> str:
    return f'target = "{DEVICE}"\n{script}\n'


def _badges(root: Path) -> dict[str, str]:
    """Those of the one lineage; in a real repository only what judges measured has badges."""
    from avo_pytest.ledger import load
    from avo_pytest.lineage import lineages
    from avo_pytest.report import badge

    (found,) = lineages(load(root, "origin"))
    return badge.files(found.series, badge.of(found))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.strip().splitlines())
