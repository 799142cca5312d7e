# SPDX-License-Identifier: MIT
"""The gate with only GitHub simulated: a CPU kernel, compiled, confined, timed on this machine.

pytest -m soak tests/soak/test_real_gate.py       (a quiet machine; ten minutes)
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from avo_pytest.beginning import layout
from avo_pytest.devices.cpu import isolation
from avo_pytest.loading import _module

TESTS = Path(__file__).parents[1]
pytest.importorskip("yaml", reason="PyYAML is missing: pip install '.[dev]'")
actions = _module(TESTS / "actions.py")
github_api = _module(TESTS / "github_api.py")
KERNEL = "norm"
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform != "linux", reason="scoring machines run Linux"),
    pytest.mark.skipif(actions.act() is None, reason="act is not installed; .ci/run installs it"),
    pytest.mark.skipif(isolation()[0] != "child", reason="no sandbox here: avo runner setup"),
]


def test_a_kernel_that_does_half_the_work_lands_on_main(tmp_path: Path) -> None:
    sources: dict[str, str] = {}

    def write(root: Path) -> None:
        for name, text in layout(root, KERNEL).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        source = root / "kernels" / KERNEL / "cpu" / f"{KERNEL}.cpp"
        sources[source.relative_to(root).as_posix()] = source.read_text()
        source.write_text(twice(source.read_text()))
        shutil.copytree(TESTS / "redteam", root / "tests" / "redteam")  # the canary's cheats
        shutil.copytree(TESTS.parent / "bench" / "attention", root / "bench" / "attention")

    with github_api.serve("owner/name", bare=tmp_path / "bare.git") as github:
        github.add_runner("scorer", "self-hosted", "cpu")
        forge = actions.found(tmp_path, github, write, tmp_path / "calibrations")
        before = forge.tip("main")
        sha = forge.propose("once is enough", sources)
        payload = github.event(github.open_pull("alice", head_sha=sha))
        done = forge.run("gate", "pull_request_target", payload,
                         environment={"AVO_LOCK": "none"}, timeout_s=1800)  # fmt: skip
        entries: list[Any] = forge.ledger()
        assert len(entries) == 1, done.log[-4000:]
        if entries[0].get("verdict") != "PROMOTE":
            (reason, *_) = entries[0]["reasons"]
            assert forge.tip("main") == before
            disturbed = entries[0].get("verdict") == "INVALID" or "not quiet" in reason["text"]
            assert disturbed, (reason, done.log[-4000:])
            pytest.skip(f"this machine was not quiet enough: {reason}")
        assert forge.git("rev-parse", "main^", cwd=forge.bare) == before
        assert "landed on main" in github.comments[1][-1]["body"]


def twice(source: str) -> str:
    """The kernel's loop over rows, gone through two times."""
    head, mark, body = source.partition("for (int64_t row")
    assert mark, source
    return f"{head}for (int again = 0; again < 2; ++again)\n    {mark}{body}"
