# SPDX-License-Identifier: MIT
"""The rule of promotion: one record that PROMOTEs, and everything that must keep it from that."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avo_pytest import calibration as calibrations
from avo_pytest import sample_size
from avo_pytest.promotion import Kind, decide, derive
from avo_pytest.score import Check, Record, Stage, Status


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


synthetic = load(Path(__file__).resolve().parents[1] / "synthetic.py")
POLICY = synthetic.POLICY
GOOD: Record = synthetic.record()
LAST = GOOD.replicates[-1].number  # a confirm replicate, as all are but number 0
Change = Callable[[Record], Record]


def sample(index: int = -1, **changes: Any) -> Change:
    def change(record: Record) -> Record:
        samples = list(record.samples)
        samples[index] = replace(samples[index], **changes)
        return replace(record, samples=tuple(samples))

    return change


def replicate(number: int = LAST, **changes: Any) -> Change:
    def change(record: Record) -> Record:
        made = [replace(r, **changes) if r.number == number else r for r in record.replicates]
        return replace(record, replicates=tuple(made))

    return change


def environment(number: int | None = None, **changes: Any) -> Change:
    """Of one replicate, or of the record and all replicates."""

    def change(record: Record) -> Record:
        made = [
            replace(r, environment={**r.environment, **changes})
            if number in (None, r.number)
            else r
            for r in record.replicates
        ]
        if number is None:
            record = replace(record, environment={**record.environment, **changes})
        return replace(record, replicates=tuple(made))

    return change


def readings(key: str, *, blocks: int = 1, **changes: Any) -> Change:
    """Of the last blocks."""

    def change(record: Record) -> Record:
        made = [dict(b) for b in record.blocks]
        for block in made[-blocks:]:
            block[key] = {**block[key], **changes}
        return replace(record, blocks=tuple(made))

    return change


def without_last_block(record: Record) -> Record:
    """What a journal that was cut off holds."""
    gone = record.samples[-1].replicate, record.samples[-1].block
    kept = [s for s in record.samples if (s.replicate, s.block) != gone]
    return replace(record, samples=tuple(kept), blocks=record.blocks[:-1])


def without_last_replicate(record: Record) -> Record:
    return replace(
        record,
        replicates=record.replicates[:-1],
        samples=tuple(s for s in record.samples if s.replicate != LAST),
        checks=tuple(c for c in record.checks if c.replicate != LAST),
        blocks=tuple(b for b in record.blocks if b["replicate"] != LAST),
    )


def last_twice(record: Record) -> Record:
    """One more process, a copy of the last."""
    number = LAST + 1
    return replace(
        record,
        replicates=(*record.replicates, replace(record.replicates[-1], number=number)),
        samples=(
            *record.samples,
            *(replace(s, replicate=number) for s in record.samples if s.replicate == LAST),
        ),
        checks=(
            *record.checks,
            *(replace(c, replicate=number) for c in record.checks if c.replicate == LAST),
        ),
        blocks=(
            *record.blocks,
            *({**b, "replicate": number} for b in record.blocks if b["replicate"] == LAST),
        ),
    )


def copies(record: Record) -> Record:
    """Every confirm process has the times of one."""
    times = {
        (s.block, s.configuration, s.turn, s.arm): s for s in record.samples if s.replicate == LAST
    }
    made = [
        replace(times[s.block, s.configuration, s.turn, s.arm], replicate=s.replicate)
        if s.replicate
        else s
        for s in record.samples
    ]
    return replace(record, samples=tuple(made))


def with_check(**changes: Any) -> Change:
    check = {"configuration": "s1-full", "arm": "candidate", "status": Status.INCORRECT, **changes}
    return lambda record: replace(record, checks=(*record.checks, Check(**check)))


def without_checks(keep: Callable[[Check], bool]) -> Change:
    return lambda record: replace(record, checks=tuple(filter(keep, record.checks)))


def errors(candidate: float | None, incumbent: float | None, where: str = "s1-full") -> Change:
    """RMS errors of the checks of one configuration in every process."""
    of = {"candidate": candidate, "incumbent": incumbent, "null": incumbent}

    def change(record: Record) -> Record:
        made = [
            replace(c, error_rms=of[c.arm])
            if c.replicate is not None and c.configuration == where
            else c
            for c in record.checks
        ]
        return replace(record, checks=tuple(made))

    return change


def shares(candidate: float | None, incumbent: float | None, where: str = "s1-full") -> Change:
    """Errors of the timed launches of one configuration, as shares of what is allowed; of every
    other one they are 0.5."""
    of = {"candidate": candidate, "incumbent": incumbent, "null": incumbent}

    def change(record: Record) -> Record:
        made = []
        for s in record.samples:
            share = of[s.arm] if s.configuration == where else 0.5
            facts = {} if share is None else {"error_share": share}
            made.append(replace(s, facts={**s.facts, **facts}))
        return replace(record, samples=tuple(made))

    return change


def careful_at_times(record: Record) -> Record:
    """Errors grow by a fifth in most blocks and shrink in the others, by as much in the mean."""
    made = []
    for s in shares(0.5, 0.5)(record).samples:
        own = 1.0 if s.arm != "candidate" else 0.72 if s.block % 8 < 3 else 1.2
        made.append(replace(s, facts={**s.facts, "error_share": 0.5 * own}))
    return replace(record, samples=tuple(made))


def careless_at_times(record: Record) -> Record:
    """Errors grow by two fifths in three blocks of eight, which are not in the median."""
    made = []
    for s in shares(0.5, 0.5)(record).samples:
        own = 1.4 if s.arm == "candidate" and s.block % 8 < 3 else 1.0
        made.append(replace(s, facts={**s.facts, "error_share": 0.5 * own}))
    return replace(record, samples=tuple(made))


def arm(role: str, **changes: Any) -> Change:
    def change(record: Record) -> Record:
        arms = [replace(a, **changes) if a.role == role else a for a in record.arms]
        return replace(record, arms=tuple(arms))

    return change


def record_of(**changes: Any) -> Change:
    return lambda record: replace(record, **changes)


def entry(name: str, **changes: Any) -> Change:
    """One key of a mapping of the record."""
    return lambda record: replace(record, **{name: {**getattr(record, name), **changes}})


def less(name: str, key: str) -> Change:
    return lambda record: replace(
        record, **{name: {k: v for k, v in getattr(record, name).items() if k != key}}
    )


def slower(chosen: Callable[[Any], bool], factor: float) -> Change:
    def change(record: Record) -> Record:
        made = [
            replace(s, ms=s.ms * factor, host_ms=s.host_ms * factor) if chosen(s) else s
            for s in record.samples
        ]
        return replace(record, samples=tuple(made))

    return change


def after_the_candidate(s: Any) -> bool:
    """A launch of the incumbent's code right after one of the candidate, in a confirm."""
    return s.replicate > 0 and s.arm != "candidate" and (s.replicate, *_slot(s)) in _BURDENED


def _slot(s: Any) -> tuple[int, str, int, int]:
    return s.block, s.configuration, s.turn, s.position


def _burdened() -> set[tuple[int, int, str, int, int]]:
    found = set()
    before = None
    for s in GOOD.samples:  # in order of time
        same = before is not None and (before.replicate, before.block, before.configuration) == (
            s.replicate, s.block, s.configuration,
        )  # fmt: skip
        if same and before.arm == "candidate":
            found.add((s.replicate, *_slot(s)))
        before = s
    return found


_BURDENED = _burdened()


def first_in_block(s: Any) -> bool:
    """The candidate's launches where its block begins with it rather than with the incumbent."""
    return s.replicate > 0 and s.arm == "candidate" and _first(s)


def _first(s: Any) -> bool:
    return (
        _POSITIONS[s.replicate, s.block, s.configuration, "candidate"]
        < (_POSITIONS[s.replicate, s.block, s.configuration, "incumbent"])
    )


_POSITIONS = {
    (s.replicate, s.block, s.configuration, s.arm): s.position for s in GOOD.samples if s.turn == 0
}


def test_a_calibration_of_another_version_decides_and_is_blamed_for_odd_effects() -> None:
    """Bands made of other code may not fit; what they let through is a verdict like any other."""
    made = synthetic.record()
    other = replace(made, calibration={**made.calibration, "version": "older"})
    assert decide(other, POLICY).kind is Kind.PROMOTE
    found = decide(slower(first_in_block, 1.006)(other), POLICY)
    assert (found.kind, found.reasons[0].rule) == (Kind.INVALID, "order effect")
    assert "another version of the kernel (older, not " in found.reasons[0].advice
    assert "first matters" in decide(slower(first_in_block, 1.006)(made), POLICY).reasons[0].advice


def test_the_record_that_everything_here_starts_from_promotes() -> None:
    verdict = decide(GOOD, POLICY)
    assert verdict.kind is Kind.PROMOTE
    assert verdict.gain == pytest.approx(0.01, abs=0.001)
    assert POLICY.min_gain < verdict.lower < verdict.gain < verdict.upper
    assert verdict.p_value < POLICY.alpha_confirm
    assert verdict.replicates == GOOD.plan["replicates"]


BROKEN: dict[str, tuple[Change, Kind, str]] = {
    # what was judged, and by whom
    "unknown mode": (record_of(mode="hope"), Kind.INVALID, "hope"),
    "failed check": (with_check(reason="row 7"), Kind.INCORRECT, "row 7"),
    "failed check in the last launch": (
        with_check(reason="row 7", replicate=LAST), Kind.INCORRECT, f"replicate {LAST}",
    ),
    "crashed": (with_check(status=Status.CRASHED), Kind.INCORRECT, "crashed"),
    "machine's failed check": (with_check(status=Status.INVALID), Kind.INVALID, "invalid"),
    "incumbent fails": (with_check(arm="incumbent"), Kind.INVALID, "incumbent"),
    "same artifact": (arm("candidate", artifact="i" * 64), Kind.NO_CHANGE, "iiii"),
    "only measured": (record_of(mode="measure"), Kind.INCONCLUSIVE, "decides nothing"),
    "only screened": (
        lambda r: synthetic.record(mode="screen"), Kind.INCONCLUSIVE, "promising",
    ),
    "calibration run": (record_of(mode="calibrate"), Kind.INVALID, "not the incumbent's artifact"),
    "no null twin": (lambda r: replace(r, arms=r.arms[:2]), Kind.INVALID, "null"),
    "a baseline too": (
        lambda r: replace(r, arms=(*r.arms, replace(r.arms[0], name="torch", role="baseline"))),
        Kind.INVALID, "torch",
    ),
    "other null twin": (arm("null", artifact="x" * 64), Kind.INVALID, "null twin"),
    "no artifact": (arm("candidate", artifact=""), Kind.INVALID, "no artifact"),
    "no policy": (record_of(policy={}), Kind.INVALID, "policy"),
    "other policy": (entry("policy", alpha_confirm=0.05), Kind.INVALID, "alpha_confirm was 0.05"),
    "a key more": (entry("policy", luck=1), Kind.INVALID, "luck"),
    "other harness": (record_of(harness="x" * 64), Kind.INVALID, "xxxx"),
    "other set": (record_of(set="gqa"), Kind.INVALID, "gqa"),
    "subset": (record_of(subset=True), Kind.INVALID, "subset"),
    "other regime": (record_of(regime="sustained"), Kind.INVALID, "sustained"),
    "missing configuration": (
        lambda r: replace(r, configurations=r.configurations[:1]), Kind.INVALID, "s2-causal",
    ),
    "extra configuration": (
        lambda r: replace(
            r, configurations=(*r.configurations, replace(r.configurations[0], name="easy"))
        ),
        Kind.INVALID, "easy",
    ),
    "configuration twice": (
        lambda r: replace(r, configurations=(*r.configurations, r.configurations[0])),
        Kind.INVALID, "twice",
    ),
    "no FLOPs": (
        lambda r: replace(
            r, configurations=tuple(replace(c, flops=float("inf")) for c in r.configurations)
        ),
        Kind.INVALID, "FLOPs",
    ),
    "isolation below level": (record_of(isolation="child"), Kind.INVALID, "'child'"),
    "isolation of one process": (environment(LAST, isolation="none"), Kind.INVALID, "'none'"),
    "unknown isolation": (record_of(isolation="best"), Kind.INVALID, "'best'"),
    "simulated": (environment(device="simulated"), Kind.INVALID, "simulated"),
    "simulated process": (environment(LAST, device="simulated"), Kind.INVALID, "simulated"),
    "two models": (environment(LAST, device="NVIDIA B200"), Kind.INVALID, "NVIDIA B200"),
    "two power limits": (environment(LAST, power_limit_w=350.0), Kind.INVALID, "350"),
    "no device": (environment(device=None), Kind.INVALID, "device"),
    # attempts, plan, calibration
    "no attempts": (record_of(attempts={}), Kind.INVALID, "attempts"),
    "attempts of another": (entry("attempts", artifact="x"), Kind.INVALID, "attempts"),
    "negative attempts": (entry("attempts", invalid=-1), Kind.INVALID, "attempts"),
    "too many reruns": (entry("attempts", invalid=3), Kind.INVALID, "3 confirms"),
    "no calibration": (record_of(calibration={}), Kind.INVALID, "block_sd"),
    "damaged calibration": (less("calibration", "values"), Kind.INVALID, "values"),
    "calibration with NaN": (
        entry("calibration", values=[float("nan")] * 16), Kind.INVALID, "not the log ratio",
    ),
    "calibration of copies": (
        entry("calibration", null_values=[0.001] * 16), Kind.INVALID, "copies",
    ),
    "old calibration": (record_of(created="2026-03-01T00:00:00+00:00"), Kind.INVALID, "59 days"),
    "calibrated afterwards": (
        record_of(created="2025-12-31T00:00:00+00:00"), Kind.INVALID, "after the run",
    ),
    "calibration of another driver": (environment(driver="999.1"), Kind.INVALID, "999.1"),
    "calibration of another power limit": (
        environment(power_limit_w=500.0), Kind.INVALID, "500.0",
    ),
    "skewed calibration": (
        entry("calibration", values=[*(0.0001 * n for n in range(15)), -0.1]),
        Kind.INVALID, "lower tail",
    ),
    "more planned": (entry("plan", replicates=12), Kind.INVALID, "12"),
    "smaller min_gain planned": (
        entry("plan", effective_min_gain=0.0005), Kind.INVALID, "0.0005",
    ),
    "no plan": (record_of(plan={}), Kind.INVALID, "None"),
    # replicates and samples
    "truncated journal": (without_last_block, Kind.INVALID, "7 of 8 blocks"),
    "missing process": (without_last_replicate, Kind.INVALID, "7 processes, 8"),
    "extra process": (last_twice, Kind.INVALID, "9 processes, 8"),
    "dead worker": (
        replicate(status=Status.CRASHED, reason="SIGKILL"), Kind.INVALID, "SIGKILL",
    ),
    "other number of blocks": (replicate(blocks=9), Kind.INVALID, "9 blocks"),
    "other stage": (replicate(stage=Stage.MEASURE), Kind.INVALID, "measure"),
    "numbers with a gap": (
        lambda r: replace(
            r, replicates=(*r.replicates[:-1], replace(r.replicates[-1], number=LAST + 5))
        ),
        Kind.INVALID, "not numbered",
    ),
    "two arms loaded": (replicate(loaded=("candidate", "null")), Kind.INVALID, "loaded"),
    "no time": (replicate(seconds=0.0), Kind.INVALID, "0.0 s"),
    "missing sample": (
        lambda r: replace(r, samples=r.samples[:-1]), Kind.INVALID, "was not launched",
    ),
    "sample twice": (
        lambda r: replace(r, samples=(*r.samples, r.samples[-1])), Kind.INVALID, "more than once",
    ),
    "block too many": (sample(block=8), Kind.INVALID, "block 8"),
    "block below 0": (sample(block=-1), Kind.INVALID, "block -1"),
    "unknown replicate": (sample(replicate=99), Kind.INVALID, "99"),
    "unknown arm": (sample(arm="torch"), Kind.INVALID, "torch"),
    "unknown configuration": (sample(configuration="easy"), Kind.INVALID, "easy"),
    "third turn": (sample(turn=2), Kind.INVALID, "turn 2"),
    "NaN": (sample(ms=float("nan")), Kind.INVALID, "nan"),
    "infinite time": (sample(ms=float("inf"), host_ms=float("inf")), Kind.INVALID, "inf"),
    "zero time": (sample(ms=0.0), Kind.INVALID, "0.0 ms"),
    "negative time": (sample(ms=-1.0), Kind.INVALID, "-1.0 ms"),
    "time as text": (sample(ms="fast"), Kind.INVALID, "str"),
    "faster on the host": (sample(host_ms=0.5), Kind.INVALID, "0.5 ms on the host"),
    "clock step": (sample(facts={"at_ms": -3.6e6}), Kind.INVALID, "backwards"),
    "no clock": (sample(facts={}), Kind.INVALID, "at_ms"),
    "unbalanced turns": (
        lambda r: synthetic.changed_samples(
            r, position=lambda s: 2 - s.position if s.turn else s.position
        ),
        Kind.INVALID, "its reverse",
    ),
    "copies of one process": (copies, Kind.INVALID, "copies"),
    "unchecked configuration": (
        without_checks(lambda c: (c.replicate, c.configuration) != (LAST, "s2-causal")),
        Kind.INVALID, f"replicate {LAST}: no check",
    ),
    "no correctness set": (
        without_checks(lambda c: c.replicate is not None), Kind.INVALID, "correctness set",
    ),
    "no readings": (lambda r: replace(r, blocks=r.blocks[:-1]), Kind.INVALID, "no readings"),
    "readings of nothing": (
        lambda r: replace(r, blocks=(*r.blocks, {**r.blocks[-1], "block": 8})),
        Kind.INVALID, "not launched",
    ),
    "readings without place": (
        lambda r: replace(r, blocks=(*r.blocks[:-1], {"before": {}})), Kind.INVALID, "belong",
    ),
    # the machine
    "disturbed": (
        lambda r: synthetic.changed_samples(
            r, disturbed=lambda s: "slow cores" if s.block == 0 and s.replicate else ""
        ),
        Kind.INVALID, "slow cores",
    ),
    "throttled": (
        readings("after", throttle_reasons=["power cap", "hardware thermal"]),
        Kind.INVALID, "hardware thermal",
    ),
    "foreign process": (readings("before", foreign_processes=[4711]), Kind.INVALID, "4711"),
    "NVML is silent": (readings("after", throttle=None), Kind.INVALID, "readings"),
    # effects
    "null twin": (
        slower(lambda s: s.replicate and s.arm == "null", 1.003), Kind.INVALID, "itself",
    ),
    "order effect": (slower(first_in_block, 1.006), Kind.INVALID, "first matters"),
    "carry-over": (slower(after_the_candidate, 1.004), Kind.INVALID, "ran before"),
    # the screen and the confirm
    "no screen": (
        lambda r: replace(
            r,
            replicates=tuple(replace(x, number=x.number - 1) for x in r.replicates[1:]),
            samples=tuple(
                replace(s, replicate=s.replicate - 1) for s in r.samples if s.replicate
            ),
            checks=tuple(
                c if c.replicate is None else replace(c, replicate=c.replicate - 1)
                for c in r.checks
                if c.replicate != 0
            ),
            blocks=tuple(
                {**b, "replicate": b["replicate"] - 1} for b in r.blocks if b["replicate"]
            ),
        ),
        Kind.INVALID, "0 screen processes",
    ),
    "screen broken off": (
        lambda r: replace(
            r,
            samples=tuple(s for s in r.samples if s.replicate or s.block < 4),
            blocks=tuple(b for b in r.blocks if b["replicate"] or b["block"] < 4),
        ),
        Kind.INVALID, "4 of 40 blocks",
    ),
    "futile screen": (
        slower(lambda s: s.replicate == 0 and s.arm == "candidate", 1.02),
        Kind.REJECT, "at most",
    ),
    "undecided screen": (
        slower(lambda s: s.replicate == 0 and s.arm == "candidate", math.exp(0.01)),
        Kind.INCONCLUSIVE, "too small",
    ),
    "slower in the confirm": (
        slower(lambda s: s.replicate and s.arm == "candidate", 1.012), Kind.REJECT, "at most",
    ),
    "not shown in the confirm": (
        slower(lambda s: s.replicate and s.arm == "candidate", 1.0083),
        Kind.INCONCLUSIVE, "not above",
    ),
    "one configuration lost": (
        slower(
            lambda s: s.replicate and (s.arm, s.configuration) == ("candidate", "s2-causal"), 1.03
        ),
        Kind.REJECT, "s2-causal",
    ),
    "less accurate": (errors(2.4e-3, 2.3e-3), Kind.REJECT, "1.043x the incumbent's"),
    "less accurate in one": (
        lambda r: errors(2.4e-3, 2.3e-3, "s2-causal")(errors(1e-3, 2.3e-3)(r)),
        Kind.REJECT, "s2-causal: the error is 1.043x",
    ),
    "careful in its first launch only": (
        lambda r: shares(0.6, 0.58)(errors(2.3e-3, 2.3e-3)(r)),
        Kind.REJECT, "s1-full: the error is 1.034x the incumbent's in timed launches",
    ),
    "careful in a few launches, which decide nothing about speed": (
        careful_at_times, Kind.REJECT, "the error is 1.200x the incumbent's in timed launches",
    ),
    "careless in a few launches, which are not in the median": (
        careless_at_times, Kind.REJECT, "the error is 1.134x the incumbent's in timed launches",
    ),
    "no error of the incumbent's timed launches": (
        shares(0.5, None), Kind.INVALID, "error is not there",
    ),
    "an error of 0": (shares(0.0, 0.5), Kind.INVALID, "0.0 is no error"),
    "an error that is no number": (shares(math.nan, 0.5), Kind.INVALID, "nan is no error"),
    "no error of the incumbent": (errors(2.3e-3, None), Kind.INVALID, "error is not there"),
    "no error of the candidate": (errors(None, 2.3e-3), Kind.INVALID, "error is not there"),
    "one configuration unresolved": (
        lambda r: synthetic.record(0.03, gains={"s2-causal": -0.0398}),
        Kind.INCONCLUSIVE, "s2-causal",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_whatever_is_broken_is_named_and_never_promoted(case: str) -> None:
    change, kind, said = BROKEN[case]
    broken = change(GOOD)
    assert broken != GOOD
    verdict = decide(broken, POLICY)
    assert verdict.kind is kind, verdict.reasons
    assert any(said in f"{r.text} {r.advice}" for r in verdict.reasons), verdict.reasons
    assert all(r.rule and r.text and r.advice for r in verdict.reasons)


def test_errors_within_the_limit_or_below_the_rounding_of_the_output_decide_nothing() -> None:
    within = (errors(2.34e-3, 2.3e-3), errors(1.6e-3, 1e-3), errors(0.0, 0.0), shares(0.59, 0.58))
    for change in within:
        assert decide(change(GOOD), POLICY).kind is Kind.PROMOTE
    generous = replace(POLICY, max_error_growth=0.05)
    record = entry("policy", max_error_growth=0.05)(errors(2.4e-3, 2.3e-3)(GOOD))
    assert decide(record, generous).kind is Kind.PROMOTE


def test_a_record_from_before_errors_were_compared_is_judged_by_the_default() -> None:
    older = {k: v for k, v in GOOD.policy.items() if k != "max_error_growth"}
    record = errors(2.4e-3, 2.3e-3)(replace(GOOD, policy=older))
    assert decide(replace(GOOD, policy=older), POLICY).kind is Kind.PROMOTE
    assert decide(record, POLICY).reasons[0].rule == "accuracy"


EFFECTS: dict[str, Change] = {
    "null twin": slower(lambda s: s.replicate and s.arm == "null", 1.003),
    "order effect": slower(first_in_block, 1.006),
    "carry-over": slower(after_the_candidate, 1.004),
}


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize(("gain", "kind"), [(0.03, Kind.INVALID), (0.3, Kind.PROMOTE)])
def test_an_effect_speaks_against_a_gain_of_its_own_size(
    effect: str, gain: float, kind: Kind
) -> None:
    """Of 0.3 to 0.6 % here, with what the noise leaves open."""
    verdict = decide(EFFECTS[effect](synthetic.record(gain)), POLICY)
    assert verdict.kind is kind, verdict.reasons
    assert kind is Kind.PROMOTE or verdict.reasons[0].rule == effect


def test_a_policy_that_names_no_harness_promotes_nothing() -> None:
    policy = replace(POLICY, harness="")
    found = decide(replace(GOOD, policy={**GOOD.policy, "harness": ""}, harness=""), policy)
    assert found.kind is Kind.INVALID
    assert found.reasons[0].rule == "harness"


def test_what_a_power_cap_and_a_few_disturbances_do_is_the_same_for_all() -> None:
    reasons = ["power cap", "applications clocks"]
    capped = readings("after", blocks=30, throttle_reasons=reasons)(GOOD)
    noisy = sample(disturbed="slow cores")(capped)
    assert decide(noisy, POLICY).kind is Kind.PROMOTE


def repeated(isolation: str, **turns: int) -> tuple[Record, Any]:
    """A good record at this isolation in which each arm's launch was disturbed in so many turns,
    no two arms in the same, and the rules that it fits."""
    policy = replace(POLICY, isolation=isolation)
    base = synthetic.record(policy=policy, isolation=isolation)
    base = environment(isolation=isolation)(base)
    places = sorted({(s.replicate, s.block, s.configuration, s.turn) for s in base.samples})
    of = {arm: {places.pop() for _ in range(count)} for arm, count in turns.items()}

    def facts(s: Any) -> dict[str, float]:
        own = (s.replicate, s.block, s.configuration, s.turn) in of.get(s.arm, ())
        return {**s.facts, "disturbed_tries": float(own)}

    return synthetic.changed_samples(base, facts=facts), policy


@pytest.mark.parametrize(
    ("isolation", "turns", "kind"),
    [
        ("child", {"candidate": 19}, Kind.PROMOTE),
        ("child", {"candidate": 20}, Kind.INVALID),
        ("child", {"candidate": 45, "incumbent": 40, "null": 30}, Kind.PROMOTE),
        ("child", {"candidate": 90, "incumbent": 30}, Kind.INVALID),
        ("child", {"incumbent": 60}, Kind.PROMOTE),
        ("device-only", {"candidate": 60}, Kind.PROMOTE),
    ],
)
def test_nobody_chooses_which_of_his_launches_count(
    isolation: str, turns: dict[str, int], kind: Kind
) -> None:
    found = decide(*repeated(isolation, **turns))
    assert found.kind is kind, found.reasons
    if kind is Kind.INVALID:
        assert (
            f"{turns['candidate']} turns were disturbed in the candidate" in found.reasons[0].text
        )


def test_who_is_no_faster_is_told_that_instead() -> None:
    changed, policy = repeated("child", candidate=60)
    slow = synthetic.changed_samples(changed, ms=lambda s: s.ms * (1 + (s.arm == "candidate") / 50))
    assert decide(slow, policy).kind is Kind.REJECT


def test_a_stopped_screen_may_have_a_torn_end() -> None:
    decided = 12  # blocks, more than enough
    torn = replace(
        GOOD,
        samples=tuple(
            s
            for s in GOOD.samples
            if s.replicate or s.block < decided or (s.block == decided and s.turn == 0)
        ),
        blocks=tuple(b for b in GOOD.blocks if b["replicate"] or b["block"] < decided),
    )
    assert decide(torn, POLICY).kind is Kind.PROMOTE


def test_a_screen_in_two_processes_counts_as_one() -> None:
    record = synthetic.record(screen_replicates=2)
    assert sum(r.stage is Stage.SCREEN for r in record.replicates) == 2
    assert decide(record, POLICY).kind is Kind.PROMOTE


def test_a_screen_needs_no_calibration_and_a_confirm_does() -> None:
    plan = {**GOOD.plan, "effective_min_gain": POLICY.min_gain, "block_sd": 0.002}
    confirm = decide(replace(GOOD, calibration={}, plan=plan), POLICY)
    assert (confirm.kind, confirm.reasons[0].rule) == (Kind.INVALID, "calibration")
    loss = synthetic.record(-0.02, mode="screen", calibration={}, plan=plan)
    assert decide(loss, POLICY).kind is Kind.REJECT


def test_without_a_screen_the_confirm_decides_alone() -> None:
    policy = replace(POLICY, screen_blocks=0)
    assert decide(synthetic.record(policy=policy), policy).kind is Kind.PROMOTE
    assert decide(synthetic.record(0.0, policy=policy), policy).kind is not Kind.PROMOTE


def test_only_its_own_policy_promotes_a_simulated_device() -> None:
    policy = replace(POLICY, isolation="simulated", screen_blocks=0)
    simulated = environment(device="simulated")
    conditions = {
        **synthetic.record(policy=policy).calibration["conditions"],
        "device": "simulated",
    }
    record = entry("calibration", conditions=conditions)(simulated(synthetic.record(policy=policy)))
    assert decide(record, policy).kind is Kind.PROMOTE
    assert decide(synthetic.record(policy=policy), policy).kind is Kind.INVALID


def test_a_biased_session_asks_for_more() -> None:
    biased = replace(synthetic.calibration(), values=tuple(
        0.001 + v for v in synthetic.calibration().values
    ))  # fmt: skip
    plan = sample_size.plan(POLICY, biased)
    assert plan["effective_min_gain"] == pytest.approx(3 * abs(biased.bias))
    record = replace(synthetic.record(0.003), calibration=calibrations.to_dict(biased), plan=plan)
    found = decide(record, POLICY)
    assert found.kind is not Kind.PROMOTE
    assert decide(synthetic.record(0.003), POLICY).kind is Kind.PROMOTE


def test_a_calibration_run_says_whether_it_is_one() -> None:
    good = synthetic.record(0.0, mode="calibrate")
    found = decide(good, POLICY)
    assert (found.kind, found.replicates) == (Kind.INCONCLUSIVE, 16)
    assert found.guards["process sd"] == pytest.approx(0.0006, abs=0.0003)
    throttled = readings("after", throttle_reasons=["power brake"])(good)
    assert decide(throttled, POLICY).kind is Kind.INVALID
    assert decide(without_last_block(good), POLICY).kind is Kind.INVALID


def test_an_inconclusive_confirm_says_what_would_be_found() -> None:
    policy = replace(POLICY, screen_blocks=0)
    found = decide(synthetic.record(0.0022, policy=policy), policy)
    assert found.kind is Kind.INCONCLUSIVE
    assert "8 processes find +0.2" in found.reasons[0].advice
    assert "more would find" in found.reasons[0].advice


def test_the_verdict_never_looks_at_what_was_derived_before() -> None:
    forged = replace(GOOD, derived={"verdict": {"kind": "REJECT"}})
    assert decide(forged, POLICY) == decide(GOOD, POLICY)
    assert derive(forged, POLICY)["verdict"]["kind"] == "PROMOTE"
