# SPDX-License-Identifier: MIT
"""Shares of a confirm: merged they are what one machine would have decided, alone they are nothing,
and what does not belong together is not merged."""

from __future__ import annotations

import functools
import importlib.util
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avo_pytest import calibration as calibrations
from avo_pytest import sample_size
from avo_pytest.merging import NotShares, merge
from avo_pytest.promotion import Kind, decide
from avo_pytest.score import Check, Record, Stage, Status
from avo_pytest.shares import MOST, parse, places
from avo_pytest.verifying import against_itself


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TESTS = Path(__file__).resolve().parents[1]
synthetic = load(TESTS / "synthetic.py")
shared = load(TESTS / "shared_confirms.py")
POLICY = replace(synthetic.POLICY, screen_blocks=24, confirm_blocks=4, replicates=9)
CALIBRATED = replace(POLICY, replicates=None)


@functools.lru_cache(maxsize=16)
def whole(gain: float = 0.01, seed: int = 1, screens: int = 1) -> Record:
    return synthetic.record(gain, seed=seed, policy=POLICY, screen_replicates=screens)


@functools.lru_cache(maxsize=16)
def halves(gain: float = 0.01) -> tuple[Record, Record]:
    first, second = shared.split(whole(gain), 2)
    return first, second


def verdict(record: Record) -> dict[str, Any]:
    return dict(record.derived["verdict"])


def agrees(record: Record) -> None:
    """`avo verify` derives all of it again, also from the file."""
    assert list(against_itself(Record.from_json(record.to_json()))) == []


@settings(deadline=None, max_examples=10)
@given(
    st.floats(-0.01, 0.02), st.integers(0, 20), st.integers(1, 2), st.integers(2, MOST), st.data()
)
def test_merged_is_what_one_machine_would_have_decided(
    gain: float, seed: int, screens: int, count: int, data: st.DataObject
) -> None:
    one = shared.judged(whole(gain, seed, screens))
    shares = shared.named(shared.split(one, count))
    merged = merge(data.draw(st.permutations(shares)))
    assert verdict(merged) == verdict(one)
    key = lambda s: (s.replicate, s.block, s.configuration, s.turn, s.position)  # noqa: E731
    assert sorted(merged.samples, key=key) == sorted(one.samples, key=key)
    assert merged.replicates == tuple(sorted(one.replicates, key=lambda r: r.number))
    assert merged == merge(shares)
    agrees(merged)


def test_a_merged_confirm_promotes_and_names_its_shares() -> None:
    merged = merge(shared.named(halves()))
    assert verdict(merged)["kind"] == "PROMOTE"
    assert [(s.run, s.seed) for s in merged.shares] == [(r.run, r.seed) for r in halves()]
    assert [s.replicates for s in merged.shares] == [(1, 3, 5, 7, 9), (2, 4, 6, 8)]
    assert merged.run not in {r.run for r in halves()} and merged.created == halves()[0].created
    agrees(merged)


@pytest.mark.parametrize("number", [0, 1])
def test_a_share_alone_is_invalid_also_without_its_mark(number: int) -> None:
    share = halves()[number]
    assert decide(share, POLICY).kind is Kind.INVALID
    assert verdict(share)["reasons"][0]["rule"] == "share"
    bare = replace(share, plan={k: v for k, v in share.plan.items() if k != "share"})
    assert decide(bare, POLICY).kind is Kind.INVALID
    numbers = {r.number: n for n, r in enumerate(share.replicates)}
    gapless = replace(
        bare,
        replicates=tuple(replace(r, number=numbers[r.number]) for r in bare.replicates),
        samples=tuple(replace(s, replicate=numbers[s.replicate]) for s in bare.samples),
        blocks=tuple({**b, "replicate": numbers[b["replicate"]]} for b in bare.blocks),
        checks=tuple(
            c if c.replicate is None else replace(c, replicate=numbers[c.replicate])
            for c in bare.checks
        ),
    )
    found = decide(gapless, POLICY)
    assert (found.kind, found.reasons[0].rule) == (Kind.INVALID, "replicates"), found


def without_the_last(record: Record) -> Record:
    last = max(r.number for r in record.replicates)
    return replace(
        record,
        replicates=tuple(r for r in record.replicates if r.number != last),
        samples=tuple(s for s in record.samples if s.replicate != last),
        blocks=tuple(b for b in record.blocks if b["replicate"] != last),
        checks=tuple(c for c in record.checks if c.replicate != last),
    )


def renamed(record: Record, role: str, **changes: str) -> Record:
    arms = tuple(replace(a, **changes) if a.role == role else a for a in record.arms)
    return replace(record, arms=arms)


def elsewhere(record: Record, **changes: Any) -> Record:
    return replace(record, environment={**record.environment, **changes})


def planned(record: Record, **changes: Any) -> Record:
    return replace(record, plan={**record.plan, **changes})


STRANGERS: Mapping[str, tuple[Callable[[Record], Record], str]] = {
    "candidate": (lambda r: renamed(r, "candidate", identity="x"), "b.json: its arms is"),
    "artifact": (lambda r: renamed(r, "candidate", artifact="x"), "b.json: its arms is"),
    "incumbent": (lambda r: renamed(r, "incumbent", artifact="x"), "b.json: its arms is"),
    "kernel": (lambda r: replace(r, kernel="other"), "its kernel"),
    "target": (lambda r: replace(r, target="sm90"), "its target"),
    "set": (lambda r: replace(r, set="gqa"), "its set"),
    "subset": (lambda r: replace(r, subset=True), "its subset"),
    "regime": (lambda r: replace(r, regime="sustained"), "its regime"),
    "harness": (lambda r: replace(r, harness="0" * 64), "its harness"),
    "isolation": (lambda r: replace(r, isolation="none"), "its isolation"),
    "policy": (lambda r: replace(r, policy={**r.policy, "min_gain": 0.0}), "its policy"),
    "nonce": (lambda r: replace(r, nonce="another"), "its nonce"),
    "no nonce": (lambda r: replace(r, nonce=""), "no confirm with a nonce"),
    "mode": (lambda r: replace(r, mode="screen"), "no confirm with a nonce"),
    "device": (lambda r: elsewhere(r, device="NVIDIA B200"), "its device"),
    "driver": (lambda r: elsewhere(r, driver="1"), "its driver"),
    "power": (lambda r: elsewhere(r, power_limit_w=600.0), "its power_limit_w"),
    "threads": (lambda r: elsewhere(r, threads=1), "its threads"),
    "whole": (lambda r: whole(), "b.json: is no share"),
    "merged": (lambda r: merge(shared.named(halves())), "b.json: is merged already"),
    "share twice": (lambda r: halves()[0], "b.json: share 1/2, and so is a.json"),
    "run twice": (lambda r: replace(r, run=halves()[0].run), "b.json: is run .* and so is a.json"),
    "of three": (lambda r: planned(r, share="2/3"), "b.json: one of 3 shares, a.json is one of 2"),
    "of none": (lambda r: planned(r, share="2/1"), "b.json: '2/1' is no share"),
    "of words": (lambda r: planned(r, share=["2", "2"]), "b.json: .* is no share"),
    "all": (lambda r: planned(r, share="1/1"), "b.json: '1/1' is no share"),
    "no number": (lambda r: planned(r, replicates="9"), "b.json: '9' replicates were planned"),
    "no gain": (lambda r: planned(r, effective_min_gain=None), "b.json: no effective_min_gain"),
    "too many": (lambda r: planned(r, replicates=1 << 40), "replicates were planned"),
    "attempts": (lambda r: replace(r, attempts={**r.attempts, "artifact": "x"}), "its earlier"),
    "no date": (lambda r: replace(r, created="now"), "b.json: created"),
    "foreign process": (
        lambda r: replace(r, replicates=halves()[0].replicates), "b.json: replicate 1 is not",
    ),
    "a process twice": (
        lambda r: replace(r, replicates=(*r.replicates, r.replicates[-1])), "is there twice",
    ),
    "foreign samples": (
        lambda r: replace(r, samples=halves()[0].samples), "b.json: .* never was: 1",
    ),
    "foreign blocks": (
        lambda r: replace(r, blocks=({"block": 0, "before": {}},)), "b.json: .* never was",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_what_does_not_belong_together_is_not_merged(name: str) -> None:
    first, second = halves()
    change, said = STRANGERS[name]
    for pair in ((first, change(second)),):
        with pytest.raises(NotShares, match=said):
            merge(shared.named(pair))


def test_every_share_is_needed() -> None:
    three = shared.split(whole(), 3)
    for missing in range(3):
        some = [(r.run, r) for n, r in enumerate(three) if n != missing]
        with pytest.raises(NotShares, match=f"share {missing + 1}/3 is missing"):
            merge(some)
    with pytest.raises(NotShares, match="no share"):
        merge([])


def kind_of(*records: Record) -> tuple[str, str]:
    found = merge(shared.named(records))
    agrees(found)
    return verdict(found)["kind"], verdict(found)["reasons"][0]["rule"]


def test_a_share_that_lost_a_process_makes_it_invalid() -> None:
    first, second = halves()
    assert kind_of(first, without_the_last(second)) == ("INVALID", "replicates")
    assert kind_of(without_the_last(first), second) == ("INVALID", "replicates")


def test_a_share_that_planned_less_makes_it_invalid() -> None:
    """Fewer processes than its calibration asks for, whatever its own plan says."""
    first, second = halves()
    fewer = planned(without_the_last(second), replicates=7)
    assert kind_of(first, fewer) == ("INVALID", "plan")


def failing(record: Record, *, screen: bool, arm: str = "candidate") -> Record:
    stage = Stage.SCREEN if screen else Stage.CONFIRM
    number = next(r.number for r in record.replicates if r.stage is stage)
    wrong = Check(
        configuration="s1-full", arm=arm, status=Status.INCORRECT, reason="odd", replicate=number
    )
    return replace(record, checks=(*record.checks, wrong))


@pytest.mark.parametrize("screen", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_a_wrong_result_in_any_share_is_incorrect(number: int, screen: bool) -> None:
    records = list(halves())
    records[number] = failing(records[number], screen=screen)
    assert kind_of(*records) == ("INCORRECT", "correctness")
    records[number] = failing(halves()[number], screen=screen, arm="incumbent")
    assert kind_of(*records) == ("INVALID", "checks")


def only_screened(record: Record) -> Record:
    screens = {r.number for r in record.replicates if r.stage is Stage.SCREEN}
    return replace(
        record,
        replicates=tuple(r for r in record.replicates if r.number in screens),
        samples=tuple(s for s in record.samples if s.replicate in screens),
        blocks=tuple(b for b in record.blocks if b["replicate"] in screens),
        checks=tuple(c for c in record.checks if c.replicate is None or c.replicate in screens),
    )


def test_a_screen_that_gave_up_speaks_for_all() -> None:
    """Of whichever share; the others' confirm was for nothing."""
    good = halves()
    bad = [only_screened(r) for r in shared.split(whole(-0.01), 2)]
    assert kind_of(*bad) == ("REJECT", "screen")
    assert kind_of(good[0], bad[1]) == ("REJECT", "screen")
    assert kind_of(bad[0], good[1]) == ("REJECT", "screen")
    assert kind_of(bad[0], failing(good[1], screen=False)) == ("INCORRECT", "correctness")
    never = replace(only_screened(good[1]), checks=())
    assert kind_of(bad[0], never) == ("INVALID", "checks")
    assert kind_of(good[0], only_screened(good[1])) == ("INVALID", "replicates")


def test_a_share_without_a_calibration_promotes_nothing() -> None:
    first, second = halves()
    for bare in (replace(second, calibration={}), replace(only_screened(second), calibration={})):
        assert kind_of(first, bare)[0] == "INVALID"


@functools.lru_cache
def calibration(seed: int) -> calibrations.Calibration:
    found: calibrations.Calibration = synthetic.calibration(CALIBRATED, seed)
    return found


def calibrated(gain: float, changes: Mapping[int, Any]) -> list[Record]:
    """Shares of a confirm in which every machine has its own calibration."""
    base = synthetic.record(gain, seed=3, policy=replace(CALIBRATED, replicates=32))
    base = replace(base, policy={**base.policy, "replicates": None})
    made = []
    for number in (1, 2):
        found = replace(calibration(7), **changes.get(number, {}))
        plan = {**sample_size.plan(CALIBRATED, found), "block_sd": found.block_sd}
        part = shared.split(replace(base, plan={**base.plan, **plan}), 2)[number - 1]
        made.append(shared.judged(part, calibration=calibrations.to_dict(found)))
    return made


NOISY = {"values": tuple(3 * v for v in calibration(7).values)}
BIASED = {"values": tuple(v + 0.002 for v in calibration(7).values)}
ODD = {"null_values": tuple(v + 0.003 for v in calibration(7).null_values)}


def test_each_machine_plans_its_share_by_its_own_calibration() -> None:
    planned = [r.plan["replicates"] for r in calibrated(0.01, {2: NOISY})]
    assert planned[0] < planned[1]
    merged = merge(shared.named(calibrated(0.01, {2: NOISY})))
    assert verdict(merged)["kind"] == "PROMOTE", verdict(merged)
    wanted = [len(places(n, 2, total)) for n, total in enumerate(planned, 1)]
    assert [len(s.replicates) for s in merged.shares] == wanted
    assert merged.plan["replicates"] == sum(wanted) == verdict(merged)["replicates"]
    numbers = sorted(r.number for r in merged.replicates)
    assert numbers == list(range(len(numbers)))
    agrees(merged)


def test_the_largest_min_gain_of_all_machines_counts() -> None:
    gain = 0.004
    assert verdict(merge(shared.named(calibrated(gain, {}))))["kind"] == "PROMOTE"
    for number in (1, 2):
        merged = merge(shared.named(calibrated(gain, {number: BIASED})))
        assert merged.plan["effective_min_gain"] > gain
        assert verdict(merged)["kind"] == "REJECT"


def test_what_is_usual_must_be_usual_on_every_machine() -> None:
    for number in (1, 2):
        found = verdict(merge(shared.named(calibrated(0.01, {number: ODD}))))
        assert (found["kind"], found["reasons"][0]["rule"]) == ("INVALID", "spread"), found
    both = verdict(merge(shared.named(calibrated(0.01, {1: ODD, 2: ODD}))))
    assert (both["kind"], both["reasons"][0]["rule"]) == ("INVALID", "null twin")


def test_every_calibration_must_apply() -> None:
    late = {"created": "2026-01-03T00:00:00+00:00"}
    found = verdict(merge(shared.named(calibrated(0.01, {2: late}))))
    assert (found["kind"], found["reasons"][0]["rule"]) == ("INVALID", "calibration")
    assert found["reasons"][0]["text"].startswith("share 2: ")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {"shares": (s[0],)},
        lambda s: {"shares": (s[1], s[0])},
        lambda s: {"shares": (*s, replace(s[1], replicates=()))},
        lambda s: {"shares": (s[0], replace(s[1], run=s[0].run))},
        lambda s: {"shares": (s[0], replace(s[1], sha256=s[0].sha256))},
        lambda s: {"shares": (s[0], replace(s[1], calibration={}))},
        lambda s: {"shares": (replace(s[0], replicates=(1, 3, 5, 7, 2)), s[1])},
        lambda s: {"calibration": calibrations.to_dict(calibration(8))},
        lambda s: {"plan": {**merge(shared.named(halves())).plan, "share": "1/2"}},
    ],
)
def test_an_origin_that_does_not_fit_is_invalid(change: Callable[[Any], dict[str, Any]]) -> None:
    merged = merge(shared.named(halves()))
    assert decide(replace(merged, **change(merged.shares)), POLICY).kind is Kind.INVALID


def test_earlier_confirms_are_the_most_that_a_machine_knows_of() -> None:
    first, second = halves()
    more = replace(second, attempts={**second.attempts, "confirms": 4, "invalid": 3})
    merged = merge(shared.named((first, more)))
    assert (merged.attempts["confirms"], merged.attempts["all_confirms"]) == (4, 3)
    assert kind_of(first, more) == ("INVALID", "attempts")


def test_an_error_budget_needs_one_history() -> None:
    """Machines that know of other confirms would have other levels."""
    policy = replace(POLICY, error_budget="lord", replicates=12)
    known = {"all_confirms": 1, "past": [[1e-6, True]]}
    base = synthetic.record(policy=policy, attempts=known)
    first, second = shared.split(base, 2)
    merged = merge(shared.named((first, second)))
    assert verdict(merged)["kind"] == "PROMOTE" and merged.plan["alpha"] < POLICY.alpha_confirm
    agrees(merged)
    fresh = replace(second, attempts={**second.attempts, "all_confirms": 0, "past": []})
    with pytest.raises(NotShares, match=r"b.json: its earlier attempts \(past\)"):
        merge(shared.named((first, fresh)))


def test_a_record_without_shares_is_written_as_it_always_was() -> None:
    raw = json.loads(whole().to_json())
    assert "shares" not in raw
    assert Record.from_json(whole().to_json()).to_json() == whole().to_json()
    merged = merge(shared.named(halves()))
    assert Record.from_json(merged.to_json()).shares == merged.shares


@pytest.mark.parametrize(
    "text", ["", "1", "0/2", "3/2", "1/9", "1/10", "01/2", "1/2/3", "-1/2", "½"]
)
def test_a_share_is_k_of_n(text: str) -> None:
    with pytest.raises(ValueError, match="K/N"):
        parse(text)


def test_the_places_of_all_shares_are_all_places_once() -> None:
    for total in range(40):
        for count in range(1, MOST + 1):
            found = [p for k in range(1, count + 1) for p in places(k, count, total)]
            assert sorted(found) == list(range(total))


ODD_VALUES = (None, True, -1, 0, 1e308, -1e-9, "", "x" * 500, [], {}, [[]], {"a": None})


def bent(record: Record, generator: random.Random) -> Record:
    """One place of its JSON is another value; ValueError where that is no record any more."""
    raw = json.loads(record.to_json())
    inside, key = raw, generator.choice(sorted(raw))
    while isinstance(inside[key], dict | list) and inside[key] and generator.random() < 0.97:
        inside = inside[key]
        key = generator.choice(sorted(inside) if isinstance(inside, dict) else range(len(inside)))
    inside[key] = generator.choice(ODD_VALUES)
    return Record.from_json(json.dumps(raw))


def no_bent_share_is_believed(examples: int, seed: int) -> int:
    """Whatever stands anywhere: refused, or merged to a verdict; PROMOTE only as before."""
    honest = verdict(merge(shared.named(halves())))
    generator, merged = random.Random(seed), 0
    for _ in range(examples):
        records = [Record.from_json(r.to_json()) for r in halves()]
        at = generator.randrange(2)
        try:
            records[at] = bent(records[at], generator)
            found = merge(shared.named(records))
        except ValueError:  # NotShares is one
            continue
        merged += 1
        said = decide(found, POLICY)
        if said.kind is Kind.PROMOTE:
            assert said.gain == pytest.approx(honest["gain"], abs=1e-3)  # of one sample of 900
    return merged


def test_no_bent_share_is_believed() -> None:
    assert no_bent_share_is_believed(40, seed=1) > 5


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_no_bent_share_is_believed_ever(seed: int) -> None:
    assert no_bent_share_is_believed(300, seed=100 + seed) > 50
