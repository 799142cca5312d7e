# SPDX-License-Identifier: MIT
"""One byte altered, of anything that is kept: every command that reads it notices.

A few places each time, drawn by a fixed seed; `make soak` alters every byte of a small record.
"""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from avo_pytest import branches, ledger, shipping, verifying
from avo_pytest.entries import to_line
from avo_pytest.loading import _module
from avo_pytest.packing import pack, unpack

TESTS = Path(__file__).parents[1]
helper = _module(TESTS / "judged_repository.py")
here = _module(TESTS / "promotion_repository.py").here
synthetic = _module(TESTS / "synthetic_ledger.py")
git = helper.git
PLACE = ("--kernel", "toy", "--target", "sm80")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One version, its raw samples kept, and the record that was handed in."""
    folder = tmp_path_factory.mktemp("team")
    with helper.team(folder) as made:
        assert made.promote(made.seed(), None).kind == "recorded"
        commit = made.proposed()
        record = made.record(commit, nonce="n1")
        outcome = made.promote(record, commit, nonce="n1")
        assert outcome.kind == "promoted", outcome.text
        git(made.desk, "fetch", "-q", "origin")
        git(made.bare, "config", "receive.denyNonFastForwards", "false")  # for whom forges
        path = folder / "record.json"
        path.write_text(record.to_json())
        yield SimpleNamespace(
            team=made, desk=made.desk, bare=made.bare, record=path, commit=commit, run=record.run,
            entry=outcome.entry,
        )  # fmt: skip


def bent(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]


def some(content: bytes, count: int) -> list[tuple[int, int]]:
    """Places and bits, the ends among them."""
    dice = random.Random(5)
    places = [0, len(content) - 1, *dice.sample(range(len(content)), count - 2)]
    return [(at, 1 << dice.randrange(8)) for at in places]


def inflated(packed: bytes) -> bytes | None:
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error):
        return None


def same_record(text: bytes, altered: bytes) -> bool:
    """A digit beyond those that a number has: another text, no other record."""
    return _canonical(altered) == _canonical(text)


def _canonical(text: bytes) -> str | None:
    try:
        return verifying.Record.from_json(text).to_json()
    except ValueError:
        return None


def refused_record(team: Any, content: bytes, path: Path) -> None:
    """By `avo verify`, with the ledger beside it; and by `avo promote`, which moves nothing."""
    path.write_bytes(content)
    done = here(team.desk, "verify", path, "--ledger", "origin")
    assert done.returncode != 0, done.stdout
    main = team.team.main()
    line = ("promote", path, "--remote", "origin", "--commit", team.commit, "--role", "judge",
            "--nonce", "n1")  # fmt: skip
    assert here(team.desk, *line).returncode in (1, 20)
    assert team.team.main() == main


def test_a_record(team: Any, tmp_path: Path) -> None:
    text = team.record.read_bytes()
    assert here(team.desk, "verify", team.record, "--ledger", "origin").returncode == 0
    for at, bit in some(text, 12):
        if not same_record(text, bent(text, at, bit)):
            refused_record(team, bent(text, at, bit), tmp_path / "record.json")


@pytest.mark.soak
def test_every_byte_of_a_record(team: Any, tmp_path: Path) -> None:
    """Of its short parts each, of its long ones (samples, blocks, checks) every 199th."""
    text = team.record.read_bytes()
    places = [at for part in parts(text) for at in (part if len(part) < 700 else part[::199])]
    altered = {at: bent(text, at, 1) for at in places}
    telling = {at: content for at, content in altered.items() if not same_record(text, content)}
    assert len(telling) > 0.95 * len(places) > 1500
    folder, left = tmp_path, list(telling)
    while left:
        batch, left = left[:100], left[100:]
        for at in batch:
            (folder / f"{at}.json").write_bytes(telling[at])
        paths = [folder / f"{at}.json" for at in batch]
        done = here(team.desk, "verify", *paths, "--ledger", "origin")
        assert "agrees" not in done.stdout, done.stdout
        for path in paths:
            path.unlink()
            assert str(path) in done.stdout + done.stderr


def parts(text: bytes) -> Iterator[range]:
    """Where the values of a record's keys are, each with its key."""
    begin = 1
    for key, value in json.loads(text).items():
        end = begin + len(json.dumps({key: value}, separators=(",", ":"))) - 2
        assert text[begin:end].startswith(b'"' + key.encode() + b'":')
        yield range(begin, end)
        begin = end + 1
    assert begin == len(text)


def test_raw_samples_on_their_ref(team: Any) -> None:
    ref = f"{ledger.RAW}{team.run}"
    good = git(team.bare, "rev-parse", ref)
    remote = team.team.remote
    packed = branches.read_file(remote.repository, remote.tips((ref,))[ref], ledger.RECORD)
    line = ("verify", team.run, "--ledger", "origin")
    done = here(team.desk, *line)
    assert done.returncode == 0 and "in the ledger: verdict PROMOTE, version 1" in done.stdout
    for at, bit in some(packed, 8):
        altered = bent(packed, at, bit)
        if at and inflated(altered) == inflated(packed):
            continue  # a reference to another copy of the same text: nothing was altered
        files = {ledger.RECORD: altered}
        commit = branches.write_commit(remote.repository, None, files, "altered")
        git(team.desk, "push", "-qf", "origin", f"{commit}:{ref}")
        done = here(team.desk, *line)
        assert done.returncode == 4 and ref in done.stderr, (at, bit, done.stdout)
    git(team.desk, "push", "-qf", "origin", f"{good}:{ref}")


def test_what_is_packed() -> None:
    """Any bit of it, header and filling bits too."""
    for text in (b"x", b"a line\n" * 9, b"".join(b"%x" % n**3 for n in range(99)), b""):
        packed = pack(text)
        assert unpack(packed) == text
        for at in range(len(packed)):
            for bit in range(8):
                with pytest.raises(ValueError, match=r"\w"):
                    unpack(bent(packed, at, 1 << bit))
        for cut in range(len(packed)):
            with pytest.raises(ValueError, match=r"\w"):
                unpack(packed[:cut])
        with pytest.raises(ValueError, match="something follows"):
            unpack(packed + b"\0")


def test_a_shipped_lineage(team: Any, tmp_path: Path) -> None:
    entries = synthetic.ledger(12, promotions=3)
    good = shipping.pack(entries)
    other = tmp_path / "fork"
    git(tmp_path, "init", "-q", str(other))
    path = other / shipping.FOLDER / f"attention-sm90{shipping.SUFFIX}"
    path.parent.mkdir(parents=True)
    (other / "kernels").mkdir()
    for at, bit in some(good, 8):
        path.write_bytes(bent(good, at, bit))
        for line in (("init",), ("lineage", "import", path)):
            done = here(other, *line)
            assert done.returncode == 1 and path.name in done.stderr, (line, at, bit)
    assert git(other, "for-each-ref") == ""
    path.write_bytes(good)
    assert here(other, "init").returncode == 0
    assert len(ledger.load(other)) == len(entries)


def readers(team: Any, tmp_path: Path) -> dict[str, Callable[[], subprocess.CompletedProcess]]:
    """All commands that read the ledger of a remote."""
    remote = ("--remote", "origin")
    judged = ("--commit", team.commit, "--role", "judge", "--nonce", "n1")
    lines = {
        "verify": (team.record, "--ledger", "origin"),
        "promote": (team.record, *remote, *judged),
        "revert": ("1", *PLACE, *remote),
        "page": ("--out", tmp_path / "site", *remote),
        "badge": ("--out", tmp_path / "badges", *remote),
        "lineage": remote,
        "export": ("csv", *remote),
    }
    return {name: lambda n=name, rest=rest: here(team.desk, n, *rest)
            for name, rest in lines.items()}  # fmt: skip


def test_a_line_of_the_ledger(team: Any, tmp_path: Path) -> None:
    """Of the target's own, and of another that has no say in it."""
    pytest.importorskip("matplotlib", reason="matplotlib (the extra `report`) draws the page")
    other = replace(synthetic.ledger(3)[0], id=f"{team.run[:8]}-000000-abcdef")
    tip = ledger.append(team.team.remote, [other]).commit
    path = ledger.place(team.run)
    content = branches.read_file(team.team.remote.repository, tip, path)
    lines = {e.kernel: to_line(e).encode() for e in (other, team.entry)}
    for at, bit in ((at, bit) for line in lines.values() for at, bit in some(line, 3)):
        line = lines["toy" if (at + bit) % 2 else "attention"]
        where = content.index(line) + min(at, len(line) - 1)
        files = {path: bent(content, where, bit)}
        bad = branches.write_commit(team.team.remote.repository, tip, files, "altered")
        git(team.desk, "push", "-qf", "origin", f"{bad}:{ledger.BRANCH}")
        for name, read in readers(team, tmp_path).items():
            done = read()
            assert done.returncode in (1, 4) and path in done.stderr, (name, where, done.stdout)
        git(team.desk, "push", "-qf", "origin", f"{tip}:{ledger.BRANCH}")
    assert not (tmp_path / "site").exists()
