# SPDX-License-Identifier: MIT
"""The recorder against real repositories: what lands, what is refused, and that a refusal moves
nothing and is kept. The records are of a machine that never was; git is real."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from avo_pytest import branches, ledger
from avo_pytest.branches import GitError, Remote
from avo_pytest.entries import AUDIT, Entry
from avo_pytest.harness import harness_hash
from avo_pytest.landing import folder_hash, landing_commit, read_proposal
from avo_pytest.lineage import lineages
from avo_pytest.loading import _module
from avo_pytest.policy import digest, from_dict
from avo_pytest.promote import promote, record_refusal
from avo_pytest.promotion import decide, derive
from avo_pytest.report.ladder import as_markdown
from avo_pytest.reverting import revert
from avo_pytest.score import Record, Status
from avo_pytest.witnessing import loss

helper = _module(Path(__file__).parents[1] / "judged_repository.py")
git = helper.git
PLACE = {"kernel": "toy", "target": "sm80"}


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Any]:
    with helper.team(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One in which nothing ever lands."""
    with helper.team(tmp_path_factory.mktemp("quiet")) as made:
        made.promote(replace(made.seed(), nonce="n0"), None, nonce="n0")
        yield made


@pytest.fixture(scope="module")
def commit(quiet: Any) -> str:
    return str(quiet.proposed())


def landed_as(team: Any, nonce: str) -> Any:
    """A better version on main."""
    proposed = team.proposed()
    outcome = team.promote(team.record(proposed, nonce=nonce), proposed, nonce=nonce)
    assert outcome.kind == "promoted", (outcome.rule, outcome.text)
    return outcome


def test_a_better_one_lands_with_all_that_is_known_of_it(team: Any) -> None:
    before, proposed = team.main(), team.proposed(idea="wider tiles, fixes #1")
    record = team.record(proposed)
    outcome = team.promote(record, proposed, author="ada")
    entry = outcome.entry
    assert (outcome.kind, outcome.main) == ("promoted", team.main())
    assert git(team.bare, "rev-parse", "main^") == before
    assert git(team.bare, "diff", "--name-only", before, "main") == "kernels/toy/sm80/kernel.cu"
    assert [(e.id, e.version, e.commit) for e in team.entries()] == [(record.run, 0, team.main())]
    assert (entry.device, entry.role, entry.author) == (helper.JUDGE, "judge", "ada")
    assert entry.idea == "wider tiles, fixes no. 1"
    assert entry.epoch == record.harness[:12]
    assert entry.identities["nonce"] == helper.NONCE
    text = git(team.bare, "log", "-1", "--format=%B", "main")
    assert f"Avo-Run: {record.run}" in text and "Avo-Version: 0" in text
    assert f"Avo-Record: {entry.raw['sha256']}" in text
    with branches.opened(team.desk) as repository:
        assert ledger.read_raw(Remote(repository, "origin"), entry) == record.to_json()


def test_ladders_and_badges_are_those_of_the_entries(team: Any) -> None:
    landed_as(team, helper.NONCE)
    entries = team.entries()
    ladder = git(team.bare, "show", "avo-results:ladders/toy-sm80.md")
    assert ladder == as_markdown(lineages(entries), "toy-sm80").strip()
    badge = git(team.bare, "show", "avo-results:badges/toy-sm80/nvidia-h100/verdict.json")
    assert json.loads(badge)["message"] == "PROMOTE"


def test_the_same_record_again_is_known(team: Any) -> None:
    proposed = team.proposed()
    record = team.record(proposed)
    first = team.promote(record, proposed)
    tips = git(team.bare, "for-each-ref")
    again = team.promote(record, proposed)
    assert (again.kind, again.entry, again.main) == ("known", first.entry, first.main)
    assert git(team.bare, "for-each-ref") == tips


def test_versions_count_up_and_build_on_each_other(team: Any) -> None:
    team.promote(team.seed(), None)
    for number in (1, 2):
        assert landed_as(team, f"n{number}").entry.version == number
    (found,) = lineages(team.entries())
    assert [r.version for r in found.rungs] == [0, 1, 2]
    trees = [r.entry.identities["candidate"] for r in found.rungs]
    assert [r.entry.identities["incumbent"] for r in found.rungs[1:]] == trees[:-1]


def test_an_unrelated_change_of_main_voids_nothing(team: Any) -> None:
    proposed = team.proposed()
    record = team.record(proposed)
    git(team.desk, "checkout", "-q", "-f", "main")
    (team.desk / "README.md").write_text("better documented\n")
    git(team.desk, "commit", "-qam", "docs")
    git(team.desk, "push", "-q", "origin", "main")
    docs = team.main()
    assert team.promote(record, proposed).kind == "promoted"
    assert git(team.bare, "rev-parse", "main^") == docs
    assert git(team.bare, "show", "main:README.md") == "better documented"


def test_a_head_in_normal_form_lands_as_itself(team: Any) -> None:
    repository, tip = team.remote.repository, team.main()
    normal = landing_commit(repository, tip, read_proposal(repository, team.proposed(), tip), {})
    assert team.promote(team.record(normal), normal).main == normal == team.main()


def test_other_verdicts_are_recorded_and_move_nothing(team: Any) -> None:
    before, proposed = team.main(), team.proposed()
    worse = team.record(proposed, gain=-0.02, nonce="n1")
    wrong = team.record(proposed, nonce="n2")
    checks = (replace(wrong.checks[0], status=Status.INCORRECT, reason="NaN"), *wrong.checks[1:])
    wrong = rederived(replace(wrong, checks=checks))
    for record, kind in ((worse, "REJECT"), (wrong, "INCORRECT")):
        outcome = team.promote(record, proposed, nonce=record.nonce)
        assert (outcome.kind, outcome.entry.verdict) == ("recorded", kind)
        assert (outcome.entry.idea, outcome.entry.version) == ("wider tiles", None)
    assert team.main() == before
    assert sorted(e.verdict for e in team.entries()) == ["INCORRECT", "REJECT"]


def test_a_witness_device_is_recorded_and_promotes_nothing(tmp_path: Path) -> None:
    with helper.team(tmp_path, witness=True) as team:
        proposed = team.proposed()
        record = team.record(proposed, device=helper.WITNESS, gain=-0.02)
        outcome = team.promote(record, proposed)
        assert (outcome.kind, outcome.entry.role) == ("recorded", "witness")
        better = team.record(proposed, device=helper.WITNESS, nonce="n2")
        assert team.promote(better, proposed, nonce="n2").rule == "gate"


def rederived(record: Record) -> Record:
    rules = from_dict(dict(record.policy))
    return replace(record, derived=derive(record, rules))


def changed(**changes: Any) -> Callable[[Record], Record]:
    return lambda record: replace(record, **changes)


def other_derived(**changes: Any) -> Callable[[Record], Record]:
    def change(record: Record) -> Record:
        said = {**record.derived["verdict"], **changes}
        return replace(record, derived={"verdict": said})

    return change


def other_policy(**changes: Any) -> Callable[[Record], Record]:
    return lambda r: rederived(replace(r, policy={**r.policy, **changes}))


def with_harness(record: Record, harness: str) -> Record:
    policy = {**record.policy, "harness": harness}
    conditions = {**record.calibration["conditions"], "harness": harness}
    calibration = {**record.calibration, "conditions": conditions}
    return rederived(replace(record, harness=harness, policy=policy, calibration=calibration))


def other_harness(record: Record) -> Record:
    return with_harness(record, "f" * 64)


def other_arm(role: str) -> Callable[[Record], Record]:
    def change(record: Record) -> Record:
        arms = [replace(a, identity="e" * 64) if a.role == role else a for a in record.arms]
        return replace(record, arms=tuple(arms))

    return change


def faster_samples(record: Record) -> Record:
    """As somebody would who does not know that everything is derived again."""
    samples = [replace(s, ms=s.ms * 0.9) if s.arm == "candidate" else s for s in record.samples]
    return replace(record, samples=tuple(samples))


def other_flops(record: Record) -> Record:
    found = [replace(c, flops=c.flops * 2) for c in record.configurations]
    return rederived(replace(record, configurations=tuple(found)))


def other_kernel(record: Record) -> Record:
    conditions = {**record.calibration["conditions"], "kernel": "nothere"}
    calibration = {**record.calibration, "conditions": conditions}
    return rederived(replace(record, kernel="nothere", calibration=calibration))


def on_another_device(record: Record) -> Record:
    there = {"device": "NVIDIA A100"}
    conditions = {**record.calibration["conditions"], **there}
    return rederived(
        replace(
            record,
            environment={**record.environment, **there},
            replicates=tuple(
                replace(r, environment={**r.environment, **there}) for r in record.replicates
            ),
            calibration={**record.calibration, "conditions": conditions},
        )
    )


def at(moment: timedelta) -> Callable[[Record], Record]:
    def change(record: Record) -> Record:
        when = datetime.now(UTC).replace(microsecond=0) + moment
        run = f"{when:%Y%m%d-%H%M%S}-abcdef"
        calibration = {**record.calibration, "created": when.isoformat()}
        created = when.isoformat()
        return rederived(replace(record, run=run, created=created, calibration=calibration))

    return change


FORGED = {
    "gain": (other_derived(gain=0.05), "record", "verdict.gain"),
    "verdict": (other_derived(kind="REJECT"), "record", "verdict.kind"),
    "no verdict": (changed(derived={}), "record", "the record has none"),
    "samples": (faster_samples, "record", "its samples give"),
    "harness": (other_harness, "harness", "judged by harness ffffffffffff"),
    "policy": (other_policy(min_gain=0.0), "policy", "min_gain was 0.0"),
    "level": (other_policy(alpha_confirm=0.05), "policy", "alpha_confirm was 0.05"),
    "incumbent": (other_arm("incumbent"), "stale", "compared with eeeeeeeeeeee"),
    "candidate": (other_arm("candidate"), "candidate", "judged was eeeeeeeeeeee"),
    "flops": (other_flops, "problem", "FLOPs"),
    "kernel": (other_kernel, "kernel", "no problem for nothere"),
    "path": (changed(kernel="../../x"), "name", "is no name of a kernel"),
    "escape": (changed(target="\x1b[2Jx"), "name", "is no name of a target"),
    "run": (changed(run="20200101-000000-abcdef"), "record", "did not begin at"),
    "created": (changed(created="yesterday"), "record", "is no date"),
    "device": (on_another_device, "gate", "NVIDIA A100 is no judge of toy/sm80: local"),
    "nonce": (changed(nonce="another"), "nonce", "does not answer the question"),
    "no nonce": (changed(nonce=""), "nonce", "does not answer the question"),
    "old": (at(timedelta(hours=-7)), "expired", "7.0 h old"),
    "future": (at(timedelta(hours=1)), "expired", "-1.0 h old"),
    "calibration": (changed(mode="calibrate"), "mode", "'calibrate' is not recorded"),
    "simulated": (changed(target="simulated"), "record", ""),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_record_moves_nothing_and_is_kept_as_refused(
    quiet: Any, commit: str, case: str
) -> None:
    change, rule, said = FORGED[case]
    before, count = quiet.main(), len(quiet.entries())
    record = change(quiet.record(commit))
    outcome = quiet.promote(record, commit)
    assert (outcome.kind, outcome.rule) == ("refused", rule), outcome.text
    assert said in outcome.text and quiet.main() == before
    entries = quiet.entries()
    assert len(entries) == count + 1
    kept = next(e for e in entries if e.id == outcome.entry.id)
    assert (kept.kind, kept.reasons[0]["rule"], kept.version) == ("refusal", rule, None)
    assert kept.gain is None and kept.overall is None
    assert all(r.isprintable() for reason in kept.reasons for r in reason.values())


def test_the_same_refusal_is_kept_once(quiet: Any, commit: str) -> None:
    record = other_harness(quiet.record(commit))
    first, count = quiet.promote(record, commit), len(quiet.entries())
    again = quiet.promote(record, commit)
    assert (again.kind, again.rule, again.entry.id) == ("refused", "harness", first.entry.id)
    assert len(quiet.entries()) == count


def test_the_proposal_has_to_be_what_was_judged(quiet: Any, commit: str) -> None:
    other = quiet.proposed(idea="other")
    assert quiet.promote(quiet.record(commit), other).rule == "candidate"
    assert quiet.promote(quiet.record(commit), None).rule == "proposal"


def test_a_mixed_proposal_is_refused(quiet: Any) -> None:
    quiet.proposed()
    for path in ("bench/toy/problem.py", "pyproject.toml"):
        (quiet.desk / path).write_text("# mine\n")
        git(quiet.desk, "add", "-A")
        git(quiet.desk, "commit", "-q", "--amend", "-m", "mixed")
        mixed = git(quiet.desk, "rev-parse", "HEAD")
        git(quiet.desk, "checkout", "-q", "-f", "main")  # the judge's tree is main's
        assert quiet.promote(quiet.record(mixed), mixed).rule == "mixed"
        git(quiet.desk, "checkout", "-q", "-f", mixed)
    git(quiet.desk, "checkout", "-q", "-f", "main")


def test_a_new_target_is_a_seed_and_lands_by_review(quiet: Any) -> None:
    quiet.proposed()
    folder = quiet.desk / "kernels" / "toy" / "sm90"
    git(quiet.desk, "checkout", "-q", "-f", "main")
    folder.mkdir()
    (folder / "kernel.toml").write_text('target = "sm90"\n')
    git(quiet.desk, "checkout", "-q", "--detach")
    git(quiet.desk, "add", "-A")
    git(quiet.desk, "commit", "-qm", "a first version for sm90")
    first = git(quiet.desk, "rev-parse", "HEAD")
    git(quiet.desk, "checkout", "-q", "-f", "main")
    record = quiet.record(first)
    tree = folder_hash(quiet.remote.repository, first, "toy", "sm90")
    arms = [replace(a, identity=tree) if a.role == "candidate" else a for a in record.arms]
    conditions = {**record.calibration["conditions"], "target": "sm90"}
    calibration = {**record.calibration, "conditions": conditions}
    moved = rederived(replace(record, target="sm90", arms=tuple(arms), calibration=calibration))
    outcome = quiet.promote(moved, first, role="local", nonce=helper.NONCE)
    assert outcome.rule == "seed", outcome.text


def test_main_may_move_under_a_record(team: Any) -> None:
    proposed = team.proposed()
    record = team.record(proposed)
    landed_as(team, "n2")
    assert team.promote(record, proposed).rule == "stale"


def test_a_nonce_is_used_once(team: Any) -> None:
    landed_as(team, helper.NONCE)
    proposed = team.proposed()
    outcome = team.promote(team.record(proposed), proposed)
    assert (outcome.rule, helper.NONCE in outcome.text) == ("replay", False)


def test_a_run_is_recorded_once_as_it_is(team: Any) -> None:
    proposed = team.proposed()
    record = team.record(proposed)
    assert team.promote(record, proposed).kind == "promoted"
    tip = team.main()
    other = team.record(proposed, run=record.run, created=record.created, notes=("altered",))
    assert team.promote(other, proposed).rule == "replay"
    assert team.main() == tip


def test_any_altered_byte_of_a_recorded_record_is_noticed(team: Any) -> None:
    proposed = team.proposed()
    record = team.record(proposed)
    assert team.promote(record, proposed).kind == "promoted"
    text, tip, dice = record.to_json(), team.main(), random.Random(1)
    for place in dice.sample(range(len(text)), 12):
        altered = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        try:
            read = Record.from_json(altered)
        except ValueError:
            continue  # which `avo promote` says, and ends
        if read.to_json() == text:
            continue  # the last digit of a number that has more than it needs
        outcome = team.promote(read, proposed)
        assert outcome.kind == "refused", text[place - 40 : place + 40]
    assert team.main() == tip


def test_a_policy_or_a_judge_that_changed_makes_records_stale(team: Any) -> None:
    proposed = team.proposed()
    record = team.record(proposed)
    git(team.desk, "checkout", "-q", "-f", "main")
    path = team.desk / "pyproject.toml"
    path.write_text(path.read_text().replace("policy]\n", "policy]\nmin_gain = 0.002\n"))
    git(team.desk, "commit", "-qam", "a stricter policy")
    git(team.desk, "push", "-q", "origin", "main")
    outcome = team.promote(record, proposed)
    assert (outcome.rule, outcome.text) == (
        "policy",
        "min_gain was 0.001 when it was measured and is 0.002 now",
    )
    new_epoch(team)
    assert team.promote(team.record(proposed, nonce="n2"), proposed, nonce="n2").kind == "promoted"
    assert team.promote(record, proposed).rule == "harness"


def new_epoch(team: Any) -> None:
    git(team.desk, "checkout", "-q", "-f", "main")
    problem = team.desk / "bench" / "toy" / "problem.py"
    problem.write_text(problem.read_text() + "# another epoch\n")
    git(team.desk, "commit", "-qam", "another problem")
    git(team.desk, "push", "-q", "origin", "main")


def audit(team: Any, verdict: str, epoch: str) -> None:
    now = datetime.now(UTC) + timedelta(seconds=1 + len(team.entries()))
    entry = Entry(
        id=f"{now:%Y%m%d-%H%M%S}-aaaaaa", kind=AUDIT, created=now.isoformat(), **PLACE,
        device=helper.JUDGE, role="judge", epoch=epoch, verdict=verdict, version=0,
    )  # fmt: skip
    ledger.append(team.remote, [entry])


def test_a_new_epoch_begins_with_an_audit(team: Any) -> None:
    seeded = team.promote(team.seed(), None)
    assert (seeded.kind, seeded.entry.version) == ("recorded", 0)
    new_epoch(team)
    proposed = team.proposed()
    record = team.record(proposed, nonce="n2")
    refused = team.promote(record, proposed, nonce="n2")
    assert refused.rule == "epoch" and f"now {record.harness[:12]}" in refused.text
    audit(team, "HOLDS", record.harness[:12])
    assert team.promote(record, proposed, nonce="n2").kind == "promoted"


def test_the_desk_does_not_wait_for_an_audit(team: Any) -> None:
    team.promote(team.seed(), None)
    new_epoch(team)
    proposed = team.proposed()
    record = team.record(proposed, nonce="n2")
    done = team.promote(record, proposed, nonce="n2", role="local")
    assert done.kind == "promoted" and done.entry.role == "local"
    proposed = team.proposed()
    record = team.record(proposed, nonce="n3")  # the judge still does
    assert team.promote(record, proposed, nonce="n3").rule == "epoch"
    audit(team, "HOLDS", record.harness[:12])
    assert team.promote(record, proposed, nonce="n3").kind == "promoted"


def test_a_refuted_audit_freezes_until_it_is_mended(team: Any) -> None:
    team.promote(team.seed(), None)
    done = landed_as(team, "n1")
    epoch = done.entry.epoch
    audit(team, "REFUTED", epoch)
    proposed = team.proposed()
    record = team.record(proposed, nonce="n2")
    assert team.promote(record, proposed, nonce="n2").rule == "frozen"
    audit(team, "HOLDS", epoch)
    assert team.promote(record, proposed, nonce="n2").kind == "promoted"
    audit(team, "REFUTED", epoch)
    later = datetime.now(UTC) + timedelta(minutes=5)
    revert(team.remote, **PLACE, version=2, reason="refuted", now=later)
    proposed = team.proposed()
    assert team.promote(team.record(proposed, nonce="n3"), proposed, nonce="n3").kind == "promoted"


def test_a_seed_is_what_main_has_correct_and_whole(team: Any) -> None:
    seed = team.seed()
    wrong = (replace(seed.checks[0], status=Status.INCORRECT, reason="NaN"), *seed.checks[1:])
    assert team.promote(replace(seed, checks=wrong), None).rule == "seed"
    assert team.promote(replace(seed, subset=True), None).rule == "seed"
    assert team.promote(replace(seed, samples=()), None).rule == "seed"
    assert team.promote(other_arm("candidate")(seed), None).rule == "mode"
    before = team.main()
    done = team.promote(seed, None)
    assert (done.kind, done.entry.kind, done.entry.version) == ("recorded", "seed", 0)
    assert (done.entry.commit, team.main()) == (before, before)
    assert team.promote(team.seed(), None, nonce=helper.NONCE).rule == "replay"
    again = replace(team.seed(), nonce="n2")
    assert team.promote(again, None, nonce="n2").rule == "seed"


def test_each_witness_of_the_table_has_to_be_heard(tmp_path: Path) -> None:
    with helper.team(tmp_path, witness=True) as team:
        proposed = team.proposed()
        judge = team.record(proposed)
        silent = team.promote(judge, proposed)
        assert (silent.rule, helper.WITNESS in silent.text) == ("witness", True)
        there = {"device": helper.WITNESS}
        slower = team.record(proposed, **there, gain=-0.03)
        for witness, said in (
            (slower, "is the limit"),
            (judge, "no witness of itself"),
            (other_arm("candidate")(slower), "candidate is 'eeee"),
            (team.record(proposed, **there, nonce="other"), "nonce is 'other'"),
            (faster_samples(team.record(proposed, **there, gain=0.0)), "its samples give"),
        ):
            outcome = team.promote(judge, proposed, witnesses=[witness])
            assert (outcome.rule, said in outcome.text) == ("witness", True), outcome.text
        equal = team.record(proposed, **there, gain=0.0)
        assert equal.derived["verdict"]["kind"] != "PROMOTE"
        done = team.promote(judge, proposed, witnesses=[equal])
        assert done.kind == "promoted", done.text
        found = {e.id: e for e in team.entries()}
        assert (found[equal.run].role, found[equal.run].device) == ("witness", helper.WITNESS)


def test_a_loss_on_one_configuration_is_a_witness_against(tmp_path: Path) -> None:
    def held(record: Record) -> str:
        rules = from_dict(dict(record.policy))
        return loss(record, rules, decide(record, rules))

    assert "s2-causal lost" in held(helper.synthetic.record(0.03, gains={"s2-causal": -0.05}))
    screened = helper.synthetic.record(0.005, gains={"s2-causal": -0.03}, mode="screen")
    assert "s2-causal: -2." in held(screened)
    assert held(helper.synthetic.record(-0.005)) == ""


def test_role_local_asks_for_no_gate_and_is_on_no_badge(team: Any) -> None:
    proposed = team.proposed()
    record = on_another_device(team.record(proposed, nonce=""))
    outcome = team.promote(record, proposed, role="local", nonce="")
    assert (outcome.kind, outcome.entry.role) == ("promoted", "local"), outcome.text
    assert outcome.entry.device == "NVIDIA A100"
    assert git(team.bare, "ls-tree", "-r", "--name-only", "avo-results", "badges/") == ""


def test_a_version_is_taken_back_by_a_new_commit(team: Any) -> None:
    team.promote(team.seed(), None)
    first, second = landed_as(team, "n1"), landed_as(team, "n2")
    with pytest.raises(GitError, match="take back 2 first"):
        revert(team.remote, **PLACE, version=1)
    with pytest.raises(GitError, match="no promoted version 7"):
        revert(team.remote, **PLACE, version=7)
    done = revert(team.remote, **PLACE, version=2, reason="audit said no\nAvo-Version: 9")
    assert git(team.bare, "rev-parse", "main^") == second.main
    assert git(team.bare, "diff", "--stat", first.main, "main") == ""
    assert "Avo-Reverts: 2" in git(team.bare, "log", "-1", "--format=%B", "main")
    assert "\nAvo-Version: 9" not in git(team.bare, "log", "-1", "--format=%B", "main")
    again = revert(team.remote, **PLACE, version=2)
    assert (again.kind, again.main, again.entry.id) == ("known", done.main, done.entry.id)
    (found,) = lineages(team.entries(), public=True)
    assert [(r.version, r.reverted) for r in found.rungs] == [(0, False), (1, False), (2, True)]
    assert found.current.version == 1
    third = landed_as(team, "n3")
    assert third.entry.version == 3
    revert(team.remote, **PLACE, version=3)
    revert(team.remote, **PLACE, version=1)
    with pytest.raises(GitError, match="no promoted version 0"):
        revert(team.remote, **PLACE, version=0)
    assert git(team.bare, "show", "main:kernels/toy/sm80/kernel.cu") == "// version 0"
    assert git(team.bare, "fsck", "--strict", "--no-dangling") == ""


def test_what_review_changed_is_not_taken_back(team: Any) -> None:
    done = landed_as(team, "n1")
    git(team.desk, "fetch", "-q")
    git(team.desk, "checkout", "-q", "-f", "-B", "main", done.main)
    (team.desk / "kernels/toy/sm80/kernel.cu").write_text("// by hand\n")
    git(team.desk, "commit", "-qam", "a maintainer's change")
    git(team.desk, "push", "-q", "origin", "main")
    with pytest.raises(GitError, match="main has .* not version 0"):
        revert(team.remote, **PLACE, version=0)


def test_a_refusal_without_a_record_is_kept_too(team: Any) -> None:
    entry = record_refusal(
        team.remote, kernel="../x", target="sm80", rule="mixed", text="bench\x1b[2J is changed",
        author="eve\n", commit="not a commit",
    )  # fmt: skip
    assert team.entries() == [entry]
    assert (entry.kernel, entry.author, entry.commit) == ("unknown", "eve", "")
    assert entry.reasons[0]["text"] == "bench [2J is changed"


def test_without_main_or_ledger_nothing_is_recorded(team: Any, tmp_path: Path) -> None:
    record = team.record(team.proposed())
    git(tmp_path, "init", "-q", "--bare", str(tmp_path / "empty.git"))
    elsewhere = replace(team, remote=Remote(team.remote.repository, str(tmp_path / "empty.git")))
    with pytest.raises(GitError, match="has no branch main"):
        elsewhere.promote(record, None)
    git(team.desk, "push", "-q", str(tmp_path / "empty.git"), "origin/main:refs/heads/main")
    with pytest.raises(ledger.NoLedger, match="avo init --remote"):
        elsewhere.promote(record, None)
    with pytest.raises(GitError, match="is not the top of its repository"):
        promote(team.remote, team.desk / "kernels", record, proposal=None)


def test_the_policy_of_an_entry_is_known_by_its_digest(team: Any) -> None:
    done = landed_as(team, helper.NONCE)
    rules = from_dict(dict(team.record(team.proposed()).policy))
    assert done.entry.identities["policy"] == digest(rules)


def test_two_kernels_and_a_change_of_the_docs_land_at_once(tmp_path: Path) -> None:
    """None voids another: whoever loses the race builds anew and lands."""
    with helper.team(tmp_path, kernels=("toy", "twin")) as team:
        work = []
        for kernel in ("toy", "twin"):
            commit = team.proposed(kernel)
            work.append((team.record(commit, kernel=kernel, nonce=kernel), commit))

        def hand_in(one: tuple[Record, str]) -> str:
            record, commit = one
            with branches.opened(team.desk) as own:
                mine = replace(team, remote=Remote(own, "origin"))
                return str(mine.promote(record, commit, nonce=record.nonce).kind)

        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(hand_in, one) for one in work]
            pushed = 0
            while pushed < 3:
                pushed += document(team, str(pushed))
            assert [r.result() for r in running] == ["promoted", "promoted"]
        landed = [e for e in team.entries() if e.version is not None]
        assert sorted(e.kernel for e in landed) == ["toy", "twin"]
        history = git(team.bare, "rev-list", "--parents", "main").splitlines()
        assert len(history) == 1 + 2 + pushed and all(len(c.split()) <= 2 for c in history)
        assert git(team.bare, "show", "main:README.md") == str(pushed - 1)
        for kernel, (record, _) in zip(("toy", "twin"), work, strict=True):
            tree = folder_hash(team.remote.repository, team.main(), kernel, "sm80")
            assert tree == record.arms[0].identity


def document(team: Any, text: str) -> bool:
    """Somebody improves the README meanwhile; he too may lose a race."""
    path = team.desk.parent / "elsewhere"
    if not path.exists():
        git(team.desk.parent, "clone", "-q", str(team.bare), str(path))
    git(path, "fetch", "-q", "origin")
    git(path, "reset", "-q", "--hard", "origin/main")
    (path / "README.md").write_text(f"{text}\n")
    git(path, "commit", "-q", "-am", f"docs {text}")
    try:
        git(path, "push", "-q", "origin", "HEAD:main")
    except subprocess.CalledProcessError:
        return False
    return True


def test_only_the_judge_that_main_has_records(team: Any) -> None:
    """Where `main` carries the judge itself, another one's opinion of a record is worth nothing."""
    proposed = team.proposed()
    git(team.desk, "checkout", "-q", "-f", "main")
    package = team.desk / "avo_pytest"
    for name in ("worker.py", "judge.py", "schemas/kernel.schema.json"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("0\n")
    git(team.desk, "add", "-A")
    git(team.desk, "commit", "-qm", "a judge of our own")
    git(team.desk, "push", "-q", "origin", "main")
    record = team.record(proposed)
    assert team.promote(record, proposed).rule == "harness"
    reference = "bench/toy/problem.py:PROBLEM"
    theirs = with_harness(record, harness_hash(team.desk, reference, package=package))
    before = git(team.bare, "for-each-ref")
    with pytest.raises(GitError, match="this avo is not main's"):
        team.promote(theirs, proposed)
    assert git(team.bare, "for-each-ref") == before
