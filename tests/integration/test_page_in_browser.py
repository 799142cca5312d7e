# SPDX-License-Identifier: MIT
"""The page in headless Chromium: no error, and every control does what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from avo_pytest.entries import AUDIT
from avo_pytest.lineage import lineages
from avo_pytest.loading import _module
from avo_pytest.report.page import Surroundings, page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
pytest.importorskip("matplotlib", reason="matplotlib (the extra `report`) draws the page")
synthetic = _module(Path(__file__).parents[1] / "synthetic_ledger.py")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--enable-logging=stderr", "--virtual-time-budget=3000",
)  # fmt: skip
SCRIPT = """{
const section = document.querySelector(".series"), said = {};
const stack = section.querySelector(".stack.wide"), mark = stack.querySelector("use");
const data = JSON.parse(section.querySelector(".data").textContent);
const shown = () => [...stack.querySelectorAll(".frame")].filter(f => !f.hidden)
  .map(f => `${f.dataset.x} ${f.dataset.y}`);
const pick = (value) => section.querySelector(`input[value="${value}"]`).click();
const key = (name) => stack.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
const tip = section.querySelector(".tip");
said.first = shown();
said.before = mark.getAttribute("x");
pick("days"); pick("speedup");
said.then = shown();
const at = data.verdict.indexOf(data.verdicts.indexOf("REJECT"));
said.after = [mark.getAttribute("x"), mark.getAttribute("y")].map(Number);
const [left, bottom, width, height] = data.main.wide;
said.expected = [left + width * data.x.days[at] / data.steps,
                 bottom - height * data.y.speedup[at] / data.steps];
pick("REJECT");
said.rejected = getComputedStyle(stack.querySelector('g[data-verdict="REJECT"]')).display;
pick("REJECT");
said.again = getComputedStyle(stack.querySelector('g[data-verdict="REJECT"]')).display;
key("End"); said.end = tip.textContent; said.tip = !tip.hidden;
key("ArrowLeft"); said.left = tip.textContent;
key("Home"); said.home = tip.textContent;
key("Escape"); said.escaped = tip.hidden;
key("End"); key("Enter");
said.found = section.querySelector(".search output").textContent;
said.row = section.querySelector(".why tbody").textContent;
const use = mark.getBoundingClientRect();
const middle = {clientX: use.x + use.width / 2, clientY: use.y + use.height / 2};
stack.dispatchEvent(new PointerEvent("pointermove", middle));
said.pointed = tip.textContent;
document.getElementById("theme").click();
said.light = getComputedStyle(document.body).backgroundColor;
document.getElementById("theme").click();
said.dark = getComputedStyle(document.body).backgroundColor;
said.wider = document.documentElement.scrollWidth > innerWidth;
document.body.innerHTML = `<pre>${JSON.stringify(said).replaceAll("<", "")}</pre>`;
}"""


def browse(folder: Path, *options: str, text: str) -> subprocess.CompletedProcess[str]:
    path = folder / "index.html"
    path.write_text(text, encoding="utf-8")
    line = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", *options, path.as_uri()]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def ledger() -> list[Any]:
    return synthetic.ledger(150, promotions=8)


@pytest.fixture(scope="module")
def text(ledger: list[Any]) -> str:
    return page(lineages(ledger), Surroundings(title="kernels"))


@pytest.fixture(scope="module")
def said(text: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("browser")
    with_script = text.replace("</body>", f"<script>{SCRIPT}</script></body>")
    done = browse(folder, "--window-size=1400,1000", "--dump-dom", text=with_script)
    assert "CONSOLE" not in done.stderr, done.stderr
    assert "<pre>" in done.stdout, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(unescape(done.stdout.split("<pre>")[1].split("</pre>")[0]))
    return found


def test_units_switch_the_frame_and_move_the_marks(said: dict[str, Any]) -> None:
    assert said["first"] == ["attempt tflops"] and said["then"] == ["days speedup"]
    assert said["after"] == pytest.approx(said["expected"], abs=0.06)
    assert said["after"][0] != float(said["before"])


def test_verdicts_can_be_hidden(said: dict[str, Any]) -> None:
    assert (said["rejected"], said["again"]) == ("none", "inline")


def test_keys_walk_over_the_attempts(said: dict[str, Any], ledger: list[Any]) -> None:
    judged = [e for e in ledger if e.kind in ("verdict", "seed")]
    assert said["tip"] and said["escaped"]
    for key, entry in (("end", judged[-1]), ("left", judged[-2]), ("home", judged[0])):
        assert f"run {entry.id}" in said[key]


def test_enter_explains_an_attempt(said: dict[str, Any], ledger: list[Any]) -> None:
    last = [e for e in ledger if e.kind == "verdict"][-1]
    assert said["found"] == "1 found"
    assert last.id in said["row"] and last.reasons[0]["text"] in said["row"]


def test_the_pointer_finds_a_mark(said: dict[str, Any], ledger: list[Any]) -> None:
    assert any(f"run {e.id}" in said["pointed"] for e in ledger)


def test_both_themes_exist_and_nothing_overflows(said: dict[str, Any]) -> None:
    assert said["light"] == "rgb(255, 255, 255)" and said["dark"] == "rgb(20, 23, 27)"
    assert not said["wider"]


def test_a_phone_sees_the_narrow_chart_without_scrolling_aside(text: str, tmp_path: Path) -> None:
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "page.html").write_text(text, encoding="utf-8")
    outer = """<iframe src="phone/page.html" style="width:390px;height:900px"></iframe>
<script>onload = () => { const inner = frames[0].document;
document.body.innerHTML = `<pre>${JSON.stringify({
  wide: inner.querySelector(".stack.wide").getBoundingClientRect().width,
  narrow: inner.querySelector(".stack.narrow").getBoundingClientRect().width,
  scroll: inner.documentElement.scrollWidth})}</pre>`; }</script>"""
    done = browse(tmp_path, "--allow-file-access-from-files", "--dump-dom", text=outer)
    assert "<pre>" in done.stdout, done.stderr[-2000:]
    found = json.loads(unescape(done.stdout.split("<pre>")[1].split("</pre>")[0]))
    assert found["wide"] == 0 and 340 < found["narrow"] <= 390 and found["scroll"] <= 390


def test_labels_of_breaks_do_not_touch_on_a_phone(tmp_path: Path) -> None:
    """The first is written to the right of its line, the last to the left, towards the first."""
    attempts = [e for e in synthetic.ledger(9, promotions=7) if e.kind != AUDIT]
    epochs = ["1"] * 3 + ["653f8719ba92"] * 4 + ["8b8013fbe225"] * 2
    entries = [
        replace(entry, epoch=epoch, environment=attempts[0].environment)
        for entry, epoch in zip(attempts, epochs, strict=True)
    ]
    (tmp_path / "phone").mkdir()
    text = page(lineages(entries), Surroundings(title="kernels"))
    (tmp_path / "phone" / "page.html").write_text(text, encoding="utf-8")
    outer = """<iframe src="phone/page.html" style="width:500px;height:900px"></iframe>
<script>onload = () => { const inner = frames[0].document;
const labels = [...inner.querySelectorAll(".stack.narrow .frame:not([hidden]) text")]
  .filter(e => e.textContent.startsWith("epoch")).map(e => e.getBoundingClientRect());
document.body.innerHTML = `<pre>${JSON.stringify(labels)}</pre>`; }</script>"""
    done = browse(tmp_path, "--allow-file-access-from-files", "--dump-dom", text=outer)
    assert "<pre>" in done.stdout, done.stderr[-2000:]
    first, last = json.loads(unescape(done.stdout.split("<pre>")[1].split("</pre>")[0]))
    assert first["left"] < last["right"] and last["left"] < first["right"]
    assert last["bottom"] < first["top"]


def test_without_javascript_the_chart_and_tables_are_drawn(text: str, tmp_path: Path) -> None:
    """A sandbox without `allow-scripts` is a browser without JavaScript."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "page.html").write_text(text, encoding="utf-8")
    outer = """<iframe src="plain/page.html" sandbox="allow-same-origin"
style="width:1200px;height:900px"></iframe>
<script>onload = () => { const inner = frames[0].document;
const seen = (what) => [...inner.querySelectorAll(what)]
  .filter(e => e.getBoundingClientRect().width + e.getBoundingClientRect().height > 0).length;
document.body.innerHTML = `<pre>${JSON.stringify({
  frames: seen(".wide .frame"), marks: seen(".wide .dots use"), rows: seen("tbody tr"),
  controls: seen(".controls, .search, #theme, .legend input"),
  ring: seen(".ring")})}</pre>`; }</script>"""
    done = browse(tmp_path, "--allow-file-access-from-files", "--dump-dom", text=outer)
    assert "<pre>" in done.stdout, done.stderr[-2000:]
    found = json.loads(unescape(done.stdout.split("<pre>")[1].split("</pre>")[0]))
    assert (found["frames"], found["marks"], found["controls"]) == (1, 150, 0)
    assert found["rows"] > 9 + 25
