# SPDX-License-Identifier: MIT
"""The heat map: gains measured side by side, chained where nothing was audited, plain to read."""

from __future__ import annotations

import html.parser
import math
from pathlib import Path

import pytest

from avo_pytest.entries import AUDIT, REVERT, SEED, VERDICT, Entry
from avo_pytest.lineage import Lineage, lineages
from avo_pytest.loading import _module
from avo_pytest.report.heat_map import MAX_VERSIONS, gains, heat_map
from avo_pytest.report.small_multiples import levels

synthetic = _module(Path(__file__).parents[1] / "synthetic_ledger.py")
NAMES = ("incumbent", "cudnn")
ARMS = {"candidate": "candidate", "incumbent": "incumbent", "cudnn": "baseline"}


def entry(number: int, kind: str, version: int, **measured: tuple[float | None, ...]) -> Entry:
    """`measured`: configuration → TFLOPS, ratio to the incumbent, ratio to the baseline if any."""
    rows = {
        name: {
            "tflops": [figures[0]] * 3,
            "vs": {arm: [r] * 3 for arm, r in zip(NAMES, figures[1:], strict=False) if r},
        }
        for name, figures in measured.items()
    }
    return Entry(
        id=f"20260101-000000-{number:06d}", kind=kind, created="", kernel="k", target="sm90",
        device="d", version=version, configurations=rows, arms=ARMS, verdict="PROMOTE",
    )  # fmt: skip


def of(*entries: Entry) -> Lineage:
    (found,) = lineages(entries)
    return found


class Cells(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self._in = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in = tag == "td"
        if self._in:
            self.found.append(dict(attributes))

    def handle_data(self, text: str) -> None:
        if self._in:
            self.words.append(text)
            self._in = False


def test_a_promotion_adds_to_the_version_before_and_an_audit_says_it_anew() -> None:
    """TFLOPS of another day would say 3 × for version 1: they are not looked at."""
    made = of(
        entry(0, SEED, 0, a=(1.0, None), b=(1.0, None)),
        entry(1, VERDICT, 1, a=(3.0, 1.1), b=(3.0, 0.9)),
        entry(2, VERDICT, 2, a=(3.0, 1.1), b=(3.0, 1.0)),
        entry(3, AUDIT, 2, a=(9.0, 1.3), b=(9.0, 0.95)),
        entry(4, VERDICT, 3, a=(3.0, 1.1), b=(3.0, 2.0)),
    )
    found = gains(made)
    logs = {v: {n: math.exp(x) for n, x in row.items()} for v, row in found.items()}
    assert logs == {
        0: {"a": 1.0, "b": 1.0},
        1: {"a": pytest.approx(1.1), "b": pytest.approx(0.9)},
        2: {"a": pytest.approx(1.3), "b": pytest.approx(0.95)},
        3: {"a": pytest.approx(1.43), "b": pytest.approx(1.9)},
    }


def test_what_was_reverted_is_no_column_and_what_was_not_measured_an_empty_cell() -> None:
    made = of(
        entry(0, SEED, 0, a=(1.0, None)),
        entry(1, VERDICT, 1, a=(2.0, 2.0)),
        entry(2, VERDICT, 2, a=(2.0, 1.5), new=(1.0, 1.0)),
        entry(3, REVERT, 1),
    )
    assert list(gains(made)) == [0, 2]
    cells = Cells(heat_map(made))
    assert cells.words == ["+0", "+50"]  # `new` has nothing to be compared with
    assert gains(made)[2]["a"] == pytest.approx(math.log(1.5))


def test_every_cell_says_its_number_its_sign_and_its_colour() -> None:
    made = of(
        entry(0, SEED, 0, **{"<b>": (1.0, None), "loss": (1.0, None)}),
        entry(1, VERDICT, 1, **{"<b>": (1.0, 1.44), "loss": (1.0, 0.99)}),
    )
    text = heat_map(made)
    assert "<b>" not in text and "&lt;b&gt;" in text
    cells = Cells(text)
    titles = {str(c["title"]): c.get("class") for c in cells.found}
    assert titles == {
        "version 0, <b>: +0.00 % over the seed": None,
        "version 1, <b>: +44.00 % over the seed": "up6",
        "version 0, loss: +0.00 % over the seed": None,
        "version 1, loss: -1.00 % over the seed": "down1",
    }
    assert cells.words == ["+0", "+44", "+0", "-1"]


def test_a_long_lineage_is_cut_and_says_so() -> None:
    (made,) = lineages(synthetic.ledger(200, promotions=80))
    text = heat_map(made)
    shown = len(made.rungs) - MAX_VERSIONS
    assert shown > 0 and f"{shown} earlier versions are left out" in text
    assert len(Cells(text).found) == MAX_VERSIONS * 8


def test_a_seed_alone_has_none() -> None:
    assert heat_map(of(entry(0, SEED, 0, a=(1.0, None)))) == ""


def test_a_small_chart_has_one_unit() -> None:
    """A promotion has no baselines beside it: it stands by its gains from who was compared."""
    made = of(
        entry(0, SEED, 0, a=(1.0, None, 0.5), b=(1.0, None)),
        entry(1, VERDICT, 1, a=(200.0, 2.0), b=(200.0, 2.0)),
        entry(2, VERDICT, 2, a=(300.0, 1.5), b=(300.0, 1.5)),
        entry(3, AUDIT, 2, a=(3.3, 3.2, 1.6), b=(3.3, 3.2)),
    )
    versions, ratios, compared = levels(made, "a")
    assert (versions, compared) == ([0, 1, 2], True)
    assert ratios == pytest.approx([0.5, 1.0, 1.6])
    assert levels(made, "b") == ([0, 1, 2], pytest.approx([1.0, 200.0, 3.3]), False)
