# SPDX-License-Identifier: MIT
"""The page's tables: versions with diff and reasons; rejections; failed ideas; calibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from avo_pytest.entries import Entry
from avo_pytest.lineage import Lineage, Rung
from avo_pytest.report.ladder import header, percent, remarks, rows

MAX_DIFF = 20_000
SHOWN = 25


def versions(lineage: Lineage, diffs: Mapping[str, str], commit_url: str) -> str:
    """Newest first."""
    if not lineage.rungs:
        return ""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in header(lineage))
    body = [
        _version(rung, row, diffs.get(rung.entry.commit, ""), commit_url)
        for rung, row in zip(lineage.rungs, rows(lineage), strict=True)
    ]
    said = "".join(f"<li>{escape(remark)}</li>" for remark in remarks(lineage))
    return f"""<h3>Versions</h3><div class="scroll" tabindex="0" role="region" \
aria-label="Versions"><table><thead><tr>{heads}</tr></thead>
<tbody>{"".join(reversed(body))}</tbody></table></div><ul class="remarks">{said}</ul>"""


def rejections(lineage: Lineage) -> str:
    """Why a candidate was not promoted: the latest as a table, all by search."""
    failed = [a.entry for a in lineage.attempts if a.entry.version is None]
    if not failed:
        return ""
    body = "".join(
        f'<tr><td><code>{escape(e.id)}</code></td><td><b class="verdict {e.verdict}">'
        f"{escape(e.verdict)}</b></td><td>{escape(e.idea)}</td>"
        f"<td>{escape(percent(e.gain)) if e.gain else ''}</td><td>{_reasons(e)}</td></tr>"
        for e in reversed(failed[-SHOWN:])
    )
    return f"""<h3>Why was I rejected?</h3>
<form class="search" hidden><label>Run, idea, author or reason
<input type="search" autocomplete="off" spellcheck="false"></label>
<output></output></form>
<div class="scroll" tabindex="0" role="region" aria-label="Rejected candidates"><table class="why">
<thead><tr><th scope="col">run</th><th scope="col">verdict</th><th scope="col">idea</th>
<th scope="col">gain</th><th scope="col">reason and what to do next</th></tr></thead>
<tbody>{body}</tbody></table></div>
<p class="hint">The latest {min(SHOWN, len(failed))} of {len(failed):,};
<code>avo lineage show RUN</code> says everything about one.</p>"""


def notes(lineage: Lineage) -> str:
    """Failed ideas with their numbers."""
    if not lineage.notes:
        return ""
    items = "".join(
        f"<li><b>{escape(e.idea)}</b>: {escape(_outcome(e))}</li>" for e in reversed(lineage.notes)
    )
    count = len(lineage.notes)
    return (
        f"<details><summary>Ideas noted that failed ({count})</summary><ul>{items}</ul></details>"
    )


def calibration(lineage: Lineage) -> str:
    """What noise the verdicts rest on, and what they can resolve."""
    judged = [a.entry for a in lineage.attempts]
    noise = next((e.noise for e in reversed(judged) if e.noise), None)
    plan = next((e.plan for e in reversed(judged) if e.plan), None)
    facts = []
    if noise:
        floor = f"{100 * float(noise['floor']):.2g} %"
        facts.append(("Noise floor (A/A, between processes)", floor))
        facts.append(("Calibrated", str(noise.get("created", ""))[:10]))
        facts.append(("Processes of the calibration", str(noise.get("processes", ""))))
    facts += [(f"Plan: {key.replace('_', ' ')}", _figure(v)) for key, v in (plan or {}).items()]
    counts = _counts(judged)
    facts.append(("Verdicts", ", ".join(f"{n:,} {kind}" for kind, n in counts.items())))
    body = "".join(
        f"<tr><th scope='row'>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in facts if b
    )
    return f"<h3>Calibration and power</h3><table class='facts'><tbody>{body}</tbody></table>"


def _figure(value: object) -> str:
    """Shares and spreads are fractions in a plan."""
    return f"{100 * value:.3g} %" if isinstance(value, float) else str(value)


def _outcome(entry: Entry) -> str:
    return " ".join(reason.get("text", "") for reason in entry.reasons)


def _counts(entries: Sequence[Entry]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in entries:
        kind = entry.verdict or entry.kind
        counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _version(rung: Rung, row: Iterable[str], diff: str, commit_url: str) -> str:
    number, idea, *rest = row
    sha = escape(rung.entry.commit[:10])
    known = bool(sha and commit_url)
    link = f'<a href="{escape(commit_url)}{sha}">{sha}</a>' if known else f"<code>{sha}</code>"
    reasons = f"<details><summary>reasons</summary>{_reasons(rung.entry)}</details>"
    shown = diff if len(diff) <= MAX_DIFF else f"{diff[:MAX_DIFF]}\n(cut here)"
    code = f"<details><summary>diff</summary><pre>{escape(shown)}</pre></details>" if diff else ""
    more = f"{link if sha else ''} {reasons if rung.entry.reasons else ''} {code}".strip()
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
    about = f'<td>{escape(idea)}<div class="more">{more}</div></td>'
    return f'<tr><th scope="row">{escape(number)}</th>{about}{cells}</tr>'


def _reasons(entry: Entry) -> str:
    parts = []
    for reason in entry.reasons:
        advice = f" <i>Next: {escape(reason['advice'])}.</i>" if reason.get("advice") else ""
        parts.append(
            f"<b>{escape(reason.get('rule', ''))}</b> {escape(reason.get('text', ''))}{advice}"
        )
    return "<br>".join(parts)
