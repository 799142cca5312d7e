# SPDX-License-Identifier: MIT
"""What the workflows may do, read from the files themselves: every rule of docs/security.md.

`act` enforces neither permissions nor concurrency, so that only the text can be held to them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is missing: pip install '.[dev]'")

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github" / "workflows"
NAMES = sorted(path.name for path in FOLDER.iterdir())
HOSTED = re.compile(r"(ubuntu|macos|windows)-[a-z0-9.-]+")
PIN = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+@[0-9a-f]{40}")
# Everything that each job may do, and no job besides: the table of docs/security.md.
PERMISSIONS = {
    ("gate", "poll"): {
        "actions": "write", "checks": "read", "contents": "read", "pull-requests": "read",
    },
    ("gate", "intake"): {"contents": "read", "pull-requests": "read"},
    ("gate", "build"): {"contents": "read"},
    ("gate", "score"): {},
    ("gate", "verify"): {"attestations": "write", "contents": "read", "id-token": "write"},
    ("gate", "record"): {"contents": "write"},
    ("gate", "publish"): {"checks": "write", "contents": "read", "pull-requests": "write"},
    ("gate", "page"): {"id-token": "write", "pages": "write"},
    ("ci", "whole"): {"contents": "read"},
    ("ci", "tests"): {"contents": "read"},
    ("ci", "wheel"): {"contents": "read"},
    ("ci", "gate"): {"contents": "read"},
    ("ci", "compile"): {"contents": "read"},
    ("audit", "plan"): {"contents": "read"},
    ("audit", "measure"): {},
    ("audit", "record"): {"contents": "write"},
    ("audit", "alarm"): {"issues": "write"},
    ("evolve", "evolve"): {"actions": "read", "contents": "read"},
}  # fmt: skip
TRIGGERS = {
    "gate": {"pull_request_target", "issue_comment", "workflow_dispatch", "schedule"},
    "ci": {"push", "pull_request"},
    "audit": {"workflow_dispatch", "schedule"},
    "evolve": {"workflow_dispatch", "schedule"},
}
SECRETS = {
    ("gate", "intake"): {"AVO_RUNNERS_TOKEN"},
    ("gate", "record"): {"AVO_APP_KEY"},
    ("audit", "record"): {"AVO_APP_KEY"},
    ("evolve", "evolve"): {"ANTHROPIC_API_KEY", "AVO_PROPOSER_TOKEN"},
}
TOKENS = {
    ("gate", "poll"), ("gate", "intake"), ("gate", "record"), ("gate", "publish"),
    ("audit", "record"), ("audit", "alarm"), ("evolve", "evolve"),
}  # fmt: skip
ENVIRONMENTS = {
    ("gate", "intake"): "intake",
    ("gate", "record"): "promote",
    ("gate", "page"): "github-pages",
    ("audit", "record"): "promote",
    ("evolve", "evolve"): "evolve",
}


def workflow(name: str) -> dict[str, Any]:
    found = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    found["on"] = found.pop(True)  # YAML 1.1 reads `on` as a truth value
    return found


WORKFLOWS = {name.removesuffix(".yml"): workflow(name) for name in NAMES}
JOBS = {
    (name, job): body for name, whole in WORKFLOWS.items() for job, body in whole["jobs"].items()
}
each_job = pytest.mark.parametrize("place", JOBS, ids=lambda p: "-".join(p))
each_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    else:
        yield str(value)


def expressions(value: Any) -> list[str]:
    """Everything that GitHub evaluates; an `if` is an expression without the braces."""
    return [e for text in strings(value) for e in re.findall(r"\$\{\{(.*?)\}\}", text, re.S)]


def steps(place: tuple[str, str]) -> list[dict[str, Any]]:
    return JOBS[place]["steps"]


def machines(place: tuple[str, str]) -> list[str]:
    """Labels that a job may run on; "" stands for what is only known when it runs."""
    job = JOBS[place]
    asked = job["runs-on"]
    if asked == "${{ matrix.machine }}":
        matrix = job["strategy"]["matrix"]
        return [*matrix["machine"], *(row["machine"] for row in matrix["include"])]
    return [asked] if isinstance(asked, str) and "${{" not in asked else [""]


def hosted(place: tuple[str, str]) -> bool:
    return all(HOSTED.fullmatch(label) for label in machines(place))


def test_the_four_workflows_and_nothing_else():
    assert [*NAMES] == ["audit.yml", "ci.yml", "evolve.yml", "gate.yml"]


@each_workflow
def test_triggers_are_those_of_the_table(name):
    assert set(WORKFLOWS[name]["on"]) == TRIGGERS[name]


@each_workflow
def test_nobody_who_can_push_or_open_a_pull_request_reaches_a_scoring_machine(name):
    reaching = [place for place in JOBS if place[0] == name and not hosted(place)]
    assert not reaching or not TRIGGERS[name] & {"push", "pull_request"}


def test_exactly_score_and_measure_run_on_scoring_machines():
    assert {place for place in JOBS if not hosted(place)} == {
        ("gate", "score"), ("audit", "measure"),
    }  # fmt: skip


@each_workflow
def test_no_permission_is_inherited(name):
    assert WORKFLOWS[name]["permissions"] == {}


@each_job
def test_permissions_are_those_of_the_table(place):
    assert JOBS[place]["permissions"] == PERMISSIONS[place]


def test_the_tables_name_jobs_that_exist():
    assert set(PERMISSIONS) == set(JOBS)
    assert {*SECRETS, *TOKENS, *ENVIRONMENTS} <= set(JOBS)


@each_job
def test_secrets_and_tokens_only_where_the_table_says(place):
    found = expressions(JOBS[place])
    named = {m for e in found for m in re.findall(r"secrets\.(\w+)", e)}
    assert named == SECRETS.get(place, set())
    assert not any(re.search(r"secrets\s*(\)|\[|$)", e) for e in found)  # all of them at once
    uses_token = any("github.token" in e or "GITHUB_TOKEN" in e for e in found)
    assert uses_token == (place in TOKENS)


@each_job
def test_environments_guard_the_writers_and_the_key(place):
    found = JOBS[place].get("environment")
    found = found["name"] if isinstance(found, dict) else found
    assert found == ENVIRONMENTS.get(place)


@each_job
def test_every_action_is_pinned_by_its_full_sha(place):
    for step in steps(place):
        assert PIN.fullmatch(step.get("uses", f"owner/name@{'0' * 40}")), step["uses"]


def test_an_action_has_one_version_everywhere_and_says_which():
    lines = [line for name in NAMES for line in (FOLDER / name).read_text().splitlines()]
    said = {
        re.fullmatch(r" +-? *uses: (\S+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", line).groups()
        for line in lines
        if re.match(r" +-? *uses:", line)
    }
    assert said and len({action for action, _, _ in said}) == len(said)


@each_job
def test_nothing_is_interpolated_into_a_shell(place):
    for step in steps(place):
        assert "${{" not in step.get("run", ""), step["run"]


@each_job
def test_what_outsiders_wrote_reaches_no_step(place):
    """Titles, bodies, branch names, commits: read by our code from the event file, if at all."""
    outside = re.compile(
        r"github\.(head_ref|event\.(pull_request\.(title|body|head)|issue\.(title|body)|comment"
        r"|review|head_commit|commits|sender))"
    )
    job = JOBS[place]
    for step in [*steps(place), {k: v for k, v in job.items() if k not in ("steps", "if")}]:
        assert not [e for e in expressions(step) if outside.search(e)]
        assert not outside.search(str(step.get("if", "")))


@each_job
def test_checkouts_keep_no_credentials_and_take_the_default_ref(place):
    for step in steps(place):
        if step.get("uses", "").startswith("actions/checkout@"):
            given = step.get("with", {})
            assert given.get("persist-credentials") is False
            assert not {"ref", "repository", "token", "allow-unsafe-pr-checkout"} & set(given)


@each_job
def test_scoring_machines_get_no_checkout_cache_install_or_network_tool(place):
    if hosted(place):
        return
    allowed = ("actions/download-artifact@", "actions/upload-artifact@")
    for step in steps(place):
        assert step.get("uses", allowed[0]).startswith(allowed)
        assert not re.search(r"\b(pip|apt|curl|wget|git|gh|docker|uv)\b", step.get("run", ""))


@each_job
def test_no_cache_anywhere(place):
    """A cache is a channel from a job with fewer rights to one with more."""
    assert not [text for text in strings(JOBS[place]) if "actions/cache" in text]
    assert not [step for step in steps(place) if "cache" in step.get("with", {})]


@each_job
def test_every_job_ends(place):
    assert 0 < JOBS[place]["timeout-minutes"] <= 360


@each_workflow
def test_concurrency_is_decided_for_every_workflow(name):
    assert WORKFLOWS[name]["concurrency"]["group"]


def test_no_verdict_is_dropped_and_one_recorder_works_at_a_time():
    assert WORKFLOWS["gate"]["concurrency"]["queue"] == "max"
    for place in (("gate", "record"), ("audit", "record")):
        assert JOBS[place]["concurrency"] == {"group": "avo-record", "queue": "max"}


def test_the_recorder_runs_whatever_happened_before():
    for job in ("verify", "record", "publish"):
        condition = JOBS["gate", job]["if"]
        assert "!cancelled()" in condition and "success()" not in condition
    assert JOBS["gate", "record"]["if"] == "!cancelled() && needs.intake.result == 'success'"


@pytest.mark.parametrize(
    ("place", "switch"),
    [
        (("gate", "poll"), "AVO_GATE"), (("gate", "intake"), "AVO_GATE"),
        (("audit", "plan"), "AVO_GATE"), (("evolve", "evolve"), "AVO_EVOLVE"),
    ],
)  # fmt: skip
def test_a_fork_does_nothing_until_it_is_switched_on(place, switch):
    assert f"vars.{switch} == 'on'" in JOBS[place]["if"]
    first = {name for name, job in WORKFLOWS[place[0]]["jobs"].items() if "needs" not in job}
    assert place[1] in first


@pytest.mark.parametrize("place", [("gate", "intake"), ("audit", "plan"), ("evolve", "evolve")])
def test_a_dispatch_from_another_branch_runs_nothing(place):
    assert "github.ref == format('refs/heads/{0}'" in JOBS[place]["if"]


def test_all_jobs_with_rights_come_after_a_guarded_one():
    """Who starts at once is guarded by itself; everybody else needs someone who is."""
    for name in ("gate", "audit", "evolve"):
        for job, body in WORKFLOWS[name]["jobs"].items():
            assert "needs" in body or "vars.AVO_" in body["if"], job


def test_the_proposer_holds_the_key_and_no_right_to_write():
    assert "write" not in PERMISSIONS["evolve", "evolve"].values()
    with_key = {place for place, names in SECRETS.items() if "ANTHROPIC_API_KEY" in names}
    assert with_key == {("evolve", "evolve")}


def test_no_job_holds_two_of_the_three_privileges():
    scorers = {place for place in JOBS if not hosted(place)}
    recorders = {p for p, held in PERMISSIONS.items() if held.get("contents") == "write"}
    proposers = {p for p, names in SECRETS.items() if "ANTHROPIC_API_KEY" in names}
    assert scorers and recorders and proposers
    assert not (scorers & recorders or scorers & proposers or recorders & proposers)


def test_the_evolving_job_is_told_to_stop_before_github_ends_it():
    job = JOBS["evolve", "evolve"]
    (step,) = [step for step in job["steps"] if step.get("name") == "evolve"]
    told, killed = (
        int(re.search(pattern, step["run"])[1]) for pattern in (r" (\d+)m python", r"after=(\d+)m")
    )
    assert told + killed + 15 <= job["timeout-minutes"]
    after = job["steps"][job["steps"].index(step) + 1 :]
    assert len(after) == 2 and all(s["if"] == "always()" for s in after)  # the state is kept


def test_labels_of_the_gate_table_are_known_to_the_linter():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["avo"]["gates"]
    asked = {label for gate in table for label in gate["labels"]} - {"self-hosted"}
    linter = yaml.safe_load((ROOT / ".github" / "actionlint.yaml").read_text())
    assert asked <= set(linter["self-hosted-runner"]["labels"])


def test_every_suppression_says_why():
    for name in NAMES:
        for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
            if "zizmor: ignore[" in line:
                assert len(line.partition("]")[2].split()) >= 5, line


def linted(tool: str, *options: str) -> str:
    beside = Path(sys.executable).with_name(tool)
    found = str(beside) if beside.exists() else shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed; .ci/run installs it")
    done = subprocess.run([found, *options], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_actionlint_finds_nothing():
    linted("actionlint", *(str(FOLDER / name) for name in NAMES))


def test_zizmor_finds_nothing_as_a_pedant():
    said = linted("zizmor", "--offline", "--no-progress", "--persona", "pedantic", ".github")
    assert "No findings to report" in said
