# SPDX-License-Identifier: MIT
"""The confirm: its processes, what the machine did meanwhile, the gain, each configuration.

Each rule objects with a Reason or says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from avo_pytest import power, quietness
from avo_pytest.intervals import Band, Estimate, standing
from avo_pytest.score import Stage
from avo_pytest.verdict import Reason, limit, percent

if TYPE_CHECKING:
    from avo_pytest.case import Case

DEVICE_ONLY = "device-only"  # isolation where no host code of the candidate runs
ONE_IN = 10**6  # records whose arms are disturbed alike look as if one had chosen
FAR = 10  # times an effect, from which a gain is no artefact of it
_AGAIN = "the confirm counts as an attempt; run it again"


def replicated(case: Case) -> Reason | None:
    """Exactly as many confirm processes as planned, whole."""
    count, planned = _confirms(case), case.plan["replicates"]
    if count != planned:
        return Reason("replicates", f"{count} processes, {planned} were planned", _AGAIN)
    try:
        case.processes  # noqa: B018 - computed here
    except ValueError as error:
        return Reason("samples", str(error), _AGAIN)
    return None


def shared(case: Case) -> Reason | None:
    """Of a merged confirm every machine ran its own part, and each part is there once."""
    found = case.record.shares
    if not found:
        return None
    confirms = sorted(r.number for r in case.record.replicates if r.stage is Stage.CONFIRM)
    if sorted(n for share in found for n in share.replicates) != confirms:
        return Reason("share", "a process is of no share, or of several", _AGAIN)
    if len({s.sha256 for s in found}) < len(found) or len({s.run for s in found}) < len(found):
        return Reason("share", "one share is there twice", _AGAIN)
    for number, (share, planned) in enumerate(zip(found, case.parts, strict=True), 1):
        if len(share.replicates) != planned:
            text = f"share {number}: {len(share.replicates)} processes, {planned} were planned"
            return Reason("share", text, _AGAIN)
    return None


def spread(case: Case) -> Reason | None:
    """Every figure that is compared has a spread: copies of one process are no replicates."""
    try:
        case.effects, case.confirmation, case.configurations  # noqa: B018 - computed here
    except ValueError as error:
        return Reason("spread", str(error), _AGAIN)
    return None


def _usual(name: str) -> Callable[[Case], Reason | None]:
    def rule(case: Case) -> Reason | None:
        found, band = case.effects[name]
        where = standing(found, band, case.policy.alpha_guard)
        if where == "inside" or _too_small_to_matter(case, found, band):
            return None
        words = {"outside": "is outside of", "unresolved": "is not shown to be inside of"}
        text = (
            f"{percent(found.value)} {words[where]} what the calibration expects, "
            f"{percent(band.low)} to {percent(band.high)}"
        )
        return Reason(name, text, case.foreign_calibration or _EFFECT_ADVICE[name])

    return rule


def _too_small_to_matter(case: Case, effect: Estimate, band: Band) -> bool:
    """A gain is biased by such an effect by no more than the effect itself, or than it differs from
    the usual one: who looks fast because it burdens whoever runs next is not ten times faster than
    the burden."""
    alpha, usual = case.policy.alpha_guard, (band.low + band.high) / 2
    bounds = effect.lower(alpha), effect.upper(alpha)
    most = max(abs(bound - from_) for bound in bounds for from_ in (0.0, usual))
    return case.confirmation.lower - case.min_gain >= FAR * most


_EFFECT_ADVICE = {
    "null twin": "the incumbent differs from itself: the machine has changed; `avo calibrate`",
    "order effect": "who runs first matters: heat or caches; let the machine settle, or calibrate",
    "carry-over": "the incumbent differs by who ran before it: does the candidate leave a burden?",
}


def regressed(case: Case) -> Reason | None:
    """A configuration that certainly lost, and too much."""
    lost = {name: n for name, n in case.configurations.items() if n.regressed}
    if not lost:
        return None
    worst = min(lost, key=lambda name: (lost[name].estimate, name))
    allowed = limit(-case.policy.max_regression)
    text = f"{worst} lost {percent(lost[worst].estimate)}, {allowed} is the limit"
    advice = f"keep the gain where it is and mend {', '.join(sorted(lost))}"
    return Reason("regression", text, advice)


def too_small(case: Case) -> Reason | None:
    """The confirm's upper bound lies below min_gain."""
    found = case.confirmation
    if found.upper >= case.min_gain:
        return None
    text = (
        f"the gain is at most {percent(found.upper)} (estimate {percent(found.estimate)}), "
        f"{limit(case.min_gain)} is asked for"
    )
    return Reason("confirm", text, "try another idea")


def not_shown(case: Case) -> Reason | None:
    """The gain is not shown by both tests."""
    found = case.confirmation
    if found.confirmed:
        return None
    text = (
        f"estimate {percent(found.estimate)}, at least {percent(found.lower)}: not above "
        f"{limit(case.min_gain)} (p {found.p_value:.2g}, sign flips {found.sign_flip_p:.2g}, "
        f"level {case.alpha:.3g})"
    )
    if not found.agrees:
        text += "; the two tests disagree"
    return Reason("confirm", text, resolution(case))


def unresolved(case: Case) -> Reason | None:
    """A configuration too noisy to say that it did not lose."""
    open_ = {name: n for name, n in case.configurations.items() if not n.holds}
    if not open_:
        return None
    worst = min(open_, key=lambda name: (open_[name].lower, name))
    text = (
        f"{worst} may have lost {percent(open_[worst].lower)} (estimate "
        f"{percent(open_[worst].estimate)}), {limit(-case.policy.max_regression)} is the limit"
    )
    return Reason("regression", text, "make it faster there too, or quieten the machine")


def chosen(case: Case) -> Reason | None:
    """Turns were repeated for the candidate's own launch rather than for the incumbent's: who can
    have a launch found disturbed, by making it long say, chooses which of them count. Device code
    cannot: a GPU's launches are disturbed where the host is late."""
    if case.record.isolation == DEVICE_ONLY:
        return None
    candidate, incumbent = quietness.disturbed_alone(case.record)
    turns = candidate + incumbent
    if sum(math.comb(turns, n) for n in range(candidate, turns + 1)) * ONE_IN > 2**turns:
        return None
    text = (
        f"{candidate} turns were disturbed in the candidate's launch alone, {incumbent} in the "
        "incumbent's: turns are repeated for the machine's sake, not for an arm's"
    )
    return Reason("disturbed", text, "on a quiet machine none is; " + _AGAIN)


def resolution(case: Case) -> str:
    """What the machine finds with this many processes, and how many the estimate would need."""
    policy, sd, gain = case.policy, case.calibration.process_sd, case.confirmation.estimate
    count = case.confirmation.processes
    least = power.t_detectable_gain(
        processes=count,
        sd=sd,
        min_gain=case.min_gain,
        alpha=case.alpha,
        wanted=policy.power,
    )
    text = f"{count} processes find {percent(least)} in {policy.power:.0%} of cases"
    for more in (p for p in power.PROCESSES if p > count and gain > case.min_gain):
        found = power.t_power(gain, processes=more, sd=sd, min_gain=case.min_gain, alpha=case.alpha)
        if found >= policy.power:
            wanted = f"{more - count} more would find {percent(gain)}, were that the true gain"
            return f"{text}; {wanted}: set `replicates = {more}` before the next confirm"
    return f"{text}; look for more"


def _confirms(case: Case) -> int:
    return sum(r.stage is Stage.CONFIRM for r in case.record.replicates)


EFFECTS = tuple(map(_usual, _EFFECT_ADVICE))
