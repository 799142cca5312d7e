# SPDX-License-Identifier: MIT
"""The throughput phase of screen, confirm and calibrate: what is timed in order to be decided."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from avo_pytest import (
    admission,
    attempts,
    confirming,
    planning,
    policy,
    promotion,
    replicates,
    resuming,
    screening,
)
from avo_pytest.assignment import Assignment, RequestError
from avo_pytest.attempts import Attempt, Identity
from avo_pytest.devices import scenarios
from avo_pytest.error_budget import expected_false_promotions, level
from avo_pytest.identity import tree_hash
from avo_pytest.policy import Policy
from avo_pytest.resuming import Unfinished
from avo_pytest.run import Run
from avo_pytest.score import Record
from avo_pytest.source import Source
from avo_pytest.verdict import spoken


@dataclass(slots=True)
class Trial:
    """A run that will be decided: the rules in force, and the attempt that it is."""

    rules: Policy
    identity: Identity
    unfinished: Unfinished | None = None  # a killed one of the same identity
    attempt: Attempt | None = None  # once the confirm has begun, now or before it was stopped

    @staticmethod
    def of(run: Run, candidate: Source, incumbent: Source) -> Trial:
        """Looks for a killed confirm and takes its seed over. Raises RequestError."""
        assignment, request = run.assignment, run.assignment.request
        rules = planning.policy_of(assignment)
        identity = Identity(
            kernel=request.kernel,
            target=assignment.target,
            set=assignment.set,
            candidate=tree_hash(candidate.path),
            incumbent=tree_hash(incumbent.path),
            harness=rules.harness,
            policy=policy.digest(rules),
            configurations=tuple(c.name for c in assignment.throughput),
            devices=assignment.devices,
            share=request.share,
            question=request.nonce,
        )
        trial = Trial(rules, identity)
        if request.mode == "confirm":
            trial.unfinished = resuming.find(run.home, attempts.read(run.home), identity)
        try:
            _refuse_a_chosen_seed(trial, assignment)
        except RequestError:
            trial.release()
            raise
        if (found := trial.unfinished) is not None:
            if request.seed not in (None, found.attempt.seed):
                found.reason = found.reason or f"seed {request.seed} was asked for"
            if not found.reason:
                run.assignment = replace(assignment, seed=found.attempt.seed)
        return trial

    def release(self) -> None:
        """Leave a killed confirm to the next who asks for it."""
        if self.unfinished is not None and self.unfinished.journal is not None:
            self.unfinished.journal.close()
            self.unfinished = None


def _refuse_a_chosen_seed(trial: Trial, assignment: Assignment) -> None:
    """Raises RequestError where what a real confirm draws could have been known beforehand.

    A killed confirm that goes on has drawn its seed, for the same candidate; noise that is scripted
    decides nothing.
    """
    request, found = assignment.request, trial.unfinished
    own = found.attempt.seed if found is not None and not found.reason else None
    if request.mode != "confirm" or request.seed in (None, own):
        return
    if assignment.target == scenarios.DEVICE:
        return
    raise RequestError(
        f"seed {request.seed} was asked for (--avo-seed, or seed in [tool.avo]): a confirm draws "
        "its own, because a candidate could be made for what a known seed draws; leave it away, "
        "or replay without --avo-mode confirm"
    )


def open_run(run: Run, trial: Trial) -> None:
    """Before anything is journalled: go on with the journal of a killed confirm, where one can."""
    run.policy = asdict(trial.rules)
    found = trial.unfinished
    if found is None:
        return
    if found.reason:
        run.note(
            f"run {found.attempt.run}, a confirm of the same, was stopped: {found.reason}, "
            "so that it counts as an attempt"
        )
        trial.release()
        return
    trial.attempt = found.attempt
    journal, found.journal = found.journal, None
    assert journal is not None
    run.go_on(found.attempt.run, found.attempt.created, journal)


def measure(run: Run, trial: Trial) -> None:
    """Add replicates to the run, or set `run.failure`. Raises RequestError."""
    mode, hashes = run.assignment.request.mode, {a.role: a.artifact for a in run.arm_records}
    if mode != "calibrate" and hashes["candidate"] == hashes["incumbent"]:
        run.failure = "NO-CHANGE: what was built is the incumbent, nothing to time"
        return
    artifacts = (hashes["candidate"], hashes["incumbent"])
    if _continue(run, trial, artifacts):
        confirming.run_confirm(run)
        return
    _fix(run, trial, artifacts)
    if mode == "calibrate":
        confirming.run_confirm(run)
    elif _screen(run) and mode == "confirm":
        if why := _hopeless(run, trial):
            run.note(f"the confirm does not begin, it could only be INVALID: {why}")
            return
        _begin(run, trial, artifacts)
        confirming.run_confirm(run)


def close(run: Run, trial: Trial, record: Record) -> None:
    """The attempt is over, now that its record is kept."""
    if trial.attempt is not None:
        found = record.derived["verdict"]
        with suppress(OSError):  # then it counts as one that was killed
            attempts.end(run.home, run.name, found["kind"], found["p_value"])


def decided(trial: Trial, record: Record) -> Record:
    """The record with its verdict."""
    return replace(record, derived=promotion.derive(record, trial.rules))


def _fix(run: Run, trial: Trial, artifacts: tuple[str, str]) -> None:
    rules, budgeted = trial.rules, trial.rules.error_budget != "none"
    earlier = attempts.read(run.home)
    counted = attempts.history(earlier, artifacts[0], trial.identity, past=budgeted)
    planning.fix(run, rules, alpha=level(rules, counted))
    expected = expected_false_promotions(rules.alpha_confirm, counted["all_confirms"] + 1)
    run.attempts = {**counted, "expected_false_promotions": expected}
    fixed = {name: getattr(run, name) for name in resuming.FIXED}
    run.journal.append({"kind": "plan", **fixed})


def _screen(run: Run) -> bool:
    """Whether a confirm is worth its time."""
    if not run.plan["screen_blocks"]:
        return True
    return screening.run_screen(run) == "promising" and not run.failure


def _hopeless(run: Run, trial: Trial) -> str:
    """What would make any confirm INVALID, as a subset would; empty: nothing."""
    if not run.calibration:
        return "there is no calibration"
    refused = spoken(admission.RULES, run.record(), trial.rules)
    return refused.reasons[0].text if refused else ""


def _begin(run: Run, trial: Trial, artifacts: tuple[str, str]) -> None:
    trial.attempt = Attempt(
        run=run.name,
        created=run.created.isoformat(),
        seed=run.assignment.seed,
        identity=trial.identity,
        artifacts=artifacts,
        model=_model(run),
    )
    try:
        attempts.begin(run.home, trial.attempt)
    except OSError as error:
        raise RequestError(
            f"{run.home}: a confirm that is not counted must not begin: {error}"
        ) from error


def _continue(run: Run, trial: Trial, artifacts: tuple[str, str]) -> bool:
    """Take over what a killed confirm has finished, if it still is the same confirm."""
    found = trial.unfinished
    if found is None:
        return False
    if not found.attempt.same(artifacts, _model(run)):
        run.note(
            f"run {run.name} was stopped and now builds or runs differently: it begins anew, "
            "and the stopped one counts as an attempt"
        )
        with suppress(OSError):
            attempts.end(run.home, run.name, attempts.INVALID, None)
        trial.attempt = None
        return False
    for name in resuming.FIXED:
        setattr(run, name, found.fixed[name])
    for replicate, running in found.finished:
        replicates.add(run, replicate, running)
    half = f", {found.dropped} half-finished dropped" if found.dropped else ""
    run.note(f"continued after it was stopped: {len(found.finished)} replicates kept{half}")
    return True


def _model(run: Run) -> str:
    return str(run.environment.get("device") or "")
