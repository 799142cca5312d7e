# SPDX-License-Identifier: MIT
"""What an A/A of the incumbent says of a device: its noise, its bias, what is usual there.

Raw process values are kept, in log ratios; spreads and bands are derived from them when asked, and
so is the plan of a confirm (sample_size.py).
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from avo_pytest.evidence import disorder, gather
from avo_pytest.intervals import estimate, positive
from avo_pytest.policy import Policy
from avo_pytest.policy import from_dict as from_policy_dict
from avo_pytest.processes import ARMS, processes, said
from avo_pytest.score import Record, Replicate, Stage
from avo_pytest.statistics import Array, log_ratios
from avo_pytest.strict_json import build

MIN_PROCESSES = 8  # below, a band is so wide that it guards nothing
SKEWNESS = 1.0  # at 16 processes and α = 0.005 it already trebles the error of a t


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a calibration holds for: judged on this, under that."""

    device: str
    driver: str
    power_limit_w: float | None
    threads: int | None
    kernel: str
    target: str
    set: str
    regime: str
    harness: str
    configurations: tuple[str, ...]
    blocks: int  # of each process


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One value a process, each in log ratios; `created` is ISO 8601, `uuid` the device's own,
    `version` the tree hash of the kernel's folder, empty where it is not known.

    Noise belongs to a device *and* to the code that ran: another version lays its memory out
    otherwise and disturbs its successor otherwise, so that bands may not fit it.
    """

    conditions: Conditions
    created: str
    uuid: str
    version: str
    values: tuple[float, ...]  # candidate against incumbent: the same code, loaded twice
    null_values: tuple[float, ...]  # and a third time
    order_effects: tuple[float, ...]
    carry_overs: tuple[float, ...]
    medians: tuple[tuple[float, ...], ...]  # process × configuration
    block_sds: tuple[float, ...]  # of the block values of each process
    start_seconds: tuple[float, ...]
    block_seconds: tuple[float, ...]

    @property
    def process_sd(self) -> float:
        """A/A standard deviation of a process value."""
        return float(np.std(self.values, ddof=1))

    @property
    def block_sd(self) -> float:
        """Standard deviation of a block value within a process, over all of them."""
        return math.sqrt(float(np.mean(np.square(self.block_sds))))

    @property
    def bias(self) -> float:
        """Session bias: what the A/A shows on average, which should be 0."""
        return float(np.mean(self.values))

    @property
    def skewness(self) -> float:
        """Third standardised moment g₁ of the process values; 0 where they are symmetric."""
        x = np.array(self.values) - self.bias
        return float(np.mean(x**3) / np.mean(x**2) ** 1.5)

    @property
    def effects(self) -> dict[str, tuple[float, ...]]:
        """What has a band, by the name of its guard."""
        return {
            "null twin": self.null_values,
            "order effect": self.order_effects,
            "carry-over": self.carry_overs,
        }


def calibrate(record: Record) -> Calibration:
    """From a record of mode `calibrate`. Raises ValueError where it cannot say anything.

    Whether the machine was quiet meanwhile is for `promotion.decide` to say.
    """
    _refuse_other_modes(record)
    policy = from_policy_dict(record.policy)
    fresh = {r.number: r for r in record.replicates if r.stage is Stage.CONFIRM}
    samples = [s for s in record.samples if s.replicate in fresh]
    launches = gather(samples, policy.configurations, ARMS)
    wanted = tuple((number, b) for number in sorted(fresh) for b in range(policy.confirm_blocks))
    if not wanted or launches.rows != wanted:
        raise ValueError(
            f"calibration: {len(launches.rows)} blocks of {len(fresh)} processes, not "
            f"{policy.confirm_blocks} of each"
        )
    if wrong := launches.missing() or disorder(launches):
        raise ValueError(f"calibration: {wrong}")
    found = processes(launches)
    return _checked(
        Calibration(
            conditions=conditions(
                record.environment, policy, kernel=record.kernel, target=record.target
            ),
            created=record.created,
            uuid=str(record.environment.get("uuid") or ""),
            version=next(a.identity for a in record.arms if a.role == "incumbent"),
            values=_floats(found.values),
            null_values=_floats(found.null_values),
            order_effects=_floats(said(found.order)),
            carry_overs=_floats(said(found.carry)),
            medians=tuple(_floats(row) for row in found.medians),
            block_sds=_floats(found.block_sds),
            start_seconds=tuple(fresh[n].start_seconds for n in sorted(fresh)),
            block_seconds=tuple(_block_seconds(fresh[n]) for n in sorted(fresh)),
        )
    )


def conditions(
    environment: Mapping[str, Any], policy: Policy, *, kernel: str, target: str
) -> Conditions:
    """What a run in this environment under this policy is judged on."""
    return Conditions(
        device=str(environment.get("device") or ""),
        driver=str(environment.get("driver") or ""),
        power_limit_w=environment.get("power_limit_w"),
        threads=environment.get("threads"),
        kernel=kernel,
        target=target,
        set=policy.set,
        regime=policy.regime,
        harness=policy.harness,
        configurations=policy.configurations,
        blocks=policy.confirm_blocks,
    )


def applies(calibration: Calibration, wanted: Conditions, *, at: str, policy: Policy) -> str | None:
    """None, or why it says nothing about a run under these conditions at this time (ISO 8601)."""
    for field in fields(Conditions):
        has, wants = getattr(calibration.conditions, field.name), getattr(wanted, field.name)
        if has != wants:
            return f"it was made for {field.name} {_short(has)}, not {_short(wants)}"
    try:
        age = _time(at) - _time(calibration.created)
    except (ValueError, TypeError):
        return f"its age is not known: {_short(calibration.created)} and {_short(at)}"
    days = age.total_seconds() / 86400
    if days < 0:
        return f"it was made after the run, on {calibration.created}"
    if days > policy.calibration_days:
        return f"it is {days:.0f} days old, {policy.calibration_days:g} are allowed"
    return skewed(calibration)


def of_another_version(calibration: Calibration, version: str) -> str | None:
    """None, or that it was made of other code than this incumbent's (tree hashes); it applies all
    the same, but its bands may not fit. Not known is another, too."""
    if calibration.version and calibration.version == version:
        return None
    made = calibration.version[:12] or "not named"
    return f"the calibration was made of another version of the kernel ({made}, not {version[:12]})"


def skewed(calibration: Calibration) -> str | None:
    """None, or that its process values have a long lower tail, for which no t test holds its error.

    With skewness γ, P(T > z) ≈ α − γ (2z² + 1) φ(z) / (6 √P) (Edgeworth; Hall 1992, §2.6). Allowed
    is −SKEWNESS, or three standard errors of g₁ under normality where so few cannot tell.
    """
    n = len(calibration.values)
    standard_error = math.sqrt(6 * (n - 2) / ((n + 1) * (n + 3)))
    limit = max(SKEWNESS, 3 * standard_error)
    if calibration.skewness >= -limit:
        return None
    return (
        f"its process values have a long lower tail (skewness {calibration.skewness:.1f}, allowed "
        f"{-limit:.1f}): some processes are much slower, and no test holds its error rate"
    )


def to_dict(calibration: Calibration) -> dict[str, Any]:
    """Plain JSON."""
    raw: dict[str, Any] = json.loads(json.dumps(asdict(calibration)))
    return raw


def from_dict(raw: Any) -> Calibration:
    """The inverse of `to_dict`. Raises ValueError naming what is wrong."""
    if not isinstance(raw, dict):
        return _checked(build(Calibration, raw))
    held = build(Conditions, raw.get("conditions"))
    # Records from before calibrations had a version are still to be read
    return _checked(build(Calibration, {"version": "", **raw}, conditions=held))


def _refuse_other_modes(record: Record) -> None:
    judged = {a.role: a.artifact for a in record.arms}
    if record.mode != "calibrate":
        raise ValueError(f"calibration: a record of mode {record.mode} is none; run avo calibrate")
    if not judged.get("candidate") or len({judged.get(role) for role in ARMS}) != 1:
        raise ValueError("calibration: candidate, incumbent and null twin are not the same code")


def _checked(made: Calibration) -> Calibration:
    """Enough processes, and a spread in everything that a band is made of. Raises ValueError."""
    if len(made.values) < MIN_PROCESSES:
        raise ValueError(f"calibration: {len(made.values)} processes, {MIN_PROCESSES} are needed")
    try:
        for values in (made.values, *made.effects.values()):
            estimate(values)
        log_ratios(made.block_sds)
        log_ratios(made.medians)
        positive(made.block_sd)
    except ValueError as error:
        raise ValueError(f"calibration: {error}") from error
    return made


def _block_seconds(replicate: Replicate) -> float:
    return (replicate.seconds - replicate.start_seconds) / max(1, replicate.blocks)


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(map(float, values))


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def _short(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "…")
