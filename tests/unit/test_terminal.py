# SPDX-License-Identifier: MIT
"""The scoreboard: figures, narrow and piped output, failures, and the line that is a contract."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from agent.evaluation import of_record
from avo_pytest.report.outcome import Outcome, exit_code, last_line, outcome
from avo_pytest.report.terminal import scoreboard
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
from avo_pytest.summary import summarise

MS = {"candidate": 10.0, "incumbent": 10.2, "torch-fp32": 12.0, "torch-bf16": 16.0}
NAMES = ("b1-h4-s1024-d128-full", "b1-h4-s1024-d128-causal")


def samples(names=NAMES, blocks=5) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            block=block,
            configuration=name,
            turn=turn,
            position=position,
            arm=arm,
            ms=ms * (1 + 0.001 * block),
            host_ms=ms,
        )
        for block in range(blocks)
        for name in names
        for turn in range(2)
        for position, (arm, ms) in enumerate(MS.items())
    )


def a_record(**changes) -> Record:
    arms = (
        ArmRecord(name="candidate", role="candidate", dtype="bf16"),
        ArmRecord(name="torch-fp32", role="baseline", dtype="f32"),
        ArmRecord(name="torch-bf16", role="baseline", dtype="bf16"),
        ArmRecord(name="incumbent", role="incumbent", dtype="bf16"),
    )
    record = Record(
        run="20260102-030405-abcdef",
        created="2026-01-02T03:04:05+00:00",
        mode="measure",
        kernel="attention",
        target="cpu",
        set="cpu",
        regime="refreshed",
        subset=False,
        seed=42,
        isolation="child",
        harness="0" * 64,
        environment={"device": "A CPU", "threads": 2, "flags": ["avx2", "fma"], "torch": None},
        arms=arms,
        configurations=tuple(
            ConfigurationRecord(name=name, group=name.rsplit("-", 1)[1], flops=2e9)
            for name in NAMES
        ),
        checks=tuple(
            Check(configuration=f"c{i}", arm="candidate", status=Status.OK) for i in range(34)
        ),
        samples=samples(),
        absent={"cudnn": "torch sees no CUDA device"},
        notes=("no incumbent",),
    )
    return replace(record, **changes)


def incorrect() -> Record:
    bad = Check(
        configuration="s77",
        arm="candidate",
        status=Status.INCORRECT,
        reason="row 3: error 1.0 above 0.01",
    )
    record = a_record()
    return replace(record, checks=(*record.checks[:5], bad, *record.checks[6:]), samples=())


def text_of(record: Record, **options) -> str:
    return scoreboard(record, summarise(record), **options)


def line_of(record: Record) -> str:
    return last_line(record, summarise(record))


def test_last_line_of_a_score():
    record = a_record()
    plain = replace(record, arms=record.arms[:3])
    assert line_of(plain) == (
        "AVO score attention/cpu: 199.6 GFLOPS geomean · 1.60x torch-bf16 · 1.20x torch-fp32"
        " · correct 34/34 · run 20260102-030405-abcdef"
    )


def test_incumbent_comes_first_with_three_digits():
    assert "geomean · 1.020x incumbent · 1.60x torch-bf16" in line_of(a_record())


def test_a_null_twin_has_a_column_and_no_place_on_the_last_line():
    record = a_record()
    twin = replace(record.arms[3], name="twin", role="null")
    timed = tuple(replace(s, arm="twin") if s.arm == "incumbent" else s for s in record.samples)
    record = replace(record, arms=(*record.arms[:3], twin), samples=timed)
    assert "vs twin" in text_of(record)
    assert "twin" not in line_of(record)
    assert "twin." not in text_of(record)


def test_last_line_of_an_incorrect_kernel_is_zero_with_the_first_reason():
    assert line_of(incorrect()) == (
        "AVO score attention/cpu: 0 (incorrect: s77: row 3: error 1.0 above 0.01)"
        " · correct 33/34 · run 20260102-030405-abcdef"
    )


def test_last_line_of_a_subset_has_no_geomean():
    record = a_record(subset=True, samples=samples(NAMES[:1]))
    assert "none (subset: 1 of 2 configurations timed)" in line_of(record)
    assert "geomean" not in line_of(record)


def test_last_line_of_an_interrupted_run():
    record = a_record(samples=samples(NAMES[:1]))
    assert "none (incomplete: 1 of 2 configurations timed)" in line_of(record)


def test_a_run_that_was_ended_by_hand_has_no_geomean():
    record = a_record(notes=("interrupted",))
    assert "none (interrupted: 2 of 2 configurations timed)" in line_of(record)
    assert outcome(record, summarise(record)) is Outcome.UNMEASURED
    text = text_of(record)
    assert "INTERRUPTED" in text
    assert not re.search(r"^geomean", text, re.M)


def test_a_long_reason_is_cut():
    record = incorrect()
    bad = replace(record.checks[5], reason="x" * 5000)
    assert len(line_of(replace(record, checks=(bad,)))) < 300


@pytest.mark.parametrize("target", ["cpu", "sm80"])
def test_gigaflops_only_for_a_slow_cpu(target):
    unit = "GFLOPS" if target == "cpu" else "TFLOPS"
    assert unit in line_of(a_record(target=target))
    fast = tuple(replace(s, ms=s.ms / 1000) for s in samples())
    assert "TFLOPS" in line_of(a_record(target=target, samples=fast))


def test_scoreboard_has_a_row_a_configuration_and_geomeans():
    text = text_of(a_record())
    for name in NAMES:
        row = next(line for line in text.splitlines() if line.startswith(name))
        assert re.search(r"199\.\d ±\d\.\d%", row)
        assert "1.60x" in row and "1.20x" in row and "1.020x" in row
    assert re.search(r"^geomean full ", text, re.M)
    assert re.search(r"^geomean causal ", text, re.M)
    assert re.search(r"^geomean  ", text, re.M)


def test_header_names_machine_regime_isolation_and_seed():
    text = text_of(a_record())
    for fact in ("A CPU", "avx2, fma", "refreshed", "child", "42", "20260102-030405-abcdef"):
        assert fact in text
    assert "None" not in text


def test_absent_baselines_and_notes_are_shown():
    text = text_of(a_record())
    assert "not compared with cudnn: torch sees no CUDA device" in text
    assert "note: no incumbent" in text


def test_subset_banner_and_no_geomean():
    text = text_of(a_record(subset=True))
    assert "SUBSET" in text
    assert not re.search(r"^geomean", text, re.M)


def test_failures_are_listed_and_nothing_is_timed():
    text = text_of(incorrect())
    assert re.search(r"^incorrect +s77: row 3", text, re.M)
    assert "--avo-seed 42 -k '[s77]'" in text
    assert "GFLOPS" not in text


def test_a_build_error_shows_the_compilers_output_once_and_names_avo_build():
    log = "does not compile\nk.cpp:3: error: expected ';'\n   int x\n        ^"
    bad = tuple(
        Check(configuration=f"c{i}", arm="candidate", status=Status.BUILD_ERROR, reason=log)
        for i in range(5)
    )
    record = a_record(checks=bad, samples=())
    text = text_of(record)
    assert text.count("  k.cpp:3: error: expected ';'\n") == 1
    assert "(and 4 more)" in text
    assert "\n" not in line_of(record)
    assert "avo build --kernel attention --target cpu" in text


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_a_narrow_terminal_is_kept(width):
    for record in (a_record(), a_record(subset=True), incorrect()):
        lines = text_of(record, width=width).splitlines()
        too_long = [line for line in lines if len(line) > width and " " in line.strip()]
        assert not too_long


def test_narrow_and_wide_hold_the_same_figures():
    record = a_record()
    figures = [set(re.findall(r"\d+\.\d+x?", text_of(record, width=w))) for w in (60, None)]
    assert figures[0] == figures[1]


def test_colour_only_when_asked_for():
    assert "\x1b[" not in text_of(a_record())
    assert "\x1b[" in text_of(a_record(), color=True)


def test_too_few_blocks_give_no_interval():
    text = text_of(a_record(samples=samples(blocks=2)))
    assert "±" not in text
    assert "nan" not in text


def test_outcomes():
    assert outcome(a_record(), summarise(a_record())) is Outcome.MEASURED
    assert outcome(incorrect(), summarise(incorrect())) is Outcome.INCORRECT
    partial = a_record(samples=samples(NAMES[:1]))
    assert outcome(partial, summarise(partial)) is Outcome.UNMEASURED
    failed = Check(configuration="c", arm="incumbent", status=Status.CRASHED, reason="signal 11")
    other = a_record(checks=(*a_record().checks, failed))
    assert outcome(other, summarise(other)) is Outcome.UNMEASURED


def test_without_an_incumbent_the_advice_names_the_option():
    alone = a_record(notes=("no incumbent: measuring against baselines",))
    text = scoreboard(alone, summarise(alone))
    assert "--avo-incumbent names the incumbent" in text
    assert "version on main" not in text


def test_where_nothing_ran_no_isolation_is_claimed():
    record = replace(incorrect(), environment={}, samples=(), isolation="none")
    assert "isolation" not in scoreboard(record, summarise(record))


PROMOTED = {
    "kind": "PROMOTE",
    "reasons": [{"rule": "confirm", "text": "0.42 % faster", "advice": "land it"}],
    "gain": 0.0042,
    "lower": 0.0031,
    "upper": 0.0053,
    "p_value": 0.0004,
    "sign_flip_p": 0.0039,
    "replicates": 8,
    "guards": {"throttled": 0.25, "null twin": -0.0002},
}


def decided(**changes) -> Record:
    return a_record(
        mode="confirm",
        derived={"verdict": {**PROMOTED, **changes}},
        policy={"alpha_confirm": 0.005},
        plan={"replicates": 8, "blocks": 4, "screen_blocks": 24, "reason": "the policy says so"},
        attempts={
            "confirms": 2, "invalid": 1, "all_confirms": 9, "expected_false_promotions": 0.05,
        },
    )  # fmt: skip


def test_a_verdict_is_told_with_figures_guards_and_attempts():
    text = text_of(decided())
    assert re.search(r"^PROMOTE +0\.42 % faster$", text, re.M)
    assert "+0.42 %, from +0.31 % to +0.53 % (one-sided bounds at 99.5 %); p = 0.0004" in text
    assert "throttled 25.0% · null twin -0.02 %" in text
    assert "2 earlier confirms of this artifact (1 INVALID), 9 of this kernel and target" in text
    assert "0.05 false promotions" in text
    assert "- Land it." in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "verdict PROMOTE +0.42 % (>= +0.31 %) · correct"),
        (
            {"kind": "REJECT", "gain": -0.01, "upper": -0.005},
            "verdict REJECT -1.00 % (<= -0.50 %) ·",
        ),
        ({"kind": "NO-CHANGE", "gain": None}, "verdict NO-CHANGE · correct"),
    ],
)
def test_the_verdict_on_the_last_line(changes, words):
    assert words in line_of(decided(**changes))


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("PROMOTE", 0), ("REJECT", 10), ("INCONCLUSIVE", 11), ("INCORRECT", 12), ("INVALID", 13),
        ("NO-CHANGE", 14),
    ],
)  # fmt: skip
def test_each_verdict_has_its_exit_code(kind, code):
    record = decided(kind=kind)
    assert exit_code(record, summarise(record)) == code


def test_a_measurement_keeps_its_exit_codes():
    for record in (a_record(), incorrect(), a_record(samples=())):
        found = outcome(record, summarise(record))
        assert exit_code(record, summarise(record)) == found.value


def test_an_interrupted_confirm_shows_nothing_that_was_measured():
    record = replace(decided(), notes=("interrupted",))
    text = text_of(record)
    assert "finished replicates of a confirm are kept" in text
    assert not re.search(r"[\d.]+x|GFLOPS|0\.42", text)


def test_a_lost_replicate_is_no_score():
    lost = Replicate(number=0, stage=Stage.CONFIRM, device="cpu", blocks=4, status=Status.CRASHED)
    record = replace(decided(kind="INVALID"), replicates=(lost,))
    record = replace(record, samples=tuple(replace(s, replicate=0) for s in record.samples))
    assert outcome(record, summarise(record)) is Outcome.UNMEASURED


def test_the_replay_names_the_candidate_that_was_judged():
    text = text_of(incorrect(), candidate="../a folder")
    assert "Mend ../a folder, then replay" in text
    assert "--avo-candidate '../a folder' --avo-seed 42 -k '[s77]'" in text


C7511 = (
    "ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are "
    "serialized due to insufficient register resources for the wgmma pipeline in the function 'f'"
)


def code(causal: int, *warnings: str, spilled: int = 0) -> dict[str, object]:
    """One code object's report, as `build` makes it."""
    figures = {"registers": 168, "spill_store_bytes": spilled, "sass": {"total": 9, "HGMMA": 4}}
    macros = {"CAUSAL": causal, "STAGES": 2}
    return {"bytes": 1, "macros": macros, "warnings": list(warnings), "kernels": {"f": figures}}


def test_what_the_judging_machines_compiler_serialised_is_told() -> None:
    """Another compiler may have passed it: the figures alone would look like a bad idea."""
    codes = {"a" * 32: code(0), "b" * 32: code(1, C7511)}
    bad = a_record(target="sm90", build={"candidate": codes, "incumbent": {"c": code(0, C7511)}})
    (told,) = [line for line in text_of(bad).splitlines() if line.startswith("compiler:")]
    assert told.startswith("compiler: CAUSAL=1: ptxas info : (C7511) Potential Performance Loss")
    spilling = {"a" * 32: code(0, spilled=16)}
    assert f"compiler: {'a' * 12}: f spills 16 bytes of registers" in text_of(
        a_record(target="sm90", build={"candidate": spilling})
    )


def test_an_agent_is_told_what_its_compiler_serialised(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    codes = {"a" * 32: code(0), "b" * 32: code(1, C7511)}
    path.write_text(a_record(target="sm90", build={"candidate": codes}).to_json())
    assert "compiler: CAUSAL=1: ptxas info : (C7511)" in of_record("screen", path, 1.0).text


def test_a_compiler_that_had_nothing_to_say_takes_no_line() -> None:
    uncounted = {**code(0), "kernels": {"f": {"registers": 168}}}
    without_tensor_cores = {**code(0), "kernels": {"f": {"registers": 40, "sass": {"FADD": 9}}}}
    codes = (code(0), uncounted, without_tensor_cores)
    for build in ({}, *({"candidate": {"a": one}} for one in codes)):
        assert "compiler:" not in text_of(a_record(target="sm90", build=build))
    host = {"a": {"bytes": 1, "macros": {}, "warnings": ["x.cpp:1: warning: unused"]}}
    assert "compiler:" not in text_of(a_record(build={"candidate": host}))


def test_a_candidate_cannot_write_escape_sequences_through_its_compiler() -> None:
    evil = 'x.cu(1): warning: "\x1b[2J\x1b[H C7500 PROMOTE'
    shown = text_of(a_record(target="sm90", build={"candidate": {"a": code(0, evil)}}))
    assert "C7500" in shown and "\x1b" not in shown
