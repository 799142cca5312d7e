# SPDX-License-Identifier: MIT
"""Ledgers of any length whose figures are made up, by seed: for tests and for pictures in docs."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from avo_pytest.entries import AUDIT, NOTE, SEED, VERDICT, Entry

BASELINES = {"cudnn": 1.0, "flash-attention-3": 0.93, "torch-flash": 0.55}
ARMS = {"candidate": "candidate", "incumbent": "incumbent", **dict.fromkeys(BASELINES, "baseline")}
SHAPES = {"s4k": 0.93, "s8k": 0.99, "s16k": 1.03, "s32k": 1.05}
IDEAS = (
    "two warpgroups take turns", "softmax in base 2", "longest rows first", "tiles of 176 keys",
    "K and V in one ring", "skip the rescale where nothing grew", "row sums in the epilogue",
    "masks only on the diagonal", "stores by TMA", "one barrier less a tile", "more registers",
)  # fmt: skip
FAILURES = {
    "REJECT": (
        "gain",
        "lower bound -0.12 % is not above min_gain 0.10 %",
        "look for a larger idea",
    ),
    "INCONCLUSIVE": ("screen", "no bound left the band within 40 blocks", "measure longer"),
    "INCORRECT": ("correct", "b4-s8k-causal: row 3071 of head 5: relative error 0.21", "mask"),
    "INVALID": ("throttle", "3 of 128 blocks were throttled", "run again"),
    "NO-CHANGE": ("artifact", "the same code as version 4", ""),
}
WEIGHTS = {"REJECT": 50, "INCONCLUSIVE": 22, "INCORRECT": 16, "INVALID": 5, "NO-CHANGE": 7}


def ledger(
    attempts: int,
    *,
    seed: int = 1,
    promotions: int = 24,
    kernel: str = "attention",
    target: str = "sm90",
    device: str = "NVIDIA H100",
    role: str = "judge",
) -> list[Entry]:
    """A seed, then attempts of which some improve, with notes and audits between them."""
    return list(_entries(random.Random(seed), attempts, promotions, kernel, target, device, role))


def _entries(
    dice: random.Random, attempts: int, promotions: int,
    kernel: str, target: str, device: str, role: str,
) -> Iterator[Entry]:  # fmt: skip
    clock = datetime(2026, 3, 2, 9, tzinfo=UTC)
    step = timedelta(days=60) / attempts
    better = set(dice.sample(range(2, attempts), min(promotions, attempts - 2)))
    level, version, base = 0.0, 0, 420.0
    for number in range(attempts):
        clock += step * dice.uniform(0.2, 1.8)
        late = number > attempts * 0.62
        facts = {
            "id": f"{clock:%Y%m%d-%H%M%S}-{number:06x}",
            "created": clock.isoformat(timespec="seconds"),
            "kernel": kernel, "target": target, "device": device, "role": role, "set": "mha",
            "mode": "confirm", "regime": "refreshed", "isolation": "device-only",
            "author": dice.choice(("claude", "sweep", "ada")), "idea": dice.choice(IDEAS),
            "epoch": "2" if late else "1",
            "environment": {"driver": "590.12" if late else "580.65", "uuid": f"GPU-{late:d}"},
            "cost": {"gpu_seconds": round(dice.uniform(20, 240), 1),
                     "usd": round(dice.uniform(0.1, 3.0), 2)},
            "identities": {k: f"{dice.getrandbits(256):064x}" for k in ("candidate", "harness")},
            "raw": {"sha256": f"{dice.getrandbits(256):064x}", "bytes": 400_000},
            "plan": {"replicates": 16}, "arms": ARMS,
            "noise": {"floor": 0.0007, "created": "2026-03-01T00:00:00+00:00", "processes": 16},
        }  # fmt: skip
        if number == 0:
            yield Entry(kind=SEED, version=0, **facts, **figures(dice, base, level))
        elif number in better:
            gain = abs(dice.gauss(0, 0.018)) + 0.002
            level, version = level + gain, version + 1
            yield Entry(
                kind=VERDICT, verdict="PROMOTE", version=version, gain=around(gain), p_value=1e-4,
                replicates=16, commit=f"{dice.getrandbits(160):040x}",
                reasons=({"rule": "gain", "text": f"faster by {100 * gain:.2f} %"},),
                **facts, **figures(dice, base, level),
            )  # fmt: skip
            if version % 2 == 0:
                facts |= {"id": f"{clock:%Y%m%d-%H%M%S}-a{number:05x}", "mode": "audit"}
                yield Entry(kind=AUDIT, version=version, **facts, **figures(dice, base, level))
        else:
            yield failed(dice, facts)
        if number % 97 == 50:
            facts |= {"id": f"{clock:%Y%m%d-%H%M%S}-b{number:05x}"}
            text = {"rule": "note", "text": "slower by 3 %: registers spill"}
            yield Entry(kind=NOTE, **facts, reasons=(text,))


def failed(dice: random.Random, facts: dict) -> Entry:
    verdict = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    rule, text, advice = FAILURES[verdict]
    gain = None
    if verdict in ("REJECT", "INCONCLUSIVE"):
        gain = around(dice.gauss(-0.012 if verdict == "REJECT" else 0.0005, 0.012))
    reason = {"rule": rule, "text": text, **({"advice": advice} if advice else {})}
    return Entry(kind=VERDICT, verdict=verdict, gain=gain, reasons=(reason,), **facts)


def around(value: float, half: float = 0.0011) -> tuple[float, float, float]:
    return round(value, 6), round(value - half, 6), round(value + half, 6)


def figures(dice: random.Random, base: float, level: float) -> dict:
    masks = {"full": 1.06, "causal": 1 / 1.06}
    drift = dice.gauss(0, 0.002)
    return {
        "overall": figure(base, level + drift, 1.0),
        "groups": {m: figure(base, level + drift, f) for m, f in masks.items()},
        "configurations": {
            f"{shape}-{mask}": {
                "group": mask,
                **figure(base, level + drift + bend(f, level), f * g),
            }
            for shape, g in SHAPES.items()
            for mask, f in masks.items()
        },
    }


def bend(factor: float, level: float) -> float:
    return 2.0 * level * (1.0 - factor)


def figure(base: float, level: float, factor: float) -> dict:
    value = base * factor * math.exp(level)
    ratios = {name: value / (640.0 * share * factor) for name, share in BASELINES.items()}
    return {
        "tflops": [round(value * x, 2) for x in (1.0, 0.996, 1.004)],
        "vs": {n: [round(r * x, 4) for x in (1.0, 0.998, 1.002)] for n, r in ratios.items()},
    }
