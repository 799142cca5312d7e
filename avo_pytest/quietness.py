# SPDX-License-Identifier: MIT
"""Was the machine ours and itself? Disturbed launches, slowdowns, strangers on the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from avo_pytest.policy import Policy
from avo_pytest.score import Record, Stage
from avo_pytest.verdict import Kind, Reason

# How GPUs run at full load or as they were set, the same for all arms. Any other reason, thermal or
# hardware's, comes and goes.
ALLOWED = frozenset({"power cap", "applications clocks", "sync boost", "display clocks"})
_WATCHED = frozenset({"throttle_reasons", "foreign_processes"})
_QUIET = "find out what else ran (`avo doctor`, nvidia-smi, top), then run again"


def disturbed(record: Record, policy: Policy) -> Reason | None:
    """The share of launches that stayed disturbed after all repeats, in screen and confirm."""
    for stage, share in disturbed_shares(record).items():
        if not share <= policy.max_disturbed:
            why = min(s.disturbed for s in record.samples if s.disturbed)
            text = (
                f"{share:.1%} of the {stage}'s launches stayed disturbed, "
                f"{policy.max_disturbed:.1%} are allowed; for one: {why}"
            )
            return Reason("disturbed", text, _QUIET)
    return None


def readable(record: Record, policy: Policy) -> Reason | None:
    """A GPU about which NVML says nothing may be throttled or shared."""
    for where, reading in readings(record):
        lists = [reading.get(key, ()) for key in ("throttle_reasons", "foreign_processes")]
        silent = reading.get("throttle", 0) is None or len(reading.keys() & _WATCHED) < 2
        if not all(isinstance(x, list | tuple) for x in lists) or (
            silent and record.target != "cpu"
        ):
            text = f"{where}: no readings of clocks and of other processes"
            return Reason("readings", text, "NVML must answer: `avo doctor` says what is missing")
    return None


def throttled(record: Record, policy: Policy) -> Reason | None:
    """The share of blocks with a thermal or hardware slowdown before or after."""
    if (share := throttled_share(record)) <= policy.max_throttled:
        return None
    where, found = next((w, f) for w, r in readings(record) if (f := slowdowns(r)))
    text = f"{share:.1%} of the blocks were throttled, {policy.max_throttled:.1%} may be"
    return Reason("throttled", f"{text}; {where}: {', '.join(sorted(found))}", "cool the device")


def alone(record: Record, policy: Policy) -> Reason | None:
    """No process of somebody else on the device."""
    for where, reading in readings(record):
        if reading.get("foreign_processes"):
            pids = ", ".join(map(str, reading["foreign_processes"]))
            text = f"{where}: other processes on the device: {pids}"
            return Reason("foreign process", text, "end them or choose another device")
    return None


RULES = ((Kind.INVALID, (readable,)), (Kind.INVALID, (disturbed, throttled, alone)))


def disturbed_shares(record: Record) -> dict[Stage, float]:
    """Of each stage that has launches."""
    launches = Counter(s.replicate for s in record.samples)
    left = Counter(s.replicate for s in record.samples if s.disturbed)
    shares = {}
    for stage in Stage:
        of = [r.number for r in record.replicates if r.stage is stage and launches[r.number]]
        if of:
            shares[stage] = sum(left[n] for n in of) / sum(launches[n] for n in of)
    return shares


def disturbed_alone(record: Record) -> tuple[int, int]:
    """Turns in which of candidate and incumbent the one was disturbed and the other not, in any
    try: the candidate's, the incumbent's."""
    places: dict[str, set[tuple[int, str, int, int]]] = {"candidate": set(), "incumbent": set()}
    for s in record.samples:
        if s.arm in places and (s.disturbed or s.facts.get("disturbed_tries", 0)):
            places[s.arm].add((s.replicate, s.configuration, s.block, s.turn))
    candidate, incumbent = places.values()
    return len(candidate - incumbent), len(incumbent - candidate)


def throttled_share(record: Record) -> float:
    """Of the blocks of all stages; 0 where there are none."""
    slow = [any(slowdowns(r) for r in _pair(block)) for block in record.blocks]
    return sum(slow) / len(slow) if slow else 0.0


def slowdowns(reading: Mapping[str, Any]) -> frozenset[str]:
    """Those of a reading's throttle reasons that no fair comparison allows."""
    return frozenset(map(str, reading.get("throttle_reasons") or ())) - ALLOWED


def readings(record: Record) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every reading with its place, in order of replicate and block."""
    for block in sorted(record.blocks, key=lambda b: (b["replicate"], b["block"])):
        for reading in _pair(block):
            yield f"replicate {block['replicate']}, block {block['block']}", reading


def _pair(block: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Before and after; a screen that was stopped has no `after` in its last block."""
    return tuple(block[key] for key in ("before", "after") if key in block)
