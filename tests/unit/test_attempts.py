# SPDX-License-Identifier: MIT
"""The list of attempts: appended by several at once, torn by a crash, counted in full."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from avo_pytest import attempts
from avo_pytest.attempts import Attempt, Identity

IDENTITY = Identity(
    kernel="attention", target="cpu", set="cpu", candidate="c" * 64, incumbent="i" * 64,
    harness="h" * 64, policy="p" * 64, configurations=("a", "b"), devices=("cpu",),
)  # fmt: skip
WRITER = """
import sys
from pathlib import Path
from avo_pytest import attempts
for number in range(50):
    attempts.end(Path(sys.argv[1]), f"{sys.argv[2]}-{number}", "REJECT", 0.5)
"""


def attempt(run: str, **changes) -> Attempt:
    return replace(
        Attempt(
            run=run, created="2026-01-02T03:04:05+00:00", seed=2**62 + 1, identity=IDENTITY,
            artifacts=("a" * 64, "b" * 64), model="A CPU",
        ),
        **changes,
    )  # fmt: skip


def test_what_was_written_is_read(tmp_path):
    assert attempts.read(tmp_path) == []
    attempts.begin(tmp_path, attempt("one"))
    attempts.begin(tmp_path, attempt("two"))
    attempts.end(tmp_path, "one", "PROMOTE", 0.001)
    one, two = attempts.read(tmp_path)
    assert one == attempt("one", verdict="PROMOTE", p_value=0.001)
    assert two == attempt("two")


def test_nobody_else_reads_the_seed_of_a_confirm_that_runs(tmp_path):
    attempts.begin(tmp_path, attempt("one"))
    assert (tmp_path / attempts.FILE).stat().st_mode & 0o077 == 0


def share(of: int, question: str = "n") -> Identity:
    return replace(IDENTITY, share=f"{of}/2", question=question, devices=(f"cuda:{of}",))


def test_the_shares_of_one_confirm_are_one_attempt():
    """On a machine that runs several of them; a share that was run again is another try."""
    ran = [
        attempt("a", identity=share(1), verdict="INVALID"),
        attempt("b", identity=share(2), verdict="INVALID"),
        attempt("c", verdict="REJECT"),
        attempt("d", identity=share(1, "m")),
    ]
    own = "a" * 64

    def counted(seen, identity):
        found = attempts.history(seen, own, identity, past=True)
        assert len(found["past"]) == found["all_confirms"] == found["confirms"]
        return found["confirms"], found["invalid"]

    assert counted(ran[:1], share(2)) == (0, 0)
    assert counted(ran[:2], share(1)) == (1, 1)
    assert counted(ran, IDENTITY) == (3, 2)
    assert counted(ran, share(2, "m")) == (2, 1)
    assert counted(ran, share(1, "m")) == (3, 2)
    other = replace(share(2), candidate="d" * 64)
    assert counted(ran[:1], other) == (1, 1)


def test_half_a_line_counts_for_nothing_and_spoils_nothing(tmp_path):
    attempts.begin(tmp_path, attempt("one"))
    with (tmp_path / attempts.FILE).open("a") as file:
        file.write('{"end": "one", "verd')
    attempts.begin(tmp_path, attempt("two"))
    attempts.end(tmp_path, "two", "REJECT", None)
    assert [a.verdict for a in attempts.read(tmp_path)] == ["", "REJECT"]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        '{"begin": {"run": "x"}}',
        '{"begin": 3}',
        '{"end": "unknown"}',
        "\x00\xff",
        "1e999",
    ],
)
def test_foreign_lines_are_passed_over(tmp_path, line):
    (tmp_path / attempts.FILE).write_text(line + "\n", encoding="utf-8")
    attempts.begin(tmp_path, attempt("one"))
    assert attempts.read(tmp_path) == [attempt("one")]


def test_two_judges_at_once_leave_whole_lines(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in "ab"
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    lines = (tmp_path / attempts.FILE).read_text().splitlines()
    assert len(lines) == 100
    assert all(line.startswith("{") and line.endswith("}") for line in lines)


def test_every_confirm_counts_and_killed_ones_are_invalid(tmp_path):
    elsewhere = replace(IDENTITY, target="sm80")
    made = [
        attempt("killed"),
        attempt("invalid", verdict="INVALID"),
        attempt("lost", verdict="REJECT"),
        attempt("other", verdict="PROMOTE", artifacts=("z" * 64, "b" * 64)),
        attempt("elsewhere", identity=elsewhere),
    ]
    counted = attempts.history(made, "a" * 64, IDENTITY)
    assert counted == {
        "artifact": "a" * 64, "confirms": 3, "invalid": 2, "all_confirms": 4, "promotions": 1,
    }  # fmt: skip


def test_a_run_that_began_anew_is_two_attempts(tmp_path):
    attempts.begin(tmp_path, attempt("one"))
    attempts.end(tmp_path, "one", "INVALID", None)
    attempts.begin(tmp_path, attempt("one", model="Another"))
    attempts.end(tmp_path, "one", "REJECT", 0.5)
    assert [a.verdict for a in attempts.read(tmp_path)] == ["INVALID", "REJECT"]


def test_what_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OSError):
        attempts.begin(tmp_path / "nowhere", attempt("one"))
    with pytest.raises(OSError):
        (tmp_path / attempts.FILE).symlink_to("/dev/full")
        attempts.begin(tmp_path, attempt("one"))


def test_the_same_confirm_is_the_same_code_on_the_same_model():
    one = attempt("one")
    assert one.same(("a" * 64, "b" * 64), "A CPU")
    assert not one.same(("a" * 64, "c" * 64), "A CPU")
    assert not one.same(("a" * 64, "b" * 64), "Another")
