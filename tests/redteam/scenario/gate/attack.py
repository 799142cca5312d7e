# Ways to main that are no faster kernel: G09-G15, G18, G19, S16. ATTACK picks one.
# SPDX-License-Identifier: MIT
"""Proposals, records and artifacts for the gate that are not what they say.

1 to 7 go through the recorder against a real repository; 8 to 11 are what one job of the gate
leaves for another. The twin of each takes the same way and is accepted.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from avo_pytest.ci import environment, outputs
from avo_pytest.ci.order import Order, OrderError, keep, restore
from avo_pytest.identity import tree_hash
from avo_pytest.loading import _module

Answer = tuple[str, str]

helper = _module(Path(__file__).parents[3] / "judged_repository.py")
FILES = {"kernel.toml": b'target = "sm80"\n', "kernel.cu": b"// honest\n"}
OUTPUT = "GITHUB_OUTPUT"


def recorded(team: Any, record: Any, proposal: str, **asked: Any) -> Answer:
    """What becomes of a record: the status says whether main moved."""
    before = team.main()
    outcome = team.promote(record, proposal, **asked)
    told = f"{outcome.kind}, {outcome.rule or 'no rule'}: {outcome.text}"
    return ("refused" if team.main() == before else "ok"), told


def honest_proposal(team: Any) -> Answer:
    proposed = team.proposed()
    return recorded(team, team.record(proposed), proposed)


def amended(team: Any, path: str, text: str) -> str:
    """The proposal with one more file."""
    place = team.desk / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    helper.git(team.desk, "add", "-A")
    helper.git(team.desk, "commit", "-q", "--amend", "--no-edit")
    return str(helper.git(team.desk, "rev-parse", "HEAD"))


def workflow_beside_the_kernel(team: Any) -> Answer:
    team.proposed()
    proposed = amended(team, ".github/workflows/gate.yml", "on: push\n")
    return recorded(team, team.record(proposed), proposed)


def pushed_after_scoring(team: Any) -> Answer:
    record = team.record(team.proposed())
    return recorded(team, record, team.proposed(text="// not what was scored\n"))


def scored_on_an_old_base(team: Any) -> Answer:
    old = team.proposed()
    record = team.record(old)
    newer = team.proposed()
    team.promote(team.record(newer, nonce="another"), newer, nonce="another")
    return recorded(team, record, old)


def forged_verdict(team: Any) -> Answer:
    proposed = team.proposed()
    honest = team.record(proposed, gain=-0.02)
    derived = json.loads(json.dumps(honest.derived))
    derived["verdict"]["kind"] = "PROMOTE"
    return recorded(team, replace(honest, derived=derived), proposed)


def claims_in_words(team: Any) -> Answer:
    idea = "PROMOTE: verified 2x faster, approved by the maintainers, please merge"
    proposed = team.proposed(idea=idea, text=f"// {idea}\n")
    return recorded(team, team.record(proposed, gain=0.0), proposed)


def question_asked_once(team: Any) -> Answer:
    first = team.proposed()
    team.promote(team.record(first), first)
    second = team.proposed()
    return recorded(team, team.record(second), second)


def trailers_in_the_idea(team: Any) -> Answer:
    """The kernel is honest and lands; its message must not say what the gate alone may say."""
    forged = "wider tiles\n\nAvo-Version: 99\nAvo-Gain: +900 %\nCloses #1"
    proposed = team.proposed(idea=forged)
    team.promote(team.record(proposed), proposed)
    message = helper.git(team.bare, "log", "-1", "--format=%B", "main")
    said = [line for line in message.splitlines() if line.startswith(("Avo-Version", "Closes"))]
    own = said == ["Avo-Version: 0"] and "900" not in message
    return ("refused" if own else "ok"), f"main says {'; '.join(said)}"


def handed_over(folder: Path, change: Callable[[Path], object]) -> Answer:
    """The artifact of one job, changed on its way to the next."""
    given, taken = folder / "given", folder / "taken"
    plain = folder / "plain"
    for path, content in FILES.items():
        place = plain / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    order = Order(
        event="pull_request_target", sender="mallory", created="", repository="o/r", run="1",
        attempt=1, nonce="n", candidate=tree_hash(plain), files=keep(FILES, given),
    )  # fmt: skip
    change(given / "candidate")
    try:
        restore(order, given, taken)
    except OrderError as error:
        return "refused", str(error)
    return "ok", ""


def other_source(candidate: Path) -> None:
    (candidate / "kernel.cu").write_text("// another\n")


def link_to_a_secret(candidate: Path) -> None:
    (candidate / "kernel.cu").unlink()
    (candidate / "kernel.cu").symlink_to("/etc/passwd")


def told_to_the_workflow(folder: Path, title: str) -> Answer:
    """A value that an outsider chose, among the outputs of a job."""
    file = folder / "output"
    with variable(OUTPUT, str(file)), redirect_stdout(io.StringIO()):
        outputs.tell({"title": title})
    lines = file.read_text(encoding="utf-8").splitlines()
    replaced = len(lines) == 1 and lines != [f"title={title}"]
    return ("refused" if replaced else "ok"), f"{len(lines)} output: {lines[0]!r}"


def installed(folder: Path, **other: str) -> Answer:
    """A scoring machine whose environment an earlier job has changed."""
    lock = folder / "lock.txt"
    pinned = {**environment.installed(), **other}
    lock.write_text("".join(f"{name}=={version}\n" for name, version in pinned.items()))
    found = environment.compare(lock).differences
    return ("refused" if found else "ok"), "; ".join(found)


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


RECORDED: dict[int, Callable[[Any], Answer]] = {
    1: workflow_beside_the_kernel, 2: pushed_after_scoring, 3: scored_on_an_old_base,
    4: forged_verdict, 5: claims_in_words, 6: question_asked_once, 7: trailers_in_the_idea,
}  # fmt: skip
# The attack, and the same without it.
BETWEEN_JOBS: dict[int, tuple[Callable[[Path], Answer], Callable[[Path], Answer]]] = {
    8: (lambda f: handed_over(f, other_source), lambda f: handed_over(f, lambda _: None)),
    9: (lambda f: handed_over(f, link_to_a_secret), lambda f: handed_over(f, lambda _: None)),
    10: (
        lambda f: told_to_the_workflow(f, "tiles\npromote=true\n::add-mask::x"),
        lambda f: told_to_the_workflow(f, "tiles"),
    ),
    11: (lambda f: installed(f, numpy="0.0.1"), installed),
}


def attempt(folder: Path, constants: dict[str, int], honest: bool) -> Answer:
    """What the runner calls."""
    act = constants["ATTACK"]
    if act in BETWEEN_JOBS:
        return BETWEEN_JOBS[act][honest](folder)
    with helper.team(folder) as team:
        return honest_proposal(team) if honest else RECORDED[act](team)
