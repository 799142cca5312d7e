# SPDX-License-Identifier: MIT
"""The page as text: self-contained, complete without its script, and the same as the ledger."""

from __future__ import annotations

import html.parser
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from avo_pytest.entries import AUDIT
from avo_pytest.lineage import Lineage, lineages
from avo_pytest.loading import _module
from avo_pytest.report import page_tables, plot
from avo_pytest.report.page import Surroundings, page

pytest.importorskip("matplotlib", reason="matplotlib (the extra `report`) draws the page")
synthetic = _module(Path(__file__).parents[1] / "synthetic_ledger.py")
LEDGER = synthetic.ledger(120, promotions=9)
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'"
VOID = {"meta", "link", "input", "br", "img"}


class Tags(html.parser.HTMLParser):
    """Every element with its attributes; fails on one that is not closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.words += text


@pytest.fixture(scope="module")
def lineage() -> Lineage:
    (found,) = lineages(LEDGER)
    return found


@pytest.fixture(scope="module")
def text(lineage: Lineage) -> str:
    return page([lineage], Surroundings(title="kernels & more", ledger="abc"))


def data(text: str) -> dict:
    return json.loads(text.split('class="data">')[1].split("</script>")[0])


def test_it_is_whole_and_needs_nothing_from_outside(text: str) -> None:
    tags = Tags(text).found
    assert not [a for t, a in tags if t in ("img", "iframe", "object") or "src" in a]
    places = {a.get("href") or "#" for _, a in tags}
    assert all(place.startswith(("#", "data:,")) for place in places)
    assert not re.search(r"@import|url\((?!#)", text)


def test_a_link_to_a_landing_commit_is_the_only_address(lineage: Lineage) -> None:
    made = page_tables.versions(lineage, {}, "https://github.com/o/r/commit/")
    outside = {a["href"] for t, a in Tags(made).found if (a.get("href") or "").startswith("http")}
    commits = {r.entry.commit[:10] for r in lineage.rungs if r.entry.commit}
    assert outside == {f"https://github.com/o/r/commit/{c}" for c in commits} and commits


def test_without_a_script_everything_essential_is_there(text: str, lineage: Lineage) -> None:
    tags = Tags(text)
    for rung in lineage.rungs:
        assert rung.measured is not None
        assert f"{rung.measured.tflops[0]:.1f}" in tags.words
    frames = [a for _, a in tags.found if a.get("class") == "frame"]
    assert sum("hidden" not in a for a in frames) == 2  # a wide and a narrow one
    controls = [a for _, a in tags.found if a.get("class") in ("controls", "search")]
    assert len(controls) == 2 and all("hidden" in a for a in controls)


def test_every_attempt_is_a_mark_in_both_sizes(text: str) -> None:
    tags = Tags(text)
    dots = text.split('<div class="dots">')[1:]
    assert len(dots) == 2
    for layer in dots:
        assert layer.split("</svg>")[0].count("<use ") == 120
    assert sum(1 for t, _ in tags.found if t == "use") >= 240


def test_marks_stand_where_the_script_would_put_them(text: str) -> None:
    """matplotlib's place of each mark is the place in the data, to a tenth of a pixel."""
    raw = data(text)
    layer = text.split('<div class="dots">')[1].split("</svg>")[0]
    x0, y0, width, height = raw["main"]["wide"]
    for verdict in ("REJECT", "PROMOTE", "INCONCLUSIVE"):
        group = layer.split(f'data-verdict="{verdict}"')[1].split("data-verdict")[0]
        marks = re.findall(r'<use href="[^"]*" x="([^"]*)" y="([^"]*)"/>', group)
        mine = [i for i, v in enumerate(raw["verdict"]) if raw["verdicts"][v] == verdict]
        assert len(marks) == len(mine) > 0
        for (x, y), i in zip(marks, mine, strict=True):
            assert float(x) == pytest.approx(x0 + width * raw["x"]["attempt"][i] / 9999, abs=0.16)
            assert float(y) == pytest.approx(y0 - height * raw["y"]["tflops"][i] / 9999, abs=0.16)


def test_an_outsiders_words_are_text(lineage: Lineage) -> None:
    reason = {"rule": EVIL, "text": EVIL}
    entries = [replace(e, idea=EVIL, author=EVIL, reasons=(reason,), cost={}) for e in LEDGER]
    made = page(lineages(entries), Surroundings(title=EVIL, diffs={
        e.commit: EVIL for e in entries if e.commit}))  # fmt: skip
    tags = Tags(made)
    assert sum(t == "script" for t, _ in tags.found) == 2
    assert not [t for t, a in tags.found if t == "img" or "onerror" in a]
    assert data(made)["strings"].count(EVIL) == 1


def test_an_empty_ledger_has_a_page_too() -> None:
    assert "nothing has been judged yet" in Tags(page([], Surroundings(title="x"))).words


def test_notes_alone_have_a_page_too() -> None:
    notes = [e for e in synthetic.ledger(120) if e.kind == "note"]
    assert "slower by 3 %" in Tags(page(lineages(notes), Surroundings(title="x"))).words


def test_a_level_is_the_incumbents_times_the_own_gain(lineage: Lineage) -> None:
    made = plot.plot(lineage)
    assert [a.key for a in made.xs] == ["attempt", "days", "hours", "usd"]
    assert [a.key for a in made.ys] == ["tflops", "baseline", "speedup"]
    level = 0.0
    for dot in made.dots:
        gain = dot.attempt.entry.gain
        if gain is None:
            continue
        assert dot.value["speedup"] == pytest.approx(math.exp(level + gain[0]))
        if dot.attempt.entry.version is not None:
            level += gain[0]


def test_a_version_stands_where_its_audit_measured_it(lineage: Lineage) -> None:
    made = plot.plot(lineage)
    audits = {e.version: e for e in LEDGER if e.kind == AUDIT}
    assert audits
    for point in made.points:
        shown = audits.get(point.rung.version, point.rung.entry)
        assert shown.overall is not None
        assert point.value["tflops"] == pytest.approx(tuple(shown.overall["tflops"]))
        ratio = shown.overall["vs"]["cudnn"][0]
        assert point.value["baseline"][0] == pytest.approx(100 * ratio)
        assert point.baselines["tflops"]["cudnn"] == pytest.approx(
            shown.overall["tflops"][0] / ratio
        )


def test_a_baseline_beaten_by_far_does_not_flatten_the_steps() -> None:
    seed, *others = synthetic.ledger(12, promotions=2)
    slow = {**seed.overall, "vs": {**seed.overall["vs"], "slow": [2.3, 2.2, 2.4]}}
    arms = {**seed.arms, "slow": "baseline"}
    (found,) = lineages([replace(seed, overall=slow, arms=arms), *others])
    made = plot.plot(found)
    level = made.points[0].baselines["tflops"]["slow"]
    assert level < made.ys[0].low <= made.points[0].value["tflops"][0]
    shown = page([found], Surroundings(title="t"))
    assert f"slow {level:.3g} \N{DOWNWARDS ARROW}" in shown


def test_the_plan_of_a_confirm_is_told_in_percents() -> None:
    plan = {"block_sd": 0.0006172111, "replicates": 8}
    planned = [replace(e, plan=plan) for e in synthetic.ledger(12, promotions=2)]
    shown = page(lineages(planned), Surroundings(title="t"))
    assert "0.0617 %" in shown and "0.00061" not in shown


def test_without_money_there_is_no_axis_of_money() -> None:
    free = [replace(e, cost={}) for e in LEDGER]
    (found,) = lineages(free)
    assert [a.key for a in plot.plot(found).xs] == ["attempt", "days"]


def test_a_large_gain_is_a_factor_and_every_step_has_its_number() -> None:
    """Percents above 100 are not read, and a slide shows which version is which."""
    seed, *others = synthetic.ledger(12, promotions=2)
    better = next(e for e in others if e.version == 1)
    sevenfold = [{**e.overall, "tflops": [t * f for t in seed.overall["tflops"]]}
                 for e, f in ((seed, 1.0), (better, 7.0))]  # fmt: skip
    gain = (1.9459, 1.94, 1.95)
    versions = replace(seed, overall=sevenfold[0]), replace(better, overall=sevenfold[1], gain=gain)
    (found,) = lineages(versions)
    shown = page([found], Surroundings(title="t"))
    assert "7.0x" in shown and ">v0<" in shown and ">v1<" in shown
    assert ">v9<" in page(lineages(LEDGER), Surroundings(title="t"))
    many = lineages(synthetic.ledger(120, promotions=30))
    assert ">v9<" not in page(many, Surroundings(title="t"))


def test_what_was_won_since_the_seed_was_measured_beside_it() -> None:
    """On a day on which everything takes twice as long the throughput says half of it."""
    seed, *others = synthetic.ledger(12, promotions=2)
    better = next(e for e in others if e.version == 1)
    slow = {**seed.overall, "vs": {**better.overall["vs"], "incumbent": [7.0, 6.9, 7.1]},
            "tflops": [t * 3.5 for t in seed.overall["tflops"]]}  # fmt: skip
    audit = replace(better, id=better.id[:-1] + "z", kind=AUDIT, overall=slow)
    shown = page(lineages([seed, better, audit]), Surroundings(title="t"))
    assert "<dd>7.0x</dd><dt>since the seed</dt>" in shown


def test_one_version_alone_is_drawn_on_whole_numbers() -> None:
    """Neither attempt 0.98 nor version -0.02, and no legend of what is not there."""
    seed = replace(synthetic.ledger(3)[0], arms={})
    shown = page(lineages([seed]), Surroundings(title="t"))
    assert "1.2</text>" not in shown and "baseline, measured in the same runs" not in shown
    assert "attempt</dt>" in shown


def test_attempts_without_a_version_say_so() -> None:
    refused = [e for e in synthetic.ledger(9, promotions=0) if e.kind == "verdict"]
    assert "version so far" in page(lineages(refused), Surroundings(title="t"))
