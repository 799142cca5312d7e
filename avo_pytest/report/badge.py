# SPDX-License-Identifier: MIT
"""Badges of each kernel, target and device: as SVG of our own, and as JSON for shields.io.

Figures are audited ones of what `main` has now, never a running maximum, and only of judges.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from avo_pytest.entries import REFUTED, VERDICT, Entry, figures
from avo_pytest.lineage import Lineage, Series, best_baseline, lineages

UNKNOWN = "not measured yet"
NAMES = ("best", "lineage", "verdict", "noise")
GREEN, BLUE, YELLOW, RED, GREY = "#2b7a0b", "#0b5c9e", "#8f6a00", "#b3261e", "#5c5c5c"
VERDICT_COLORS = {"PROMOTE": GREEN, "INCONCLUSIVE": YELLOW, "INCORRECT": RED, "INVALID": RED}
# All keys of the endpoint format; anything else makes shields.io draw "invalid properties"
ENDPOINT_KEYS = {
    "schemaVersion": int, "label": str, "message": str, "color": str, "labelColor": str,
    "isError": bool, "namedLogo": str, "logoSvg": str, "logoColor": str, "logoSize": str,
    "style": str, "cacheSeconds": int,
}  # fmt: skip
STYLES = ("flat", "flat-square", "plastic", "for-the-badge", "social")
NARROW, WIDE = set("ijlt.,:;'|!fIr()[] "), set("mwMW%@")


@dataclass(frozen=True, slots=True)
class Badge:
    """Two texts and the colour of the second."""

    label: str
    message: str
    color: str = GREY


def badges(entries: Iterable[Entry]) -> dict[str, str]:
    """Path under `badges/` → contents, for every series that a judge has seen."""
    found: dict[str, str] = {}
    for lineage in lineages(entries, public=True):
        if lineage.series.device:
            found |= files(lineage.series, of(lineage))
    return found


def placeholders(series: Iterable[Series]) -> dict[str, str]:
    """The same files before anything was judged, so that a README may refer to them."""
    found: dict[str, str] = {}
    for one in series:
        what = f"{one.kernel}/{one.target} {one.device}".strip()
        labels = {"best": what, "lineage": "lineage", "verdict": "last verdict",
                  "noise": "noise floor"}  # fmt: skip
        found |= files(one, {name: Badge(labels[name], UNKNOWN) for name in NAMES})
    return found


def files(series: Series, named: dict[str, Badge]) -> dict[str, str]:
    """`attention-sm90/nvidia-h100/best.svg` and `.json`, and so on."""
    folder = f"{series.name}/{slug(series.device)}"
    return {
        f"{folder}/{name}.{suffix}": text
        for name, badge in named.items()
        for suffix, text in (("svg", svg(badge)), ("json", endpoint(badge)))
    }


def of(lineage: Lineage) -> dict[str, Badge]:
    """The four badges of a lineage."""
    return {
        "best": _best(lineage),
        "lineage": _length(lineage),
        "verdict": _verdict(lineage),
        "noise": _noise(lineage),
    }


def slug(name: str) -> str:
    """A device's name as a folder's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unknown"


def endpoint(badge: Badge) -> str:
    """JSON of https://shields.io/badges/endpoint-badge, checked against its keys."""
    raw = {
        "schemaVersion": 1, "label": badge.label, "message": badge.message,
        "color": badge.color.removeprefix("#"), "cacheSeconds": 600,
    }  # fmt: skip
    if wrong := endpoint_fault(raw):
        raise ValueError(f"badge {badge.label!r}: {wrong}")
    return json.dumps(raw, sort_keys=True) + "\n"


def endpoint_fault(raw: dict[str, Any]) -> str:
    """What shields.io would refuse; empty: nothing."""
    for key, value in raw.items():
        if key not in ENDPOINT_KEYS:
            return f"{key} is no key of the endpoint format"
        if type(value) is not ENDPOINT_KEYS[key]:
            return f"{key} must be {ENDPOINT_KEYS[key].__name__}"
    if raw.get("schemaVersion") != 1 or "label" not in raw:
        return "schemaVersion 1 and a label are required"
    if not raw.get("message"):
        return "a message is required"
    if raw.get("style", "flat") not in STYLES:
        return f"style must be one of {', '.join(STYLES)}"
    return (
        "namedLogo and logoSvg exclude each other" if {"namedLogo", "logoSvg"} <= set(raw) else ""
    )


def svg(badge: Badge) -> str:
    """A flat badge. Texts are stretched to the width that was reserved, whatever the font."""
    left, right = _width(badge.label), _width(badge.message)
    title = escape(f"{badge.label}: {badge.message}")
    total = left + right
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="20" role="img" \
aria-label="{title.replace('"', "&quot;")}">
<title>{title}</title>
<clipPath id="r"><rect width="{total}" height="20" rx="3"/></clipPath>
<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#3a3a3a"/>\
<rect x="{left}" width="{right}" height="20" fill="{badge.color}"/></g>
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" \
font-size="11">{_text(badge.label, left / 2, left)}
{_text(badge.message, left + right / 2, right)}</g>
</svg>
"""


def _best(lineage: Lineage) -> Badge:
    series, rung = lineage.series, lineage.current
    label = f"{series.kernel}/{series.target} {series.device}"
    if rung is None:
        return Badge(label, UNKNOWN)
    if rung.audit is None:
        return Badge(label, f"v{rung.version}, not audited yet", YELLOW)
    if rung.audit.verdict == REFUTED:
        return Badge(label, f"v{rung.version}, refuted by its audit", RED)
    found = figures(rung.audit.overall)
    if found is None:
        return Badge(label, f"v{rung.version}, audit without a score", RED)
    value = found.tflops[0]
    text = f"{value:,.0f} TFLOPS" if value >= 10 else f"{1000 * value:,.0f} GFLOPS"
    best = best_baseline(rung.audit)
    beside = f" ({best[1]:.2f}x {best[0]})" if best else ""
    return Badge(label, f"{text}{beside} {rung.audit.regime}".rstrip(), BLUE)


def _length(lineage: Lineage) -> Badge:
    if lineage.current is None:
        return Badge("lineage", f"{len(lineage.attempts)} attempts, no version")
    attempts = len(lineage.attempts)
    return Badge("lineage", f"v{lineage.current.version} of {attempts:,} attempts", BLUE)


def _verdict(lineage: Lineage) -> Badge:
    last = next(
        (
            a.entry
            for a in reversed(lineage.attempts)
            if a.entry.kind == VERDICT and a.entry.verdict
        ),
        None,
    )
    if last is None:
        return Badge("last verdict", UNKNOWN)
    return Badge("last verdict", last.verdict, VERDICT_COLORS.get(last.verdict, GREY))


def _noise(lineage: Lineage) -> Badge:
    known = [e for e in (a.entry for a in lineage.attempts) if e.noise.get("floor") is not None]
    known += [e for e in lineage.audits if e.noise.get("floor") is not None]
    if not known:
        return Badge("noise floor", UNKNOWN)
    noise = max(known, key=lambda e: e.id).noise
    valid = noise.get("valid", True)
    text = f"{100 * float(noise['floor']):.2g} %"
    return Badge("noise floor", text if valid else f"{text}, stale", BLUE if valid else RED)


def _width(text: str) -> int:
    """Pixels at 11 px in Verdana, on average; `textLength` makes it exact."""
    return round(sum(3.9 if c in NARROW else 10.3 if c in WIDE else 6.9 for c in text) + 12)


def _text(text: str, middle: float, width: float) -> str:
    if not text:
        return ""
    length = f'textLength="{width - 12:.0f}" lengthAdjust="spacingAndGlyphs"'
    return f'<text x="{middle:.1f}" y="14" {length}>{escape(text)}</text>'


def summary(entries: Sequence[Entry]) -> list[str]:
    """One line a series, for a terminal."""
    return [
        f"{lineage.series}: " + " · ".join(b.message for b in of(lineage).values())
        for lineage in lineages(entries, public=True)
        if lineage.series.device
    ]
