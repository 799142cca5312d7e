# Records that promote by other means than a faster kernel: S01-S16, G08, T18. ATTACK picks which.
# SPDX-License-Identifier: MIT
"""Each act turns an honest record into another; the twin is the record that was really measured."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from avo_pytest.policy import Policy
from avo_pytest.promotion import Kind, decide, derive
from avo_pytest.score import Record
from avo_pytest.verifying import against_itself


def _synthetic() -> Any:
    path = Path(__file__).parents[3] / "synthetic.py"
    spec = importlib.util.spec_from_file_location("redteam_synthetic", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


synthetic = _synthetic()
POLICY = replace(synthetic.POLICY, screen_blocks=0, confirm_blocks=4, replicates=8)
GAIN = 0.01  # of the twin; the attacks have none
TRIES, LUCKY = 300, 6


def record(gain: float = 0.0, seed: int = 1, **changes: Any) -> Record:
    made: Record = synthetic.record(gain, seed=seed, **{"policy": POLICY, **changes})
    return made


def scaled(base: Record, factor: Callable[[Any], float]) -> Record:
    changed: Record = synthetic.changed_samples(
        base, ms=lambda s: s.ms * factor(s), host_ms=lambda s: s.host_ms * factor(s)
    )
    return changed


def by_arm(**factors: float) -> Callable[[Any], float]:
    return lambda sample: factors.get(sample.arm, 1.0)


def fast_in_some(sample: Any) -> float:
    """The candidate is 4 % faster in every fourth process, as clocks or pages happened to lie."""
    return 1 / 1.04 if sample.arm == "candidate" and sample.replicate % 4 == 0 else 1.0


def only_the_best(base: Record) -> Record:
    kept = {r.number for r in base.replicates[:4]}
    return replace(
        base,
        replicates=tuple(r for r in base.replicates if r.number in kept),
        samples=tuple(s for s in base.samples if s.replicate in kept),
    )


def the_fast_ones_twice(base: Record) -> Record:
    fast = [s for s in base.samples if s.arm == "candidate" and s.block == 0]
    return replace(scaled(base, lambda s: 1.0), samples=(*base.samples, *fast))


def first(base: Record, **changes: Any) -> Record:
    return replace(base, samples=(replace(base.samples[0], **changes), *base.samples[1:]))


def always_first(base: Record) -> Record:
    order = {"candidate": 0, "incumbent": 1, "null": 2}
    faster = scaled(base, by_arm(candidate=1 / 1.01))
    changed: Record = synthetic.changed_samples(faster, position=lambda s: order[s.arm])
    return changed


def renamed(base: Record) -> Record:
    arms = (replace(base.arms[0], artifact=base.arms[1].artifact), *base.arms[1:])
    return replace(scaled(base, by_arm(candidate=1 / 1.01)), arms=arms)


def looser(base: Record) -> Record:
    return replace(base, policy={**base.policy, "min_gain": -1.0, "alpha_confirm": 0.5})


def one_failed(base: Record) -> Record:
    from avo_pytest.score import Check, Status

    wrong = Check(
        configuration=base.configurations[0].name, arm="candidate",
        status=Status.INCORRECT, reason="row 5 is wrong",
    )  # fmt: skip
    return replace(base, checks=(*base.checks, wrong))


def of_another(base: Record) -> Record:
    return replace(base, attempts={**base.attempts, "artifact": "a" * 64, "invalid": 0})


def repeated(base: Record) -> Record:
    return replace(base, attempts={**base.attempts, "invalid": 9})


FAST = (GAIN,)
# What each does: the gain that is really there, and the change.
ACTS: dict[int, tuple[float, Callable[[Record], Record]]] = {
    1: (GAIN, only_the_best),
    2: (0.0, lambda base: scaled(base, by_arm(incumbent=1.02))),
    3: (GAIN, lambda base: replace(base, harness="0" * 64)),
    4: (GAIN, lambda base: replace(base, subset=True)),
    5: (GAIN, lambda base: replace(base, mode="measure")),
    6: (GAIN, lambda base: first(base, ms=float("nan"))),
    7: (GAIN, lambda base: first(base, ms=-1.0)),
    8: (GAIN, lambda base: replace(base, isolation="none")),
    9: (GAIN, of_another),
    10: (GAIN, repeated),
    11: (0.0, renamed),
    12: (GAIN, the_fast_ones_twice),
    13: (GAIN, looser),
    14: (0.0, lambda _: record(0.012, gains={synthetic.CONFIGURATIONS[0]: -0.06})),
    15: (0.0, always_first),
    16: (GAIN, one_failed),
    17: (GAIN, lambda base: replace(base, samples=base.samples[:-1])),
    18: (GAIN, lambda base: replace(base, regime="sustained")),
    19: (GAIN, lambda base: replace(base, calibration={})),
    20: (0.0004, lambda base: base),
    23: (0.0, lambda base: scaled(base, fast_in_some)),
}


def verdict(changed: Record, policy: Policy = POLICY) -> tuple[str, str]:
    found = decide(changed, policy)
    reason = found.reasons[0].text if found.reasons else ""
    return ("ok" if found.kind is Kind.PROMOTE else "refused"), f"{found.kind}: {reason}"


def edited() -> Iterator[str]:
    """A record whose own summary was edited after it was written."""
    base = record(0.0)
    derived = json.loads(json.dumps(derive(base, POLICY)))
    derived["verdict"]["kind"] = "PROMOTE"
    yield from against_itself(replace(base, derived=derived))


def resubmitted() -> tuple[str, str]:
    """The same kernel again and again, until it is lucky."""
    lucky = sum(decide(record(0.0, seed), POLICY).kind is Kind.PROMOTE for seed in range(TRIES))
    status = "refused" if lucky <= LUCKY else "ok"
    return status, f"{lucky} of {TRIES} tries without any gain were promoted"


def again_when_unlucky() -> tuple[str, str]:
    """A CPU candidate's launches were found disturbed in a block of each process, and repeated."""
    policy, here = replace(POLICY, isolation="child"), {"isolation": "child"}
    base = record(GAIN, policy=policy, **here)
    repeated = synthetic.changed_samples(
        base,
        repeats=lambda s: int(s.block == 1),
        facts=lambda s: {**s.facts, "disturbed_tries": s.block == 1 and s.arm == "candidate"},
    )
    replicates = (replace(r, environment={**r.environment, **here}) for r in base.replicates)
    return verdict(replace(repeated, replicates=tuple(replicates)), policy)


def attempt(folder: Path, constants: dict[str, int], honest: bool) -> tuple[str, str]:
    """What the runner calls."""
    act = constants["ATTACK"]
    if honest:
        return verdict(record(GAIN))
    if act == 21:
        found = list(edited())
        return ("refused" if found else "ok"), "; ".join(found)
    if act == 22:
        return resubmitted()
    if act == 24:
        return again_when_unlucky()
    gain, change = ACTS[act]
    return verdict(change(record(gain)))
