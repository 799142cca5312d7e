# SPDX-License-Identifier: MIT
"""Verdicts on this machine's CPU: a real gain, and no change under load on a core.

pytest -m soak -s tests/soak/test_cpu_confirm.py     (about ten minutes)
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avo_pytest.commands.new import kernel_files
from avo_pytest.score import Record

pytestmark = pytest.mark.soak

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
AVO = (sys.executable, "-m", "avo_pytest")
DELAY = "    for (volatile int64_t i = 0; i < {turns}; ++i) {{}}\n    work(0, rows / threads);"
SMALL = "[tool.avo.policy]\nconfirm_blocks = 4\nreplicates = 8\n"


def run(root: Path, *line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, cwd=root, capture_output=True, text=True, timeout=1200)


def write(root: Path, turns: int) -> None:
    """The kernel `norm` with a delay planted before its own part of the work."""
    for path, text in kernel_files("norm", "cpu").items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        delayed = DELAY.format(turns=turns) if turns else "    work(0, rows / threads);"
        (root / path).write_text(text.replace("    work(0, rows / threads);", delayed))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its main branch has the delay; calibrated while nothing else runs."""
    root = tmp_path_factory.mktemp("repository")
    (root / "pyproject.toml").write_text(SMALL)
    write(root, turns=200_000)
    run(root, "git", "init", "-q", "-b", "main")
    run(root, *GIT, "add", "-A")
    run(root, *GIT, "commit", "-q", "-m", "the incumbent")
    done = run(root, *AVO, "calibrate")
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    return root


def confirm(root: Path) -> str:
    done = run(root, *AVO, "score", "--mode=confirm", "--json=record.json")
    print(done.stdout)
    record = Record.from_json((root / "record.json").read_text())
    return str(record.derived["verdict"]["kind"])


@contextmanager
def load() -> Iterator[None]:
    """A busy core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_the_delay_removed_is_promoted_and_a_longer_one_rejected(repository: Path) -> None:
    write(repository, turns=0)
    assert confirm(repository) == "PROMOTE"
    write(repository, turns=400_000)
    assert confirm(repository) == "REJECT"


def test_no_change_is_never_promoted_under_load(repository: Path) -> None:
    write(repository, turns=200_001)  # another artifact, the same time
    with load():
        assert confirm(repository) in ("INVALID", "INCONCLUSIVE", "REJECT")
