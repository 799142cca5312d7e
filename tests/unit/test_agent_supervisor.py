# SPDX-License-Identifier: MIT
"""The ladder of interventions, and directions of a model, which is a function of text here."""

from __future__ import annotations

import json

import pytest

from agent.detector import Attempted, Finding, Kind
from agent.directions import REGIONS, Direction, built_in, directions, distinct, parsed
from agent.supervisor import Course, Rung, brief, digest, supervise

FINDING = Finding(Kind.STALL, "8 attempts without a gain", tuple(range(8)))
IDEAS = [
    (
        "Shorten the change of row block",
        "Start the first product of the next block in the last turn.",
    ),
    ("Fetch less through shared memory", "Hold two slices of Q in registers and count the reads."),
    ("Balance the tail", "Cut the last rounds along keys and combine the halves afterwards."),
]


def barren(count: int, step: int = 1) -> list[Attempted]:
    return [
        Attempted(step=n, verdict="REJECT", gain=-0.01, diff=f"+edit_{n} = {n};")
        for n in range(step, step + count)
    ]


def gained(step: int) -> Attempted:
    return Attempted(step=step, verdict="PROMOTE", gain=0.02)


def answer(ideas: list[tuple[str, str]]) -> str:
    return json.dumps(
        [{"title": title, "brief": text, "why": "1300 cycles"} for title, text in ideas]
    )


class Model:
    """Answers in turn, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), []

    def __call__(self, system: str, text: str) -> str:
        self.asked.append((system, text))
        return self.answers.pop(0)


def test_nothing_is_said_while_the_search_goes_on():
    model = Model()
    course, intervention = supervise(Course(), barren(7), model=model)
    assert (course, intervention, model.asked) == (Course(), None, [])


def test_each_direction_gets_one_full_step_then_the_next_rung():
    history = barren(8)
    model = Model(
        answer(IDEAS), answer([("A new design of the loop", "Write it anew, from the loads on.")])
    )
    course, titles = Course(), []
    for step in range(3):
        course, intervention = supervise(course, history, digest="the run", model=model)
        titles.append(intervention.direction.title)
        assert intervention.rung is Rung.DIRECTIONS
        history += barren(3, step=20 + 3 * step)
    assert titles == [title for title, _ in IDEAS]
    assert len(model.asked) == 1
    system, text = model.asked[0]
    assert "supervise" in system and "the run" in text and "8 attempts without a gain" in text
    course, intervention = supervise(course, history, model=model)
    assert intervention is None, "the last direction has its time"
    course, intervention = supervise(course, history + barren(5, step=40), model=model)
    assert intervention.rung is Rung.BOLDER
    assert "structural" in model.asked[1][1]
    assert all(title in model.asked[1][1] for title in titles), "it is told what was tried"


def test_the_ladder_without_a_model_ends_in_a_report():
    course, history, rungs = Course(), barren(8), []
    while len(rungs) < 20:
        course, intervention = supervise(course, history)
        if intervention:
            rungs.append(intervention.rung)
            if intervention.rung is Rung.STOP:
                break
            assert intervention.direction.region in REGIONS
        history = history + barren(8, step=len(history) + 1)
    assert sorted(rungs) == rungs
    assert set(rungs) == {Rung.DIRECTIONS, Rung.BOLDER, Rung.RESTART, Rung.STOP}
    assert rungs.count(Rung.RESTART) == 1
    assert len(set(course.tried)) == len(course.tried) - 1, "only the restart repeats a direction"
    assert intervention.direction is None
    assert all(direction.title in brief(intervention) for direction in course.tried)


def test_a_gain_leads_back_to_the_foot_of_the_ladder():
    course = Course(rung=Rung.RESTART, since=8, tried=tuple(built_in(Kind.STALL, bolder=False)))
    history = [*barren(8), gained(9), *barren(8, step=10)]
    course, intervention = supervise(course, history)
    assert intervention.rung is Rung.DIRECTIONS


def test_a_course_survives_the_disk():
    course, _ = supervise(Course(), barren(8))
    assert Course.from_json(json.loads(json.dumps(course.as_json()))) == course
    with pytest.raises((KeyError, TypeError)):
        Course.from_json({"rung": 1, "since": 0, "queue": [{"name": "x"}], "tried": []})


def test_answers_are_found_in_fences_and_prose():
    for text in (
        answer(IDEAS),
        f"Here:\n```json\n{answer(IDEAS)}\n```\n",
        f"So: {answer(IDEAS)} done",
    ):
        assert [direction.title for direction in parsed(text)] == [title for title, _ in IDEAS]


@pytest.mark.parametrize(
    "text, said",
    [
        ("I would rather not.", "no JSON array"),
        ("[]", "non-empty"),
        ('[{"title": "Only a title"}]', "'brief' is a required property"),
        ('[{"title": "x", "brief": "long enough to be a brief, is it not"}]', "0/title"),
        ('{"title": "An object"}', "not of type 'array'"),
        ('[{"title": 5, "brief": "long enough to be a brief, is it not"}]', "0/title"),
    ],
)
def test_an_unusable_answer_is_told_to_the_model_once(text, said):
    model = Model(text, answer(IDEAS))
    assert len(directions(FINDING, "", model)) == 3
    assert said in model.asked[1][1]


def test_two_unusable_answers_leave_the_ladder_its_own_directions():
    course, intervention = supervise(Course(), barren(8), model=Model("no", "no"))
    assert intervention.direction == built_in(Kind.STALL, bolder=False)[0]


def test_directions_that_say_the_same_are_one():
    same = Direction(
        title="Shorten the change of a row block", brief="Anything else, at some length."
    )
    found = [Direction(title=title, brief=text) for title, text in IDEAS]
    assert distinct([*found, same]) == found
    assert distinct(found, [same]) == found[1:]


def test_what_a_model_writes_moves_no_cursor():
    hostile = json.dumps(
        [{"title": "Clear \x1b[2J\n::error::x", "brief": "a\x1b[2Jb, and so on and on"}]
    )
    [found] = parsed(hostile)
    assert "\x1b" not in found.title + found.brief and "\n" not in found.title


def test_what_the_model_raises_is_passed_on():
    def exhausted(system: str, text: str) -> str:
        raise TimeoutError("no budget")

    with pytest.raises(TimeoutError):
        supervise(Course(), barren(8), model=exhausted)


def test_the_digest_has_a_line_an_attempt_and_leaves_out_the_oldest():
    history = [*barren(70), Attempted(step=71, verdict="INCORRECT", correct=False, failure="row 3")]
    text = digest(history, lineage="v1 .. v7", notes="- failed: x", last=5)
    lines = text.splitlines()
    assert lines[0] == "Attempts:" and len([line for line in lines if "(step" in line]) == 5
    assert lines[5].startswith("71 (step 71) INCORRECT row 3")
    assert "v1 .. v7" in text and "- failed: x" in text
    assert "ACCEPTED" in digest([gained(1)])


def test_every_kind_of_finding_has_distinct_directions():
    for kind in Kind:
        for bolder in (False, True):
            found = built_in(kind, bolder=bolder)
            assert len(found) == 3 == len(distinct(found))
