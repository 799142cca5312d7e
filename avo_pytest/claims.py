# SPDX-License-Identifier: MIT
"""Claimed gains against an audit: does the sum of what promotions claimed agree with a measurement?

Each promotion claimed a gain over the version before; an audit measures the last version against
the seed, side by side. Log ratios throughout. docs/lineage.md has the formula in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from avo_pytest.entries import AUDIT, HOLDS, REFUTED, Entry
from avo_pytest.intervals import Estimate, t_quantile
from avo_pytest.lineage import Lineage, Rung
from avo_pytest.sample_size import BIASES

__all__ = ["HOLDS", "REFUTED", "Claim", "Comparison", "claims", "compare"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One summand: a promotion's gain, or an audit to which later ones are added.

    `session` is the bias that a promotion tolerates by its rule; `selection` by how much the figure
    is expected to be too large because only large ones were promoted.
    """

    version: int
    gain: Estimate
    session: float
    selection: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Claims beside the audit. `sampling`, `session` and `selection` add up to what may differ."""

    claimed: float
    audited: Estimate
    sampling: float
    session: float
    selection: float

    @property
    def difference(self) -> float:
        """Positive where more was claimed than the audit finds."""
        return self.claimed - self.audited.value

    @property
    def most(self) -> float:
        """By how much the claims may exceed the audit."""
        return self.sampling + self.session + self.selection

    @property
    def least(self) -> float:
        """By how much they may fall short of it, as a negative number; no selection makes small."""
        return -(self.sampling + self.session)

    @property
    def holds(self) -> bool:
        return self.least <= self.difference <= self.most


def claims(
    lineage: Lineage, harness: str, *, alpha: float, min_gain: float
) -> tuple[Claim, ...] | None:
    """What `main` has on the seed by the ledger; None where this harness has seen no claim yet.

    Figures of one harness only are added up. Where the versions span several, the first audit that
    held under this one stands for everything before it.
    """
    landed = [r for r in lineage.rungs if not r.reverted]
    if not landed:
        return None
    if all(r.entry.identities.get("harness") == harness for r in landed):
        return tuple(_of(r, alpha, min_gain) for r in landed[1:])
    versions = {r.version for r in landed}
    anchor = next((a for a in lineage.audits if _anchors(a, harness, versions)), None)
    if anchor is None or anchor.version is None:
        return None
    since = [r for r in landed if r.version > anchor.version]
    first = Claim(anchor.version, _estimate(anchor, alpha), min_gain / BIASES)
    return (first, *(_of(r, alpha, min_gain) for r in since))


def compare(
    found: Sequence[Claim], audited: Estimate, *, alpha: float, min_gain: float
) -> Comparison:
    """The sum of independent claims against an independent audit, two-sided at 2α.

    sampling = t_{1−α, ν} √(Σ s²), ν by Welch and Satterthwaite (JCGM 100:2008, G.4.1).
    """
    parts = [claim.gain for claim in found] + [audited]
    variances = [e.standard_error**2 for e in parts]
    total = math.fsum(variances)
    degrees = total**2 / math.fsum(v**2 / e.degrees for v, e in zip(variances, parts, strict=True))
    return Comparison(
        claimed=math.fsum(claim.gain.value for claim in found),
        audited=audited,
        sampling=t_quantile(max(1, math.floor(degrees)), alpha) * math.sqrt(total),
        session=math.fsum(claim.session for claim in found) + min_gain / BIASES,
        selection=math.fsum(claim.selection for claim in found),
    )


def _of(rung: Rung, alpha: float, min_gain: float) -> Claim:
    """The claim of a promotion.

    Only figures whose lower bound l lay above min_gain were promoted, so that they are too large by
    about s φ(z) / Φ(z), z = (l − min_gain) / s (a truncated normal at its own estimate; Zhong &
    Prentice 2008). A promotion tolerates a session bias of min_gain / 3 (sample_size.BIASES).
    """
    gain = _estimate(rung.entry, alpha)
    floor = float(rung.entry.plan.get("effective_min_gain", min_gain))
    selection = 0.0
    if gain.standard_error > 0:
        z = (gain.lower(alpha) - floor) / gain.standard_error
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        selection = gain.standard_error * density / max(float(special.ndtr(z)), 0.5)
    return Claim(rung.version, gain, floor / BIASES, selection)


def _estimate(entry: Entry, alpha: float) -> Estimate:
    """Standard error and degrees of freedom back from a published one-sided 1 − α bound."""
    value, lower, _ = entry.gain or (0.0, 0.0, 0.0)
    degrees, alpha = max(1, entry.replicates - 1), float(entry.plan.get("alpha", alpha))
    return Estimate(value, max(0.0, value - lower) / t_quantile(degrees, alpha), degrees)


def _anchors(audit: Entry, harness: str, versions: set[int]) -> bool:
    return (
        audit.kind == AUDIT
        and audit.verdict == HOLDS
        and audit.gain is not None
        and audit.version in versions
        and audit.identities.get("harness") == harness
    )
