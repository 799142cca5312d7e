# SPDX-License-Identifier: MIT
"""Records survive the disk, and a damaged one is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avo_pytest import inputs
from avo_pytest.journal import Journal, write_atomically
from avo_pytest.problem import TensorSpec
from avo_pytest.run import timed_inputs_seed
from avo_pytest.score import ArmRecord, Check, ConfigurationRecord, Record, Sample, Status

RECORD = Record(
    run="r", created="2026-01-01T00:00:00+00:00", mode="measure", kernel="k", target="cpu",
    set="cpu", regime="refreshed", subset=False, seed=1, isolation="none", harness="h",
    environment={"cpu": "x"},
    arms=(ArmRecord(name="candidate", role="candidate", dtype="bf16"),),
    configurations=(ConfigurationRecord(name="a", group="full", flops=1.0),),
    checks=(Check(configuration="a", arm="candidate", status=Status.OK, error_rms=1e-3),),
    samples=(
        Sample(block=0, configuration="a", turn=0, position=0, arm="candidate", ms=1, host_ms=1.1),
    ),
    blocks=({"block": 0},),
)  # fmt: skip


def test_a_record_survives_json() -> None:
    assert Record.from_json(RECORD.to_json()) == RECORD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "schema 99"),
        ({"extra": 1}, "extra"),
        ({"samples": [{"block": 0}]}, "Sample"),
    ],
)
def test_a_damaged_record_is_refused(change: dict[str, object], message: str) -> None:
    raw = {**json.loads(RECORD.to_json()), **change}
    with pytest.raises(ValueError, match=message):
        Record.from_json(json.dumps(raw))


def test_a_record_without_a_key_is_refused() -> None:
    raw = json.loads(RECORD.to_json())
    del raw["seed"]
    with pytest.raises(ValueError, match="seed"):
        Record.from_json(json.dumps(raw))


def test_nan_is_never_written() -> None:
    broken = Check(configuration="a", arm="candidate", status=Status.OK, error_rms=float("nan"))
    with pytest.raises(ValueError, match="Out of range"):
        Record(
            **{**{f: getattr(RECORD, f) for f in RECORD.__slots__}, "checks": (broken,)}
        ).to_json()


def test_every_journal_line_is_on_disk_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    journal.append({"kind": "sample", "n": 1})
    assert (tmp_path / "run" / "journal.jsonl").read_text() == '{"kind": "sample", "n": 1}\n'
    journal.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full (Linux)")
def test_a_full_disk_stops_the_journal_not_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "journal.jsonl").symlink_to("/dev/full")
    journal = Journal(folder)
    for n in range(3):
        journal.append({"n": n})
    assert journal.lost is not None and "No space left" in journal.lost


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, "old")
    with pytest.raises(TypeError):
        write_atomically(path, b"not text")  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_file_is_for_whom_other_new_files_are_for(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_atomically(tmp_path / "index.html", "page")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_seed_and_key_replay_a_timed_launch() -> None:
    seed = bytes.fromhex(timed_inputs_seed(7))
    spec = TensorSpec("q", (4, 32), "bf16", "input")
    first = inputs.fill(spec, seed, 123, 1.0)
    assert (first == inputs.fill(spec, bytes.fromhex(timed_inputs_seed(7)), 123, 1.0)).all()
    assert (first != inputs.fill(spec, bytes.fromhex(timed_inputs_seed(8)), 123, 1.0)).any()
    assert (first != inputs.fill(spec, seed, 124, 1.0)).any()
