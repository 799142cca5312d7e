# SPDX-License-Identifier: MIT
"""The verdict on a record: the only place where scores are compared.

Fail-closed: the first group of rules with an objection decides, and PROMOTE is what is left when no
rule of any group objects. The rules in words: docs/verdict.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from avo_pytest import accuracy, admission, completeness, confirm_rules, quietness, screen_rules
from avo_pytest.calibration import calibrate
from avo_pytest.case import Case
from avo_pytest.policy import Policy
from avo_pytest.score import Record
from avo_pytest.verdict import Kind, Reason, Verdict, limit, percent, rounded, spoken

__all__ = ["Kind", "Reason", "Verdict", "decide", "derive"]

ON_THE_RECORD = (
    *admission.RULES,
    (Kind.INVALID, (completeness.whole,)),
    (Kind.INVALID, completeness.RULES),
    *quietness.RULES,
)
# An objection ends it: every group rests on those above.
ON_THE_SCREEN = (
    (Kind.INVALID, (screen_rules.calibration_applies,)),
    (Kind.INVALID, (screen_rules.planned,)),
    (Kind.INVALID, (screen_rules.screened,)),
    (Kind.REJECT, (screen_rules.futile,)),
    (Kind.INCONCLUSIVE, (screen_rules.undecided, screen_rules.only_screened)),
    (Kind.INVALID, (screen_rules.calibrated,)),
    (Kind.INVALID, (confirm_rules.replicated, confirm_rules.shared)),
    (Kind.INVALID, (confirm_rules.spread, accuracy.compared)),
)
ON_THE_EFFECTS = ((Kind.INVALID, confirm_rules.EFFECTS),)
ON_THE_CONFIRM = (
    (Kind.REJECT, (confirm_rules.regressed, accuracy.less_accurate, confirm_rules.too_small)),
    (Kind.INCONCLUSIVE, (confirm_rules.not_shown, confirm_rules.unresolved)),
    (Kind.INVALID, (confirm_rules.chosen,)),
)


def decide(record: Record, policy: Policy) -> Verdict:
    """The verdict of a record under a policy, from its raw samples alone."""
    if (refused := spoken(ON_THE_RECORD, record, policy)) is not None:
        return refused
    if record.mode == "calibrate":
        return _calibration(record)
    case = Case(record=record, policy=policy)
    if (said := spoken(ON_THE_SCREEN, case)) is not None:
        return said
    if (said := spoken(ON_THE_EFFECTS, case)) is not None:
        return replace(said, guards=_guards(case), replicates=case.confirmation.processes)
    return _confirmed(spoken(ON_THE_CONFIRM, case) or _promotion(case), case)


def derive(record: Record, policy: Policy) -> dict[str, Any]:
    """`Record.derived`: what pure functions make of the rest, as plain JSON."""
    return {"verdict": decide(record, policy).plain()}


def _calibration(record: Record) -> Verdict:
    """Of an A/A: whether it is one."""
    try:
        found = calibrate(record)
    except ValueError as error:
        reason = Reason("calibration", str(error), "run `avo calibrate` again")
        return Verdict(kind=Kind.INVALID, reasons=(reason,))
    guards = {"session bias": found.bias, "process sd": found.process_sd}
    return Verdict(
        kind=Kind.INCONCLUSIVE,
        reasons=(
            Reason("mode", "a calibration decides nothing", "`avo power` says what it allows"),
        ),
        replicates=len(found.values),
        guards={name: rounded(value) for name, value in guards.items()},
    )


def _promotion(case: Case) -> Verdict:
    found = case.confirmation
    text = (
        f"{percent(found.estimate)} faster, at least {percent(found.lower)}: above "
        f"{limit(case.min_gain)} at level {case.alpha:.3g} in {found.processes} "
        "fresh processes"
    )
    return Verdict(kind=Kind.PROMOTE, reasons=(Reason("confirm", text),))


def _confirmed(verdict: Verdict, case: Case) -> Verdict:
    """With the confirm's figures; those of the screen were stopped when they looked good."""
    found = case.confirmation
    return replace(
        verdict,
        gain=rounded(found.estimate),
        lower=rounded(found.lower),
        upper=rounded(found.upper),
        p_value=rounded(found.p_value),
        sign_flip_p=rounded(found.sign_flip_p),
        replicates=found.processes,
        guards=_guards(case),
    )


def _guards(case: Case) -> dict[str, float | str]:
    figures = {
        "min_gain": case.min_gain,
        "throttled": quietness.throttled_share(case.record),
        **{f"disturbed {k}": v for k, v in quietness.disturbed_shares(case.record).items()},
        **{name: found.value for name, (found, _) in case.effects.items()},
        **{name: found.estimate for name, found in case.configurations.items()},
    }
    return {name: rounded(value) for name, value in figures.items()}
