# SPDX-License-Identifier: MIT
"""Simulated launches as the record that a judge would have written, for the real `decide`.

Such a record names the simulated device, so only a policy made for that (in memory: no file may ask
for it) can promote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from avo_pytest.calibration import Calibration, to_dict
from avo_pytest.devices.scenarios import DEVICE
from avo_pytest.policy import Policy
from avo_pytest.sample_size import plan
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
from avo_pytest.simulation.launches import ARMS, TURNS, Launches, Size

CREATED = "2026-01-01T00:00:00+00:00"
ENVIRONMENT: Mapping[str, Any] = {"device": DEVICE, "isolation": "none"}


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes records of one size; all but the samples is the same for every candidate."""

    size: Size
    template: Record
    slots: Sequence[Mapping[str, Any]]  # of each sample, in the order of the arrays

    def record(self, launches: Launches, candidate: int) -> Record:
        """What was measured of one candidate."""
        ms = np.exp(launches.log_ms[candidate]).ravel().tolist()
        position = launches.position[candidate].ravel().tolist()
        samples = []
        for slot, one_ms, at in zip(self.slots, ms, position, strict=True):
            facts = {"at_ms": slot["begun_ms"] + at}
            samples.append(
                Sample(
                    replicate=slot["replicate"],
                    block=slot["block"],
                    configuration=slot["configuration"],
                    turn=slot["turn"],
                    arm=slot["arm"],
                    position=at,
                    ms=one_ms,
                    host_ms=one_ms,
                    facts=facts,
                )
            )
        return replace(self.template, samples=tuple(samples))


def recorder(size: Size, policy: Policy, calibration: Calibration | None) -> Recorder:
    """Records of confirms under a policy; without a calibration those of an A/A, to make one."""
    names = policy.configurations
    template = Record(
        run="simulation",
        created=CREATED,
        mode="calibrate" if calibration is None else "confirm",
        kernel="noise",
        target=DEVICE,
        set=policy.set,
        regime=policy.regime,
        subset=False,
        seed=0,
        isolation=str(ENVIRONMENT["isolation"]),
        harness=policy.harness,
        environment=ENVIRONMENT,
        arms=_arms(same=calibration is None),
        configurations=tuple(ConfigurationRecord(name=n, group="", flops=1e9) for n in names),
        checks=_checks(size, names),
        replicates=tuple(_replicate(number, size) for number in range(size.replicates)),
        blocks=tuple(_block(r, b) for r in range(size.replicates) for b in range(size.blocks)),
        policy=asdict(policy),
        calibration={} if calibration is None else to_dict(calibration),
        plan={} if calibration is None else plan(policy, calibration),
        attempts={"artifact": "candidate", "confirms": 0, "invalid": 0, "all_confirms": 0},
    )
    return Recorder(size, template, _slots(size, names))


def _arms(*, same: bool) -> tuple[ArmRecord, ...]:
    code = dict.fromkeys(ARMS, "incumbent") | ({} if same else {"candidate": "candidate"})
    return tuple(
        ArmRecord(name=arm, role=arm, dtype="bf16", identity=code[arm], artifact=code[arm])
        for arm in ARMS
    )


def _checks(size: Size, names: Sequence[str]) -> tuple[Check, ...]:
    """The correctness set, then what each process checked in full before it timed."""
    first = [Check(configuration=n, arm="candidate", status=Status.OK) for n in names]
    late = [
        Check(configuration=n, arm=arm, status=Status.OK, replicate=r)
        for r in range(size.replicates)
        for n in names
        for arm in ARMS
    ]
    return (*first, *late)


def _replicate(number: int, size: Size) -> Replicate:
    return Replicate(
        number=number,
        stage=Stage.CONFIRM,
        device=DEVICE,
        blocks=size.blocks,
        loaded=ARMS,
        started=CREATED,
        seconds=2.0,
        start_seconds=1.0,
        environment=ENVIRONMENT,
    )


def _block(replicate: int, block: int) -> dict[str, Any]:
    quiet: dict[str, list[Any]] = {"throttle_reasons": [], "foreign_processes": []}
    return {"replicate": replicate, "block": block, "before": quiet, "after": quiet}


def _slots(size: Size, names: Sequence[str]) -> list[dict[str, Any]]:
    """Of each sample what is the same for all candidates; a launch begins every millisecond."""
    shape = (size.replicates, size.blocks, size.configurations, TURNS, len(ARMS))
    per_block = size.configurations * TURNS * len(ARMS)
    return [
        {
            "replicate": replicate,
            "block": block,
            "configuration": names[c],
            "turn": turn,
            "arm": ARMS[arm],
            "begun_ms": float(block * per_block + (c * TURNS + turn) * len(ARMS)),
        }
        for replicate, block, c, turn, arm in np.ndindex(shape)
    ]
