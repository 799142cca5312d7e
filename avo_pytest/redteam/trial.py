# SPDX-License-Identifier: MIT
"""One candidate through the judge's own checks and timing, in a process that holds the device."""

from __future__ import annotations

import random
import secrets
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avo_pytest import correctness, timing, verification
from avo_pytest.devices import Arm, ArmFailed, Device
from avo_pytest.loading import load_problem
from avo_pytest.problem import Configuration, Problem
from avo_pytest.score import Sample

# After one block an arm may have seen three launches, which a cheat that waits survives.
BLOCKS, CANARY_BLOCKS = 3, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is judged: a built candidate against a built honest kernel."""

    candidate: Path
    incumbent: Path
    timeout_s: float
    blocks: int = BLOCKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of it. `speed` is the candidate's median paired speed over the honest arm's;
    `phase` is build, check or timed. `fatal`: the process that judged cannot go on."""

    status: str
    reason: str = ""
    phase: str = "build"
    speed: float = 0.0
    fatal: bool = False


def open_device(kind: str, threads: int, root: Path, cache: Path) -> Device:
    """The device of a target, for any number of trials."""
    seed = secrets.token_bytes(32)
    if kind == "cpu":
        from avo_pytest.devices.cpu import CpuDevice
        from avo_pytest.devices.cpu_arms import Limits

        return CpuDevice(
            problem_ref="attention",
            root=root,
            threads=threads,
            seed=seed,
            cache=cache,
            limits=Limits(start_s=5.0),
        )
    from avo_pytest.devices.cuda import CudaDevice

    return CudaDevice(0, seed=seed)


def serve(channel: Any, kind: str, threads: int, root: Path, cache: Path) -> None:
    """Entry of the judging process: tasks in, outcomes out, until the channel closes."""
    problem = load_problem("attention", root=root)
    device = open_device(kind, threads, root, cache)
    channel.send("ready")
    while (task := channel.recv()) is not None:
        outcome = judge(device, problem, task)
        channel.send(outcome)
        if outcome.fatal:
            return
    device.close()


def judge(device: Device, problem: Problem, task: Task) -> Outcome:
    """Every correctness configuration, then a short timed run against the honest arm."""
    arms = (
        Arm("candidate", "candidate", task.candidate),
        Arm("incumbent", "incumbent", task.incumbent),
    )
    phase = "check"
    try:
        for configuration in problem.correctness(device.kind):
            verdict = check(device, problem, configuration, arms[0], task.timeout_s)
            if not verdict.ok:
                reason = f"{configuration.name}: {verdict.reason}"
                return Outcome(status="incorrect", reason=reason, phase=phase)
        phase = "timed"
        return Outcome(status="ok", phase=phase, speed=_speed(device, problem, arms, task))
    except ArmFailed as failure:
        blamed = "" if failure.arm == "candidate" else f"blamed {failure.arm}: "
        reason = f"{blamed}{failure.reason}"
        return Outcome(status=failure.status, reason=reason, phase=phase, fatal=failure.fatal)


def check(
    device: Device, problem: Problem, configuration: Configuration, arm: Arm, timeout_s: float
) -> correctness.RowCheck:
    """One launch on one correctness configuration, as the judge checks it. Raises ArmFailed."""
    stage = device.stage(problem, configuration, [arm])
    try:
        contents = problem.inputs(configuration, secrets.randbits(48))
        stage.write(contents)
        stage.launch(arm.name, timeout_s=timeout_s)
        bits = stage.bits(arm.name)
        if (damage := stage.damage(arm.name)) is not None:
            raise ArmFailed(arm.name, "incorrect", f"{configuration.name}: {damage}")
    finally:
        stage.close()
    return correctness.check_output(problem, configuration, contents, bits)


def _speed(device: Device, problem: Problem, arms: Sequence[Arm], task: Task) -> float:
    (configurations,) = problem.throughput[device.kind].values()
    samples: list[Sample] = []
    benches: list[verification.Bench] = []

    def keep(message: Mapping[str, Any]) -> None:
        samples.extend([message["sample"]] if message["kind"] == "sample" else [])

    try:
        for configuration in configurations:
            bench, verdicts = verification.stage(
                device, problem, configuration, arms, timeout_s=task.timeout_s
            )
            benches.append(bench)
            for name, verdict in verdicts.items():
                if not verdict.ok:
                    raise ArmFailed(name, "incorrect", f"{configuration.name}: {verdict.reason}")
        timing.measure(device, benches, task.blocks, keep, random.Random())
    finally:
        for bench in benches:
            bench.stage.close()
    return speed(samples)


def speed(samples: Sequence[Sample]) -> float:
    """Median over pairs (same configuration, block and turn) of honest time over candidate time."""
    times: dict[tuple[str, int, int], dict[str, float]] = {}
    for sample in samples:
        place = (sample.configuration, sample.block, sample.turn)
        times.setdefault(place, {})[sample.arm] = sample.ms
    return statistics.median(pair["incumbent"] / pair["candidate"] for pair in times.values())
