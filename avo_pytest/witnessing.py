# SPDX-License-Identifier: MIT
"""Records of other devices, which must not have seen a loss where the judge has seen a gain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avo_pytest import completeness, gates
from avo_pytest.case import Case
from avo_pytest.evidence import paired
from avo_pytest.filing import Filing
from avo_pytest.gates import Gate
from avo_pytest.landing import Refused
from avo_pytest.policy import Policy
from avo_pytest.score import Record, Stage
from avo_pytest.verdict import Kind, Verdict, limit, percent

_AGAIN = "score it on the witness again"


def heard(filing: Filing, table: Sequence[Gate], policy: Policy) -> None:
    """Every witness that the gate table names (asked by the judge only) and every one that was
    brought: each about the same, true to its samples, and without a loss. Raises Refused."""
    for witness in filing.witnesses:
        _same(filing, witness)
        if witness.finding:
            raise Refused("witness", f"{witness.device}: {witness.finding}", _AGAIN)
        if why := loss(witness.record, policy, witness.verdict(policy)):
            raise Refused("witness", f"{witness.device}: {why}", "it must not get slower there")
    if filing.role != gates.JUDGE:
        return
    place = {"kernel": filing.record.kernel, "target": filing.record.target}
    present = [gates.find(table, **place, device=w.device) for w in filing.witnesses]
    for gate in gates.witnesses(table, **place):
        if gate not in present:
            raise Refused("witness", f"no record of {gate.device}, a witness by the gate table")


def loss(record: Record, policy: Policy, verdict: Verdict) -> str:
    """What a witness holds against a candidate; empty: nothing.

    It did not run right, or its best estimate of the gain is below -max_regression, or a
    configuration lost more than that (certainly, by a confirm; by its median, where a screen ended
    it). It need not have seen a gain.
    """
    if verdict.kind in (Kind.PROMOTE, Kind.NO_CHANGE):
        return ""
    if verdict.kind in (Kind.INCORRECT, Kind.INVALID):
        return f"{verdict.kind}: {verdict.told()}"
    if verdict.kind is Kind.REJECT and any(r.rule == "regression" for r in verdict.reasons):
        return verdict.told()
    for name, gain in _gains(record, policy, verdict).items():
        if gain < -policy.max_regression:
            return f"{name}: {percent(gain)}, {limit(-policy.max_regression)} is the limit"
    return ""


def _gains(record: Record, policy: Policy, verdict: Verdict) -> dict[str, float]:
    """In all by the confirm; else in all and of each configuration where the screen stopped."""
    if verdict.gain is not None:
        return {"in all": verdict.gain}
    mean = Case(record=record, policy=policy).screening.mean
    launches = completeness.launches(record, policy, Stage.SCREEN)
    medians = np.median(paired(launches, "candidate", "incumbent"), axis=0)
    return {"in all": mean, **dict(zip(launches.configurations, map(float, medians), strict=True))}


def _same(filing: Filing, witness: Filing) -> None:
    judge, record = filing.record, witness.record
    for what, mine, other in (
        ("mode", "confirm", record.mode),
        ("kernel", judge.kernel, record.kernel),
        ("target", judge.target, record.target),
        ("candidate", filing.candidate, witness.candidate),
        ("incumbent", filing.incumbent, witness.incumbent),
        ("harness", judge.harness, record.harness),
        ("set", judge.set, record.set),
        ("nonce", judge.nonce, record.nonce),
    ):
        if mine != other:
            text = f"{witness.device}: {what} is {other[:12]!r}, the judge's {mine[:12]!r}"
            raise Refused("witness", text, _AGAIN)
    if record.run == judge.run:
        raise Refused("witness", "the judge's record is no witness of itself")
