# SPDX-License-Identifier: MIT
"""`avo verify` as a process: what agrees, what differs and by which rule, what cannot be read."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from avo_pytest import branches, cli, ledger
from avo_pytest.entered import entered
from avo_pytest.entries import REFUSAL, Entry
from avo_pytest.harness import harness_hash
from avo_pytest.loading import load_problem
from avo_pytest.merging import merge
from avo_pytest.policy import DEFAULTS
from avo_pytest.promotion import derive
from avo_pytest.recording import Circumstances, entry_of
from avo_pytest.score import ArmRecord, Check, ConfigurationRecord, Record, Sample, Status

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "avo_pytest" / "schemas" / "record.schema.json"


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


synthetic = load(ROOT / "tests" / "synthetic.py")
PLAIN = synthetic.record()
RECORD: Record = replace(PLAIN, derived=derive(PLAIN, synthetic.POLICY))
shared = load(ROOT / "tests" / "shared_confirms.py")
SHARES = shared.split(RECORD, 2)
MERGED: Record = merge(shared.named(SHARES))


def verify(*arguments: object) -> tuple[int, str, str]:
    """As the command line does it, in this process: whatever is raised fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(["verify", *map(str, arguments)])
    return status, out.getvalue(), err.getvalue()


def process(*arguments: object) -> tuple[int, str, str]:
    line = [sys.executable, "-m", "avo_pytest", "verify", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def written(folder: Path, record: Record, name: str = "record.json") -> Path:
    path = folder / name
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(record.to_json().encode()))
    else:
        path.write_text(record.to_json())
    return path


def test_a_record_agrees_with_itself_also_compressed(tmp_path: Path) -> None:
    paths = [written(tmp_path, RECORD), written(tmp_path, RECORD, "record.json.gz")]
    status, out, err = process(*paths)
    assert (status, err) == (0, "")
    assert out.count("agrees: PROMOTE follows from 1248 samples") == 2
    assert "at level 0.005 in 8 fresh processes" in out


def test_shares_are_merged_and_strangers_named(tmp_path: Path) -> None:
    """`avo merge`: a file with the whole, or none and a sentence."""
    names = [
        str(written(tmp_path, record, f"{n}.json.gz")) for n, record in enumerate((*SHARES, RECORD))
    ]
    whole, none = tmp_path / "whole.json", tmp_path / "none.json"
    assert cli.main(["merge", names[1], names[0], "-o", str(whole)]) == 0
    assert whole.read_text() == MERGED.to_json() + "\n"
    assert verify(whole)[:2] == (0, verify(whole)[1]) and "agrees: PROMOTE" in verify(whole)[1]
    assert verify(names[0])[0] == 0 and "share 1/2 of a confirm" in verify(names[0])[1]
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        assert cli.main(["merge", names[0], "-o", str(none)]) == 1
        assert cli.main(["merge", names[0], names[2], "-o", str(none)]) == 1
        assert cli.main(["merge", names[0], str(none), "-o", str(none)]) == 4
    said = err.getvalue().splitlines()
    assert "share 2/2 is missing" in said[0] and f"{names[2]}: is no share" in said[1]
    assert str(none) in said[2] and not none.exists()


def forged(record: Record, key: str, value: Any) -> Record:
    verdict = {**record.derived["verdict"], key: value}
    return replace(record, derived={"verdict": verdict})


def test_a_changed_figure_is_named(tmp_path: Path) -> None:
    status, out, _ = verify(written(tmp_path, forged(RECORD, "gain", 0.05)))
    assert status == 1
    assert "verdict.gain: the record says 0.05, its samples give 0.0098" in out


def test_a_changed_sample_is_named_with_the_rule_that_it_breaks(tmp_path: Path) -> None:
    samples = (*RECORD.samples[:-1], replace(RECORD.samples[-1], ms=0.0))
    status, out, _ = verify(written(tmp_path, replace(RECORD, samples=samples)))
    assert status == 1
    assert 'verdict.kind: the record says "PROMOTE", its samples give "INVALID"' in out
    assert "0.0 ms" in out


def test_only_a_measurement_may_be_without_a_verdict(tmp_path: Path) -> None:
    status, out, _ = verify(written(tmp_path, PLAIN))
    assert (status, "the record has none, its samples give PROMOTE" in out) == (1, True)
    status, out, _ = verify(written(tmp_path, measured()))
    assert (status, "agrees: INCONCLUSIVE follows from 1 samples" in out) == (0, True)


def test_a_policy_that_cannot_have_been_in_force_is_named(tmp_path: Path) -> None:
    lax = replace(RECORD, policy={**RECORD.policy, "alpha_confirm": 0.9})
    status, out, _ = verify(written(tmp_path, lax))
    assert (status, "alpha_confirm: 0.9 is not" in out) == (1, True)


def test_escape_sequences_of_a_record_do_not_reach_the_terminal(tmp_path: Path) -> None:
    check = Check(
        configuration="a", arm="candidate", status=Status.INCORRECT, reason="\x1b[2J\n::error::x"
    )
    wrong = replace(PLAIN, checks=(check,))
    status, out, _ = verify(
        written(tmp_path, replace(wrong, derived=derive(wrong, synthetic.POLICY)))
    )
    assert status == 0
    assert "\x1b" not in out
    assert "\n::" not in out


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "Expecting value"),
    "not JSON": (b'{"a": "\xff"}', "decode"),
    "a list": (b"[]", "a record is a JSON object"),
    "another schema": (b'{"schema": 99}', "schema 99"),
    "deep": (b"[" * 200_000, "nested too deeply"),
    "deep, yet it parses": (
        json.dumps({**json.loads(PLAIN.to_json()), "build": {"x": "@"}})
        .replace('"@"', "[" * 600 + "]" * 600).encode(), "nested too deeply",
    ),
    "NaN": (RECORD.to_json().replace('"seed":1', '"seed":NaN', 1).encode(), "NaN is not JSON"),
    "huge number": (
        RECORD.to_json().replace('"seed":1', '"seed":' + "9" * 5000, 1).encode(), "5000 digits",
    ),
    "infinity": (
        RECORD.to_json().replace('"turn":0', '"turn":1e999', 1).encode(), "beyond any number",
    ),
    "a key twice": (
        RECORD.to_json().replace('"seed":1', '"seed":1,"seed":2', 1).encode(), "twice",
    ),
    "text as time": (
        RECORD.to_json().replace('"turn":0', '"turn":"0"', 1).encode(), "turn is '0', not int",
    ),
    "a key less": (RECORD.to_json().replace('"seed":1,', "", 1).encode(), "seed"),
    "samples missing": (
        json.dumps({**json.loads(PLAIN.to_json()), "samples": None}).encode(), "samples",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_cannot_be_read_is_a_sentence(tmp_path: Path, case: str) -> None:
    content, said = HOSTILE[case]
    path = tmp_path / "record.json"
    path.write_bytes(content)
    status, out, err = verify(path)
    assert (status, out) == (4, "")
    assert err.startswith(f"avo verify: {path}: ")
    assert said in err
    assert len(err) < 1000


def test_a_cut_archive_and_no_file_are_sentences(tmp_path: Path) -> None:
    path = tmp_path / "record.json.gz"
    path.write_bytes(gzip.compress(RECORD.to_json().encode())[:500])
    assert "not a whole gzip file" in verify(path)[2]
    path.write_bytes(b"no gzip at all")
    status, _, err = verify(path, tmp_path / "none.json", tmp_path)
    assert status == 4
    assert "No such file" in err
    assert "Is a directory" in err


def tree(folder: Path) -> Path:
    """A repository with one problem, of two configurations."""
    bench = folder / "bench" / "attention"
    bench.mkdir(parents=True)
    source = (ROOT / "tests" / "unit" / "small_problems.py").read_text()
    (bench / "problem.py").write_text(
        f"{source}\nfrom dataclasses import replace\n"
        "_SET = {'mha': (scale(4, 8), scale(8, 8))}\n"
        "PROBLEM = replace(SCALE, name='attention', throughput={'cuda': _SET, 'cpu': _SET})\n"
    )
    return folder


def of_the_tree(root: Path) -> Record:
    """A record that this tree's judge could have made."""
    problem = load_problem("attention", root=root)
    points = problem.throughput["cuda"]["mha"]
    policy = replace(
        DEFAULTS["cuda"],
        set="mha",
        harness=harness_hash(root, "bench/attention/problem.py:PROBLEM"),
        configurations=tuple(c.name for c in points),
    )
    made = synthetic.record(
        policy=policy,
        configurations=tuple(
            ConfigurationRecord(name=c.name, group="", flops=problem.flops(c)) for c in points
        ),
    )
    checks = [
        Check(configuration=c.name, arm="candidate", status=Status.OK)
        for c in problem.correctness("cuda")
    ]
    made = replace(made, checks=(*made.checks, *checks))
    return replace(made, derived=derive(made, policy))


def test_a_tree_may_agree_or_name_what_differs(tmp_path: Path) -> None:
    root = tree(tmp_path / "repository")
    record = of_the_tree(root)
    status, out, _ = verify(written(tmp_path, record), "--root", root)
    assert (status, "agrees: PROMOTE" in out) == (0, True), out
    (root / "pyproject.toml").write_text("[tool.avo.policy]\nalpha_confirm = 0.001\n")
    status, out, _ = verify(written(tmp_path, record), "--root", root)
    assert status == 1
    assert "says PROMOTE, by this tree it is INVALID: policy: alpha_confirm was 0.005" in out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"harness": "x" * 64}, "harness: measured by xxxx"),
        ({"set": "gqa"}, "set 'gqa': this tree's problem has mha"),
        ({"configurations": ()}, "is missing in the record"),
        ({"checks": ()}, "correctness checks are missing"),
        ({"kernel": "softmax"}, "cannot be compared with"),
    ],
)
def test_what_a_tree_does_not_know_is_named(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    root = tree(tmp_path / "repository")
    status, out, _ = verify(
        written(tmp_path, replace(of_the_tree(root), **changes)), "--root", root
    )
    assert (status, said in out) == (1, True), out


def test_implausible_flops_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "repository")
    record = of_the_tree(root)
    more = tuple(replace(c, flops=2 * c.flops) for c in record.configurations)
    out = verify(written(tmp_path, replace(record, configurations=more)), "--root", root)[1]
    assert "FLOPs, this tree's problem has" in out


def test_what_a_judge_writes_agrees_and_has_the_published_form(tmp_path: Path) -> None:
    """A calibration on the simulated device: real processes, real journal."""
    repository = load(ROOT / "tests" / "simulated_repository.py")
    root = repository.write(tmp_path, "confirm_blocks = 3")
    line = (sys.executable, "-m", "avo_pytest", "calibrate", "--device=simulated", "--processes=8")
    done = subprocess.run(line, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = root.glob(".avo/runs/*/record.json")
    assert verify(path)[0] == 0
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    validator.validate(json.loads(path.read_text()))


def test_the_help_says_what_it_proves() -> None:
    status, out, _ = process("--help")
    assert status == 0
    assert "Neither can tell whether the samples were measured" in out


def measured() -> Record:
    """A measurement, without replicates, policy and verdict."""
    return Record(
        run="r", created="2026-01-01T00:00:00+00:00", mode="measure", kernel="k", target="cpu",
        set="cpu", regime="refreshed", subset=False, seed=1, isolation="none", harness="h",
        environment={"cpu": "x"},
        arms=(ArmRecord(name="candidate", role="candidate", dtype="bf16"),),
        configurations=(ConfigurationRecord(name="a", group="full", flops=1.0),),
        samples=(
            Sample(
                block=0, configuration="a", turn=0, position=0, arm="candidate", ms=1, host_ms=1
            ),
        ),
        blocks=({"block": 0},),
    )  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [RECORD, PLAIN, synthetic.record(0.0, mode="calibrate"), measured(), SHARES[0], MERGED],
    ids=["confirm", "underived", "calibrate", "measure", "share", "merged"],
)
def test_the_published_schema_holds(record: Record) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    validator.validate(json.loads(record.to_json()))


@pytest.mark.parametrize(
    "changes", [{"seed": "1"}, {"mode": "hope"}, {"samples": [{}]}, {"extra": 1}, {"schema": 2}]
)
def test_the_published_schema_refuses_what_is_refused(changes: dict[str, Any]) -> None:
    raw = {**json.loads(RECORD.to_json()), **changes}
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    assert list(validator.iter_errors(raw))


def test_the_published_schema_knows_every_field() -> None:
    """A field that is added to a record is added there too."""
    schema = json.loads(SCHEMA.read_text())
    assert set(schema["properties"]) == set(asdict(RECORD))
    assert set(schema["$defs"]["share"]["properties"]) == set(asdict(MERGED.shares[0]))
    assert set(schema["$defs"]["sample"]["properties"]) == set(asdict(RECORD.samples[0]))
    assert set(schema["$defs"]["replicate"]["properties"]) == set(asdict(RECORD.replicates[0]))
    assert set(schema["$defs"]["check"]["properties"]) == set(asdict(RECORD.checks[0]))
    assert set(schema["$defs"]["verdict"]["properties"]) == set(RECORD.derived["verdict"])


NAMED = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER")
         for what in ("NAME", "EMAIL")}  # fmt: skip
ENTERED = replace(RECORD, run="20260102-000000-abcdef")
LANDED = Circumstances(version=3, idea="longer tiles", author="ada", commit="c" * 40, stored="ref",
                       cost={"usd": 1.5})  # fmt: skip


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A repository with an empty ledger."""
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
    with branches.opened(tmp_path) as repository:
        ledger.create(branches.Remote(repository, branches.HERE), {}, ())
    return tmp_path


def enter(root: Path, *entries: Entry) -> None:
    with branches.opened(root) as repository:
        ledger.append(branches.Remote(repository, branches.HERE), entries)


def test_an_entry_that_says_the_same_agrees(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(book, entry_of(ENTERED, LANDED))
    monkeypatch.chdir(book)
    status, out, _ = verify(written(book, ENTERED), "--ledger", ".")
    assert status == 0
    assert "in the ledger: verdict PROMOTE, version 3, role local" in out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gain": (0.5, 0.4, 0.6)}, "gain: the ledger says [0.5, 0.4, 0.6], the record [0.0098"),
        ({"verdict": "REJECT"}, 'verdict: the ledger says "REJECT", the record "PROMOTE"'),
        ({"identities": {}}, "identities: the ledger says null"),
        ({"raw": {"sha256": "0" * 64, "bytes": 1, "stored": "ref"}}, "is 000000000000, this is"),
        ({"id": "20260102-000000-other1"}, "no entry of run 20260102-000000-abcdef"),
    ],
)
def test_an_entry_that_says_something_else_is_named(changes: dict[str, Any], words: str) -> None:
    found = entered(ENTERED, [replace(entry_of(ENTERED, LANDED), **changes)])
    assert any(words in finding for finding in found.findings), found.findings


def test_a_record_that_the_ledger_lacks_differs(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(book)
    status, out, _ = verify(written(book, ENTERED), "--ledger", ".")
    assert status == 1 and "no entry of run 20260102-000000-abcdef" in out


def test_a_refusal_in_the_ledger_is_told(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = entry_of(ENTERED, LANDED)
    reasons = ({"rule": "stale", "text": "main has moved"},)
    enter(book, replace(facts, id="20260102-000001-abcdef", kind=REFUSAL, reasons=reasons))
    monkeypatch.chdir(book)
    status, out, _ = verify(written(book, ENTERED), "--ledger", ".")
    assert status == 0 and "refused in the ledger" in out and "main has moved" in out


def test_a_ledger_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = verify(written(tmp_path, ENTERED), "--ledger")
    assert status == 4 and "ledger" in err
