# SPDX-License-Identifier: MIT
"""matplotlib's SVG made fit to stand in a page: its colours by name, its ids its own, and small."""

from __future__ import annotations

import io
import re
from typing import Any

# What is drawn in the key's colour becomes the page's custom property of the same name.
COLORS = {
    "ink": "#010101", "faint": "#020202", "grid": "#030303", "paper": "#040404",
    "audited": "#050505", "baseline": "#060606", "REJECT": "#070707", "INCONCLUSIVE": "#080808",
    "PROMOTE": "#090909", "NO-CHANGE": "#0a0a0a", "INVALID": "#0b0b0b", "INCORRECT": "#0c0c0c",
}  # fmt: skip
_USE = r'<use href="#[^"]*" x="[^"]*" y="[^"]*" style="[^"]*"/>'
MARKS = re.compile(rf'<g (clip-path="[^"]*")>\s*((?:{_USE}\s*)+)</g>')
NUMBER = re.compile(r"-?\d+\.\d{2,}")


def rendered(figure: Any, prefix: str) -> str:
    """The `<svg>` element of a figure; `prefix` keeps its ids apart from those of others."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", metadata=nothing)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", text, count=1, flags=re.DOTALL
    )
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="(?!dots-)[^"]*"', "<g", text)  # nobody refers to groups but ours
    text = _renamed(text.replace("xlink:href", "href"), prefix)
    for name, color in COLORS.items():
        text = text.replace(color, f"var(--{name})")
    return _smaller(text)


def _renamed(text: str, prefix: str) -> str:
    """Ids short and of this figure alone, with what refers to them; names of dots stay."""
    found = enumerate(re.findall(r' id="([^"]+)"', text))
    names = {name: f"{prefix}{n}" for n, name in found if not name.startswith("dots-")}
    for before, after in names.items():
        text = text.replace(f'id="{before}"', f'id="{after}"').replace(f"#{before}", f"#{after}")
    return text.replace('id="dots-', 'data-verdict="')


def _smaller(text: str) -> str:
    """One decimal is a tenth of a pixel; the style of equal marks is said once, by their group."""
    text = re.sub(r"<[^>]+>", lambda tag: NUMBER.sub(_tenth, tag[0]), text)
    text = re.sub(r"font-family: [^;\"]*;? ?|-inkscape-stroke[^;\"]*;? ?", "", text)
    text = MARKS.sub(_once, text)
    return re.sub(r">\s+<", "><", text).strip()


def _tenth(match: re.Match[str]) -> str:
    return f"{float(match[0]):.1f}".removesuffix(".0")


def _once(match: re.Match[str]) -> str:
    style = re.search(r'style="[^"]*"', match[2])
    bare = re.sub(r' style="[^"]*"', "", match[2])
    # not clipped: a dot on the edge of the chart is a whole dot
    return f"<g {style[0] if style else ''}>{bare}</g>"
