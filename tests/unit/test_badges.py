# SPDX-License-Identifier: MIT
"""Badges: audited figures of judges only, in both formats."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from avo_pytest.entries import AUDIT, REFUTED
from avo_pytest.lineage import Series
from avo_pytest.loading import _module
from avo_pytest.report.badge import Badge, badges, endpoint, endpoint_fault, placeholders, slug, svg

synthetic = _module(Path(__file__).parents[1] / "synthetic_ledger.py")
LEDGER = synthetic.ledger(300, promotions=10)
FOLDER = "attention-sm90/nvidia-h100"


def said(files: dict[str, str], name: str) -> str:
    return json.loads(files[f"{FOLDER}/{name}.json"])["message"]


def test_each_badge_exists_in_both_formats() -> None:
    found = badges(LEDGER)
    names = {f"{FOLDER}/{n}.{s}" for n in ("best", "lineage", "verdict", "noise")
             for s in ("svg", "json")}  # fmt: skip
    assert found.keys() == names == placeholders(
        [Series("attention", "sm90", "NVIDIA H100")]).keys()  # fmt: skip


def test_the_best_badge_is_the_audit_of_what_main_has() -> None:
    audit = [e for e in LEDGER if e.kind == AUDIT and e.version == 10][-1]
    assert audit.overall is not None
    text = said(badges(LEDGER), "best")
    assert text.startswith(f"{audit.overall['tflops'][0]:,.0f} TFLOPS (")
    assert text.endswith("x cudnn) refreshed")


def test_without_an_audit_there_is_no_figure() -> None:
    text = said(badges([e for e in LEDGER if e.kind != AUDIT]), "best")
    assert text == "v10, not audited yet"


def test_an_audit_of_an_older_version_does_not_count() -> None:
    older = [e for e in LEDGER if e.kind != AUDIT or (e.version or 0) < 10]
    assert len(older) < len(LEDGER) and any(e.kind == AUDIT for e in older)
    assert said(badges(older), "best") == "v10, not audited yet"


def test_claims_that_an_audit_refuted_are_no_achievement() -> None:
    refuted = [replace(e, verdict=REFUTED) if e.kind == AUDIT else e for e in LEDGER]
    assert said(badges(refuted), "best") == "v10, refuted by its audit"


def test_what_was_judged_locally_makes_no_badge() -> None:
    assert badges([replace(e, role="local") for e in LEDGER]) == {}


def test_the_others_say_length_verdict_and_noise() -> None:
    found = badges(LEDGER)
    last = [e for e in LEDGER if e.kind == "verdict"][-1]
    assert said(found, "lineage") == "v10 of 300 attempts"
    assert said(found, "verdict") == last.verdict
    assert said(found, "noise") == "0.07 %"


def test_placeholders_say_that_nothing_was_measured() -> None:
    found = placeholders([Series("attention", "sm90", "NVIDIA H100")])
    assert {said(found, n) for n in ("best", "lineage", "verdict", "noise")} == {"not measured yet"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, ""),
        ({"logoWidth": 3}, "logoWidth is no key"),
        ({"schemaVersion": 2}, "schemaVersion 1"),
        ({"schemaVersion": True}, "must be int"),
        ({"message": ""}, "a message is required"),
        ({"style": "shiny"}, "style must be"),
        ({"namedLogo": "nvidia", "logoSvg": "<svg/>"}, "exclude each other"),
    ],
)
def test_the_endpoint_format_is_checked(change: dict[str, object], fault: str) -> None:
    raw = json.loads(endpoint(Badge("label", "message"))) | change
    assert fault in endpoint_fault(raw) and bool(endpoint_fault(raw)) == bool(fault)


def test_an_empty_message_is_never_written() -> None:
    with pytest.raises(ValueError, match="a message is required"):
        endpoint(Badge("label", ""))


@pytest.mark.parametrize("text", ["plain", "<script>\"&'", "", "1.62x · ±0.4 %"])
def test_the_svg_holds_its_texts(text: str) -> None:
    root = ElementTree.fromstring(svg(Badge(text, "m")))
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ([text] if text else []) + ["m"]
    assert root.get("aria-label") == f"{text}: m"


def test_folders_are_plain() -> None:
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert slug("../..") == "unknown"
