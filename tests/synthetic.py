# SPDX-License-Identifier: MIT
"""Records of a machine that never was: complete, plausible, and of a known gain.

Load it by path, or `from tests.synthetic import …` where the root is on the path.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from avo_pytest import calibration as calibrations
from avo_pytest import error_budget, sample_size
from avo_pytest.policy import Policy
from avo_pytest.score import (
    ArmRecord,
    Check,
    ConfigurationRecord,
    Record,
    Replicate,
    Sample,
    Stage,
    Status,
)

CONFIGURATIONS = ("s1-full", "s2-causal")
ARMS = ("candidate", "incumbent", "null")
POLICY = Policy(set="mha", harness="h" * 64, configurations=CONFIGURATIONS)
ENVIRONMENT: Mapping[str, Any] = {
    "device": "NVIDIA H100 80GB HBM3",
    "driver": "580.95.05",
    "power_limit_w": 700.0,
    "uuid": "GPU-1",
    "isolation": "device-only",
    "nvml": "ok",
}
READING: Mapping[str, Any] = {
    "sm_mhz": 1980,
    "power_w": 310.0,
    "throttle": 4,
    "throttle_reasons": ["power cap"],
    "foreign_processes": [],
}
LAUNCH_SD, LAYOUT_SD = 0.0015, 0.0004


def record(
    gain: float = 0.01,
    *,
    seed: int = 1,
    policy: Policy = POLICY,
    mode: str = "confirm",
    gains: Mapping[str, float] | None = None,
    screen_replicates: int = 1,
    **changes: Any,
) -> Record:
    """A record in which the candidate is faster by `gain` (log ratio), plus `gains` of a
    configuration. With the defaults it PROMOTEs under POLICY."""
    generator = np.random.default_rng(seed)
    found = None if mode == "calibrate" else calibration(policy)
    candidate = "i" * 64 if mode == "calibrate" else "c" * 64
    attempts = {"artifact": candidate, "confirms": 0, "invalid": 0, "all_confirms": 3}
    attempts |= changes.pop("attempts", {})
    alpha = error_budget.level(policy, attempts)
    plan = sample_size.plan(policy, found, alpha) if found else _calibration_plan(policy)
    replicates: list[Replicate] = []
    if mode in ("screen", "confirm") and policy.screen_blocks:
        blocks = policy.screen_blocks // screen_replicates  # an even number of them
        replicates += [_replicate(n, Stage.SCREEN, blocks) for n in range(screen_replicates)]
    if mode in ("confirm", "calibrate"):
        first = len(replicates)
        replicates += [
            _replicate(first + n, Stage.CONFIRM, policy.confirm_blocks)
            for n in range(plan["replicates"])
        ]
    log_gain = {c: gain + (gains or {}).get(c, 0.0) for c in policy.configurations}
    samples = [s for r in replicates for s in _samples(r, log_gain, generator)]
    made = Record(
        run="synthetic",
        created="2026-01-02T00:00:00+00:00",
        mode=mode,
        kernel="attention",
        target="sm80",
        set=policy.set,
        regime=policy.regime,
        subset=False,
        seed=seed,
        isolation="device-only",
        harness=policy.harness,
        environment=dict(ENVIRONMENT),
        arms=(_arm("candidate", candidate), _arm("incumbent", "i" * 64), _arm("null", "i" * 64)),
        configurations=tuple(
            ConfigurationRecord(name=n, group=n.rpartition("-")[2], flops=1e12)
            for n in policy.configurations
        ),
        checks=tuple(_checks(policy, replicates)),
        replicates=tuple(replicates),
        samples=tuple(samples),
        blocks=tuple(_blocks(replicates)),
        policy=dataclasses.asdict(policy),
        calibration=calibrations.to_dict(found) if found else {},
        plan=plan,
        attempts=attempts,
    )
    return dataclasses.replace(made, **changes)


@functools.cache
def calibration(policy: Policy = POLICY, seed: int = 7) -> calibrations.Calibration:
    """What the same machine's A/A of 16 processes says."""
    policy = dataclasses.replace(policy, error_budget="none")
    return calibrations.calibrate(
        record(0.0, seed=seed, policy=policy, mode="calibrate", created="2026-01-01T00:00:00+00:00")
    )


def changed_samples(base: Record, **changes: Any) -> Record:
    """The record with every sample's fields replaced; a callable is given the sample."""
    samples = tuple(
        dataclasses.replace(s, **{k: v(s) if callable(v) else v for k, v in changes.items()})
        for s in base.samples
    )
    return dataclasses.replace(base, samples=samples)


def _calibration_plan(policy: Policy) -> dict[str, Any]:
    return {
        "replicates": 16,
        "blocks": policy.confirm_blocks,
        "screen_blocks": 0,
        "effective_min_gain": policy.min_gain,
        "reason": "a calibration",
    }


def _arm(role: str, artifact: str) -> ArmRecord:
    return ArmRecord(
        name=role, role=role, dtype="bf16", identity=artifact[0] * 8, artifact=artifact
    )


def _replicate(number: int, stage: Stage, blocks: int) -> Replicate:
    loaded = list(itertools.permutations(ARMS))[number % 6]
    return Replicate(
        number=number,
        stage=stage,
        device="cuda:0",
        blocks=blocks,
        loaded=loaded,
        started="2026-01-02T00:00:00+00:00",
        seconds=12.0,
        start_seconds=3.0,
        environment=dict(ENVIRONMENT),
    )


def _samples(
    replicate: Replicate, gains: Mapping[str, float], generator: np.random.Generator
) -> list[Sample]:
    """One process: each arm has a layout of its own, each launch its noise; blocks drift."""
    names = list(gains)
    layout = generator.normal(0, LAYOUT_SD, (len(names), len(ARMS)))
    shape = (replicate.blocks, len(names), 2, len(ARMS))
    noise = generator.normal(0, LAUNCH_SD, shape)
    drift = np.cumsum(generator.normal(0, 0.001, replicate.blocks))
    made, at_ms = [], 0.0
    for block in range(replicate.blocks):
        for c in generator.permutation(len(names)):
            order = [int(a) for a in generator.permutation(len(ARMS))]
            for turn, arms in enumerate((order, order[::-1])):
                for position, a in enumerate(arms):
                    log_ms = drift[block] + layout[c, a] + noise[block, c, turn, a]
                    log_ms -= gains[names[c]] if ARMS[a] == "candidate" else 0.0
                    ms = (1.0 + c) * math.exp(log_ms)
                    made.append(
                        Sample(
                            block=block,
                            configuration=names[c],
                            turn=turn,
                            position=position,
                            arm=ARMS[a],
                            ms=ms,
                            host_ms=ms + 0.02,
                            key=block,
                            facts={"at_ms": at_ms, "rest_ms": 0.0},
                            replicate=replicate.number,
                        )
                    )
                    at_ms += ms + 5.0
    return made


def _checks(policy: Policy, replicates: Sequence[Replicate]) -> list[Check]:
    made = [Check(configuration="b1-odd", arm="candidate", status=Status.OK, error_rms=1e-3)]
    for r in replicates:
        for configuration in policy.configurations:
            for arm in ARMS:
                made.append(
                    Check(
                        configuration=configuration, arm=arm, status=Status.OK, replicate=r.number
                    )
                )
    return made


def _blocks(replicates: Sequence[Replicate]) -> list[dict[str, Any]]:
    return [
        {
            "replicate": r.number,
            "block": block,
            "before": dict(READING),
            "after": dict(READING),
            "ceiling_tflops": 700.0,
        }
        for r in replicates
        for block in range(r.blocks)
    ]
