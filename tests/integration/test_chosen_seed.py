# SPDX-License-Identifier: MIT
"""A confirm on a real device draws its seed; only one that was killed goes on with its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from avo_pytest import attempts
from avo_pytest.assignment import Request, RequestError, assign
from avo_pytest.attempts import Attempt
from avo_pytest.deciding import Trial
from avo_pytest.journal import FILE
from avo_pytest.loading import _module
from avo_pytest.resuming import FIXED
from avo_pytest.run import Run
from avo_pytest.source import Source

repository = _module(Path(__file__).parents[1] / "simulated_repository.py")
OWN, OTHER = 1234567890123456789, 7
SENTENCE = "a confirm draws its own"


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    root = repository.write(tmp_path)
    repository.script(root, "kernels/toy/cpu")
    return Request(root=root, kernel="toy", target="cpu", mode="confirm")


def tried(request: Request) -> tuple[Run, Trial]:
    run = Run.begin(assign(request), lambda *_, **__: None)
    source = Source(request.root / "kernels" / "toy" / run.assignment.target, "working tree")
    return run, Trial.of(run, source, source)


def killed(request: Request, **plan: object) -> None:
    """What a confirm that was killed after its plan leaves behind."""
    run, trial = tried(request)
    attempts.begin(
        run.home,
        Attempt(
            run=run.name, created=run.created.isoformat(), seed=OWN, identity=trial.identity,
            artifacts=("c", "i"), model="a processor",
        ),
    )  # fmt: skip
    journal = run.home / "runs" / run.name / FILE
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.write_text(json.dumps({"kind": "plan", **plan}) + "\n")
    run.journal.close()


def test_without_a_seed_it_draws_one_each_time(request_: Request) -> None:
    seeds = {tried(request_)[0].assignment.seed for _ in range(3)}
    assert len(seeds) == 3 and min(seeds) >= 0


@pytest.mark.parametrize("mode", ["measure", "screen", "calibrate"])
def test_what_promotes_nothing_may_be_replayed(request_: Request, mode: str) -> None:
    if mode == "measure":
        assert assign(replace(request_, mode=mode, seed=OTHER)).seed == OTHER
        return
    assert tried(replace(request_, mode=mode, seed=OTHER))[0].assignment.seed == OTHER


def test_a_chosen_seed_is_refused(request_: Request) -> None:
    with pytest.raises(RequestError, match=SENTENCE) as refused:
        tried(replace(request_, seed=OTHER))
    assert str(OTHER) in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(RequestError, match=SENTENCE):
        tried(replace(request_, seed=0))  # which is one as well


def test_a_scripted_device_takes_any(request_: Request) -> None:
    scripted = replace(request_, target="auto", device="simulated", seed=OTHER)
    assert tried(scripted)[0].assignment.seed == OTHER


def test_a_killed_confirm_goes_on_with_its_own(request_: Request) -> None:
    killed(request_, **{name: {} for name in FIXED})
    for seed in (None, OWN):
        run, trial = tried(replace(request_, seed=seed))
        assert run.assignment.seed == OWN and trial.unfinished is not None
        trial.release()


def test_a_refusal_leaves_a_killed_confirm_to_the_next(request_: Request) -> None:
    killed(request_, **{name: {} for name in FIXED})
    with pytest.raises(RequestError, match=SENTENCE):
        tried(replace(request_, seed=OTHER))
    run, trial = tried(request_)
    assert run.assignment.seed == OWN
    trial.release()


def test_one_that_cannot_go_on_lends_its_seed_to_nobody(request_: Request) -> None:
    killed(request_)  # no plan in its journal
    with pytest.raises(RequestError, match=SENTENCE):
        tried(replace(request_, seed=OWN))
    run, trial = tried(request_)
    assert run.assignment.seed != OWN
    trial.release()
