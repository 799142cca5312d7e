# SPDX-License-Identifier: MIT
"""Versions and attempts out of entries; ladders out of versions; entries out of records."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from avo_pytest import promotion
from avo_pytest.entries import AUDIT, REVERT, SEED, VERDICT, Entry, figures, from_line, to_line
from avo_pytest.lineage import best_baseline, lineages
from avo_pytest.loading import _module
from avo_pytest.recording import Circumstances, clean, entry_of
from avo_pytest.report import entry as entry_report
from avo_pytest.report import ladder
from avo_pytest.shipping import notes_in, pack, unpack

TESTS = Path(__file__).parents[1]
synthetic = _module(TESTS / "synthetic_ledger.py")
records = _module(TESTS / "synthetic.py")


def entry(second: int, **changes: object) -> Entry:
    base = {"kind": VERDICT, "created": "2026-01-01T00:00:00+00:00", "kernel": "k",
            "target": "cpu", "device": "d", "role": "judge"}  # fmt: skip
    return Entry(id=f"20260101-0000{second:02}-abcd", **{**base, **changes})  # type: ignore[arg-type]


def timed(tflops: float, ratio: float = 1.0) -> dict[str, object]:
    around = [tflops, tflops * 0.99, tflops * 1.01]
    return {"overall": {"tflops": around, "vs": {"base": [ratio, ratio, ratio]}},
            "groups": {"full": {"tflops": around}}, "arms": {"base": "baseline"}}  # fmt: skip


STORY = [
    entry(0, kind=SEED, version=0, idea="seed", **timed(100, 0.5)),
    entry(1, verdict="REJECT", gain=(-0.1, -0.2, 0.0), cost={"gpu_seconds": 1800.0}),
    entry(2, verdict="PROMOTE", version=1, gain=(0.1, 0.08, 0.12), cost={"gpu_seconds": 1800.0},
          idea="one | two", **timed(110, 0.55)),
    entry(3, verdict="INCORRECT"),
    entry(4, verdict="PROMOTE", version=2, gain=(0.2, 0.1, 0.3), **timed(135, 0.7)),
    entry(5, kind=AUDIT, version=1, **timed(111, 0.56)),
    entry(6, kind=REVERT, version=2),
    entry(7, verdict="PROMOTE", version=3, gain=(0.05, 0.04, 0.06), epoch="2", **timed(116, 0.6)),
]  # fmt: skip


def test_the_story_is_told() -> None:
    (told,) = lineages(STORY)
    assert [r.version for r in told.rungs] == [0, 1, 2, 3]
    assert [r.reverted for r in told.rungs] == [False, False, True, False]
    assert [r.audited for r in told.rungs] == [False, True, False, False]
    assert [r.chain for r in told.rungs] == pytest.approx([0.0, 0.1, 0.3, 0.15])
    assert told.rungs[1].measured == figures(STORY[5].overall)
    assert told.rungs[3].breaks == "epoch 2"
    assert told.current is told.rungs[3]
    levels = [a.level for a in told.attempts]
    assert levels == [0.0, pytest.approx(-0.1), 0.1, None, pytest.approx(0.3), pytest.approx(0.15)]


def test_what_was_only_screened_stands_where_the_screen_saw_it() -> None:
    seen = {"overall": {"tflops": [1, 1, 1], "vs": {"main": [0.5, 0.4, 0.6]}}}
    screened = entry(3, verdict="REJECT", arms={"main": "incumbent"}, **seen)
    (told,) = lineages([*STORY[:3], screened])
    assert told.attempts[-1].level == pytest.approx(0.1 + math.log(0.5))


def test_a_failed_attempt_counts_towards_the_next_version() -> None:
    (told,) = lineages(STORY)
    spent = [told.spent()[r.entry.id] for r in told.rungs]
    assert [len(s) for s in spent] == [1, 2, 2, 1]
    assert ladder.cost_text(spent[1]) == "1 GPU h"


def test_the_fastest_baseline_is_the_one_that_is_hardest_to_beat() -> None:
    both = replace(STORY[0], arms={"a": "baseline", "b": "baseline", "seed": "incumbent"},
                   overall={"tflops": [1, 1, 1], "vs": {n: [r] * 3 for n, r in
                            (("a", 1.2), ("b", 0.9), ("seed", 0.5))}})  # fmt: skip
    assert best_baseline(both) == ("b", 0.9)
    assert best_baseline(STORY[1]) is None


def test_what_was_judged_locally_is_not_public() -> None:
    desk = [replace(e, role="local") for e in STORY]
    assert not lineages(desk, public=True)
    idea = entry(9, kind="note", role="local", idea="x")
    assert not lineages([*desk, idea], public=True)
    assert lineages([*STORY, idea], public=True)[0].notes == (idea,)
    assert len(lineages(desk)) == 1


def test_a_note_without_a_device_belongs_to_every_device_of_its_target() -> None:
    note = entry(8, kind="note", device="", idea="x")
    other = [replace(e, device="e", id=e.id.replace("-0000", "-0001")) for e in STORY]
    found = lineages([*STORY, *other, note])
    assert [x.series.device for x in found] == ["d", "e"]
    assert all(x.notes == (note,) for x in found)


def test_the_table_shows_each_version_on_one_line() -> None:
    (told,) = lineages(STORY)
    text = ladder.as_table(told, width=None, color=False)
    lines = text.splitlines()
    assert lines[0] == "k/cpu on d: 4 versions, 6 attempts"
    assert lines[1].split()[:2] == ["version", "idea"]
    assert "one | two" in lines[3] and "111.0" in lines[3] and "0.560x" in lines[3]
    assert "+10.52 % [8.33, 12.75]" in lines[3]
    assert "135.0*" in lines[4] and "2 reverted" in lines[4]
    assert "version 3 begins after a break: epoch 2" in text


def test_a_narrow_terminal_keeps_what_tells_most() -> None:
    """Whole columns, not letters, and it says which are gone."""
    (told,) = lineages(synthetic.ledger(60, promotions=5))
    for width in (60, 80, 120, 300):
        text = ladder.as_table(told, width=width, color=False)
        heading, *lines = text.splitlines()[1:]
        assert heading.startswith("version  idea ") and "gain" in heading and "…" not in text
        assert all(len(line) <= width for line in (heading, *lines[:6]))
        assert ("no room for " in text) == (width < 300)
    assert "vs cudnn" in ladder.as_table(told, width=80, color=False).splitlines()[1]


def test_a_proposers_words_stay_in_their_cell() -> None:
    (told,) = lineages([STORY[0], replace(STORY[2], idea="a|b <img src=x> [c](javascript:d)")])
    text = ladder.as_markdown([told], "k-cpu")
    row = next(line for line in text.splitlines() if line.startswith("| 1 "))
    assert row.replace("\\|", "").count("|") == len(ladder.header(told)) + 1
    assert r"\<img src=x\> \[c\](javascript:d)" in row


def test_json_says_what_the_table_says() -> None:
    (told,) = lineages(STORY)
    raw = json.loads(json.dumps(ladder.as_json(told)))
    assert [v["version"] for v in raw["versions"]] == [0, 1, 2, 3]
    assert raw["versions"][1]["audited"] and raw["attempts"] == 6


def test_two_versions_side_by_side() -> None:
    (told,) = lineages(STORY)
    text = entry_report.compare(told, told.rungs[0], told.rungs[1])
    assert "claimed in between: +10.52 %" in text and "+11.00 %" in text
    assert "different epochs" in entry_report.compare(told, told.rungs[1], told.rungs[3])


def test_one_entry_in_full() -> None:
    text = entry_report.show(synthetic.ledger(30)[3])
    for part in ("attention/sm90 verdict", "judged on", "driver", "raw samples", "gpu_seconds"):
        assert part in text


def test_a_record_becomes_an_entry_and_its_line_is_stable() -> None:
    record = records.record(0.01)
    reason = {"rule": "gain", "text": "faster", "advice": ""}
    gain = {"gain": 0.01, "lower": 0.008, "upper": None, "p_value": 1e-4}
    verdict = {"kind": "PROMOTE", "reasons": [reason], "replicates": 8, **gain}
    record = replace(record, run="20260102-000000-abcdef", derived={"verdict": verdict})
    about = Circumstances(idea="a\nb\x1b[31m", version=3, role="judge", cost={"usd": 1.5},
                          device="NVIDIA H100", epoch="1")  # fmt: skip
    made = entry_of(record, about)
    assert (made.verdict, made.version, made.idea) == ("PROMOTE", 3, "a b [31m")
    assert made.gain == (0.01, 0.008, 0.01)
    assert made.reasons == ({"rule": "gain", "text": "faster"},)
    assert made.cost["usd"] == 1.5 and made.cost["gpu_seconds"] > 0
    assert made.device == "NVIDIA H100" and made.environment["driver"] == "580.95.05"
    assert made.identities["artifact"] and made.raw["sha256"]
    assert made.overall is not None and set(made.configurations) == set(records.CONFIGURATIONS)
    assert from_line(to_line(made)) == made and to_line(entry_of(record, about)) == to_line(made)


def test_the_judges_verdict_is_the_entrys() -> None:
    record = records.record(0.01)
    derived = promotion.derive(record, records.POLICY)
    made = entry_of(replace(record, derived=derived), Circumstances())
    assert made.verdict == derived["verdict"]["kind"]
    assert made.gain == pytest.approx((0.0098, 0.0089, 0.0107), abs=1e-4)
    assert made.reasons and made.reasons[0]["text"]


def test_impossible_samples_are_recorded_without_figures() -> None:
    record = records.changed_samples(records.record(0.01), ms=1e9)
    made = entry_of(record, Circumstances())
    assert made.overall is None and made.configurations == {}
    assert "on the host's clock" in made.reasons[0]["text"]


def test_the_noise_floor_is_the_spread_of_the_calibration() -> None:
    record = replace(records.record(0.0), calibration={"values": [0.001, -0.001], "created": "x"})
    noise = entry_of(record, Circumstances()).noise
    assert noise == {"floor": pytest.approx(math.sqrt(2) * 0.001, rel=1e-5), "created": "x",
                     "processes": 2}  # fmt: skip


def test_ideas_are_one_plain_line() -> None:
    assert clean(" a\t\n b\u202e " + "x" * 200) == "a b " + "x" * 115 + "…"


def test_what_ships_is_the_same_bytes_every_time() -> None:
    entries = synthetic.ledger(50)
    assert pack(entries) == pack(list(reversed(entries)))
    assert unpack(pack(entries), "x") == sorted(entries, key=lambda e: e.id)


def test_notes_are_read_from_the_hand_written_table(tmp_path: Path) -> None:
    path = tmp_path / "attention-sm80.notes.md"
    other = "| step | ratio |\n|---|---|\n| x | 1.01 |\n"
    ideas = "| idea | outcome |\n|---|:--|\n| a `b` | 1 % |\n"
    path.write_text(f"# x\n\n{other}\n{ideas}| c | d |\n\n{other}\nend\n")
    found = notes_in(path)
    assert [(e.kernel, e.target, e.idea, e.reasons[0]["text"]) for e in found] == [
        ("attention", "sm80", "a `b`", "1 %"),
        ("attention", "sm80", "c", "d"),
    ]
    with pytest.raises(ValueError, match="notes are called"):
        notes_in(tmp_path / "other.md")
