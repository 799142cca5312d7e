# SPDX-License-Identifier: MIT
"""Lines of the ledger: no byte may change, none may get lost, and the future may write more."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avo_pytest.entries import SCHEMA, Damaged, Entry, figures, from_line, new_id, to_line
from avo_pytest.ledger import place
from avo_pytest.loading import _module

synthetic = _module(Path(__file__).parents[1] / "synthetic_ledger.py")
LEDGER = synthetic.ledger(200)
NOTE = Entry(id="20260102-030405-abcdef", kind="note", created="2026", kernel="k", target="cpu")


def signed(**changes: object) -> str:
    """A proper line of whatever another version may have written."""
    raw = json.loads(to_line(NOTE)) | changes
    del raw["digest"]
    return to_line(replace(NOTE, unknown=raw))


def test_every_entry_survives_its_line() -> None:
    assert [from_line(to_line(e)) for e in LEDGER] == LEDGER


def test_every_line_fits_the_published_schema() -> None:
    text = (resources.files("avo_pytest") / "schemas/ledger-entry.schema.json").read_text()
    validator = jsonschema.Draft202012Validator(json.loads(text))
    for entry in LEDGER:
        validator.validate(json.loads(to_line(entry)))
    assert not validator.is_valid({**json.loads(to_line(NOTE)), "gain": [1, 2]})


def test_the_schema_knows_every_field() -> None:
    text = (resources.files("avo_pytest") / "schemas/ledger-entry.schema.json").read_text()
    assert json.loads(text)["properties"].keys() == (set(Entry.__slots__) - {"unknown"}) | {
        "digest"
    }


def test_any_altered_byte_is_noticed() -> None:
    line = to_line(LEDGER[5])
    for at in range(len(line)):
        for bit in (1, 4, 32):
            altered = line[:at] + chr(ord(line[at]) ^ bit) + line[at + 1 :]
            with pytest.raises(Damaged):
                from_line(altered)


def test_an_entry_cut_short_is_noticed() -> None:
    line = to_line(NOTE)
    for length in (0, 1, len(line) // 2, len(line) - 1):
        with pytest.raises(Damaged, match="not a ledger entry"):
            from_line(line[:length])


def test_a_newer_writer_loses_nothing_here() -> None:
    line = signed(schema=SCHEMA + 1, flavour={"of": "tomorrow"}, gain={"now": "an object"})
    entry = from_line(line)
    assert (entry.schema, entry.gain) == (SCHEMA + 1, None)
    assert entry.unknown["flavour"] == {"of": "tomorrow"}
    assert json.loads(to_line(entry)) == json.loads(line)


def test_this_schema_with_a_wrong_type_is_refused() -> None:
    with pytest.raises(Damaged, match=r"gain is not Interval"):
        from_line(signed(gain={"now": "an object"}))


@pytest.mark.parametrize(
    "identity", ["", "r", "2026-01-02", "../../etc/passwd", "20260102-030405-"]
)
def test_an_id_that_is_no_id_is_refused(identity: str) -> None:
    with pytest.raises(Damaged, match="without a proper id"):
        from_line(signed(id=identity))
    with pytest.raises(ValueError, match="no run id"):
        place(identity)


def test_an_id_decides_the_file() -> None:
    assert place("20261122-151002-2bb5cf") == "ledger/2026-11/22.jsonl"


def test_new_ids_are_ids_and_in_order() -> None:
    from datetime import UTC, datetime

    made = [new_id(datetime(2026, 1, 2, tzinfo=UTC), n) for n in range(20)]
    assert made == sorted(made) and len(set(made)) == 20
    assert {place(i) for i in made} == {"ledger/2026-01/02.jsonl"}


def test_what_was_not_timed_has_no_figures() -> None:
    assert figures(None) is None and figures({"status": "not timed"}) is None


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3))
def test_any_text_survives(idea: str, reason: dict[str, str]) -> None:
    entry = replace(NOTE, idea=idea, reasons=(reason,))
    line = to_line(entry)
    assert line.isascii() and "\n" not in line
    assert from_line(line) == entry


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(Damaged):
        from_line(text)
