# SPDX-License-Identifier: MIT
"""Entry of a fresh process: one replicate. A job (JSON on stdin) in, raw facts (JSON lines) out.

The worker is trusted. It launches artifacts, holds the secrets and the clock, and writes to a
private copy of its standard output, so that nothing a library prints can become a result.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TextIO

from avo_pytest import confine, correctness, timing, verification
from avo_pytest.devices import Arm, ArmFailed, Device, scenarios
from avo_pytest.job import Job
from avo_pytest.loading import load_problem
from avo_pytest.problem import Configuration, Problem
from avo_pytest.score import Check, Status


def main() -> int:
    """Run the job on standard input."""
    confine.die_with_parent()  # a judge that is killed must not leave a measurement running
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    job = Job(**json.load(sys.stdin))
    emit = _Emitter(out)
    try:
        _run(job, emit)
    except ArmFailed as failure:
        emit(
            {
                "kind": "failed",
                "arm": failure.arm,
                "status": failure.status,
                "reason": failure.reason,
            }
        )
    except Exception as error:
        traceback.print_exc()
        emit({"kind": "error", "reason": f"{type(error).__name__}: {error}"})
        return 1
    emit({"kind": "done"})
    return 0


class _Emitter:
    """Writes one JSON object a line, flushed: a crash loses nothing that was emitted."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, message: Mapping[str, Any]) -> None:
        self._out.write(json.dumps(message, default=_plain, allow_nan=False) + "\n")
        self._out.flush()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def open_device(job: Job) -> Device:
    """The device a job names: cpu, cuda:N, simulated[:scenario]."""
    seed = bytes.fromhex(job.seed)
    if job.device == "cpu":
        from avo_pytest.devices.cpu import CpuDevice

        return CpuDevice(
            problem_ref=job.problem,
            root=Path(job.root),
            threads=job.threads,
            seed=seed,
            cache=Path(job.cache),
        )
    if job.device.partition(":")[0] == scenarios.DEVICE:
        from avo_pytest.devices.simulated import SimulatedDevice

        scenario = scenarios.load(job.device, Path(job.root))
        return SimulatedDevice(scenario, seed=seed, replicate=job.replicate)
    from avo_pytest.devices.cuda import CudaDevice

    index = int(job.device.partition(":")[2] or 0)
    return CudaDevice(index=index, seed=seed, judge=job.judge)


def _run(job: Job, emit: _Emitter) -> None:
    problem = load_problem(job.problem, root=Path(job.root))
    arms = [
        Arm(a["name"], a["role"], Path(a["artifact"]) if a.get("artifact") else None)
        for a in job.arms
    ]
    device = open_device(job)
    try:
        emit({"kind": "environment", "environment": device.environment()})
        if job.checks:
            _check(job, problem, device, next(a for a in arms if a.role == "candidate"), emit)
        if job.throughput:
            _measure(job, problem, device, _present(problem, arms, emit), emit)
    finally:
        device.close()


def _present(problem: Problem, arms: Sequence[Arm], emit: _Emitter) -> list[Arm]:
    """The arms less the baselines that cannot run here, with the reason told."""
    reasons = {b.name: b.absent() for b in problem.baselines if b.name in {a.name for a in arms}}
    for name, reason in reasons.items():
        if reason is not None:
            emit({"kind": "absent", "arm": name, "reason": reason})
    return [arm for arm in arms if reasons.get(arm.name) is None]


def _configuration(raw: Mapping[str, Any]) -> Configuration:
    return Configuration(**{k: v for k, v in raw.items() if k in Configuration.__slots__})


def _check(job: Job, problem: Problem, device: Device, arm: Arm, emit: _Emitter) -> None:
    for item in job.checks:
        configuration = _configuration(item["configuration"])
        emit({"kind": "checking", "configuration": configuration.name})
        try:
            check = _check_one(problem, device, configuration, arm, item["seed"], job.timeout_s)
        except ArmFailed as failure:
            check = _failed_check(configuration, arm, item["seed"], failure)
            emit({"kind": "check", "check": check})
            if failure.fatal:
                raise
            continue
        emit({"kind": "check", "check": check})


def _failed_check(configuration: Configuration, arm: Arm, seed: int, failure: ArmFailed) -> Check:
    return Check(
        configuration=configuration.name,
        arm=arm.name,
        status=Status(failure.status),
        reason=failure.reason,
        seed=seed,
    )


def _check_one(
    problem: Problem,
    device: Device,
    configuration: Configuration,
    arm: Arm,
    seed: int,
    timeout_s: float,
) -> Check:
    stage = device.stage(problem, configuration, [arm])
    try:
        contents = problem.inputs(configuration, seed)
        stage.write(contents)
        stage.launch(arm.name, timeout_s=timeout_s)
        bits = stage.bits(arm.name)
        if (damage := stage.damage(arm.name)) is not None:
            raise ArmFailed(arm.name, "incorrect", damage)
    finally:
        stage.close()
    verdict = correctness.check_output(problem, configuration, contents, bits)
    return _verdict_check(configuration, arm, verdict, seed)


def _verdict_check(
    configuration: Configuration, arm: Arm, verdict: correctness.RowCheck, seed: int = 0
) -> Check:
    return Check(
        configuration=configuration.name,
        arm=arm.name,
        status=Status.OK if verdict.ok else Status.INCORRECT,
        reason=verdict.reason,
        seed=seed,
        rows=verdict.rows,
        error_rms=_finite(verdict.error_rms),
        limit_rms=_finite(verdict.limit_rms),
        error_worst=_finite(verdict.error_worst),
        limit_worst=_finite(verdict.limit_worst),
    )


def _finite(value: float | None) -> float | None:
    """JSON has no NaN; an error that is not a number is explained by the reason."""
    return value if value is not None and math.isfinite(value) else None


def _measure(
    job: Job, problem: Problem, device: Device, arms: Sequence[Arm], emit: _Emitter
) -> None:
    benches: list[verification.Bench] = []
    configurations = [_configuration(raw) for raw in job.throughput]
    order = random.Random(f"{job.seed} {job.replicate}")  # hashed: as secret as the seed
    if job.shuffle:  # which arm lies where in memory is drawn anew in each process
        arms = order.sample(list(arms), len(arms))
        order.shuffle(configurations)
    emit({"kind": "loading", "arms": [arm.name for arm in arms]})
    try:
        for configuration in configurations:
            emit({"kind": "staging", "configuration": configuration.name})
            bench, verdicts = verification.stage(
                device, problem, configuration, arms, timeout_s=job.timeout_s, regime=job.regime
            )
            benches.append(bench)
            _report(bench, verdicts, emit)
        timing.measure(device, benches, job.blocks, emit, order)
    finally:
        for bench in benches:
            bench.stage.close()


def _report(
    bench: verification.Bench, verdicts: Mapping[str, correctness.RowCheck], emit: _Emitter
) -> None:
    """Nothing of a configuration is timed that failed its check in full."""
    for arm in bench.arms:
        if (verdict := verdicts.get(arm.name)) is None:
            continue
        emit({"kind": "check", "check": _verdict_check(bench.configuration, arm, verdict)})
        if not verdict.ok:
            raise ArmFailed(arm.name, "incorrect", f"{bench.configuration.name}: {verdict.reason}")


if __name__ == "__main__":
    sys.exit(main())
