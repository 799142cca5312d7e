# SPDX-License-Identifier: MIT
"""`avo runner`: the steps of a scoring machine, their texts by a real shell; the broker against
GitHub's interface on loopback and a program in ssh's place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from avo_pytest.loading import _module
from avo_pytest.runner import broker, texts
from avo_pytest.runner.machine import Machine, steps
from avo_pytest.runner.steps import Step, set_up, undo

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
github_api = _module(TESTS / "github_api.py")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, as scoring machines do")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtleQ"


def avo(*line: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "avo_pytest.runner", *line], cwd=cwd, capture_output=True,
        text=True, timeout=100, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "actions-runner.tar.gz"
    path.write_bytes(b"no archive")
    return path


def everything(tmp_path: Path, archive: Path) -> Machine:
    return Machine(
        gpu=True,
        lock=ROOT / "requirements" / "gpu.txt",
        prefix=tmp_path / "a 'quoted' prefix",
        clock_mhz=1500,
        archive=archive,
        archive_sha256="0" * 64,
        broker_key=KEY,
    )


@linux
def test_every_text_of_every_step_is_shell_with_any_prefix(tmp_path: Path, archive: Path) -> None:
    for step in steps(everything(tmp_path, archive)):
        assert not step.lacks
        for text in (step.check, step.apply, step.undo):
            done = subprocess.run(["bash", "-n", "-c", text], capture_output=True, text=True)
            assert done.returncode == 0, (step.name, text, done.stderr)


@linux
def test_a_dry_run_shows_every_step_and_touches_nothing(tmp_path: Path) -> None:
    prefix = tmp_path / "opt"
    done = avo(
        "setup", "--dry-run", "--device", "cpu", "--prefix", str(prefix), "--user", "nobodyx"
    )
    assert done.returncode == 0, done.stderr
    for step in steps(Machine(gpu=False, lock=ROOT / "requirements" / "cpu.txt", prefix=prefix)):
        assert step.name in done.stdout
    assert "useradd" in done.stdout and "--runner-archive" in done.stdout
    assert not prefix.exists()


@linux
def test_a_bare_python_suffices(tmp_path: Path) -> None:
    """No package but the standard library: that is what a new machine has."""
    line = [sys.executable, "-I", "-S", "-c",
            "import runpy, sys; sys.path.insert(0, sys.argv.pop(1));"
            "runpy.run_module('avo_pytest.runner', run_name='__main__', alter_sys=True)",
            str(ROOT), "matrix", "--role", "judge", "--root", str(ROOT)]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    name, _, matrix = done.stdout.strip().partition("=")
    rows = json.loads(matrix)
    assert name == "matrix" and {row["role"] for row in rows} == {"judge"}
    assert all(row["labels"] and row["kernel"] and row["name"] for row in rows)


def made(path: Path, undone: bool = True) -> Step:
    return Step(
        name=path.name,
        what="a file",
        check=f"test -e {path}",
        apply=f"echo once >> {path}",
        undo=f"rm {path}" if undone else "",
    )


@linux
def test_steps_are_done_once_and_undone_in_the_other_order(tmp_path: Path) -> None:
    first, second = made(tmp_path / "first"), made(tmp_path / "second")
    told: list[str] = []
    assert [r.outcome for r in set_up((first, second), lambda r: None)] == ["made", "made"]
    assert [r.outcome for r in set_up((first, second), lambda r: None)] == ["done", "done"]
    assert (tmp_path / "first").read_text() == "once\n"
    undo((first, second), lambda r: told.append(r.step.name))
    assert told == ["second", "first"] and not list(tmp_path.iterdir())


@linux
def test_a_step_that_does_not_achieve_what_it_checks_ends_the_rest(tmp_path: Path) -> None:
    futile = Step(name="futile", what="", check="false", apply="echo tried")
    results = set_up((futile, made(tmp_path / "later")), lambda r: None)
    assert [r.outcome for r in results] == ["failed"] and not list(tmp_path.iterdir())


@linux
def test_the_environment_is_compared_with_its_lock(tmp_path: Path) -> None:
    """The check that a machine's environment has to pass, against this one."""
    import importlib.metadata

    here = {d.name: d.version.partition("+")[0] for d in importlib.metadata.distributions()}
    exact = tmp_path / "exact.txt"
    exact.write_text("# all of it\n" + "".join(f"{n}=={v}\n" for n, v in sorted(here.items())))
    stale = tmp_path / "stale.txt"
    stale.write_text(exact.read_text().replace(f"pytest=={here['pytest']}\n", "pytest==0.1\n"))
    short = tmp_path / "short.txt"
    short.write_text("".join(f"{n}=={v}\n" for n, v in sorted(here.items()) if n != "numpy"))
    more = tmp_path / "more.txt"
    more.write_text(exact.read_text() + "never-heard-of==1.0\n")
    run = [sys.executable, "-I", "-", str(ROOT)]
    for lock, code, said in (
        (exact, 0, "versions"), (stale, 1, "pytest is"), (short, 1, "numpy"), (more, 1, "missing")
    ):  # fmt: skip
        done = subprocess.run(
            [*run, str(lock)], input=texts.COMPARE, capture_output=True, text=True
        )
        assert done.returncode == code and said in done.stdout, (lock, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "line",
    [
        ("setup", "--only", "nothing"),
        ("setup", "--user", "a;b"),
        ("setup", "--lock", "/nowhere"),
        ("setup", "--runner-sha256", "abc"),
    ],
)
@linux
def test_what_makes_no_sense_is_refused(line: tuple[str, ...]) -> None:
    done = avo(*line)
    assert done.returncode == 2 and done.stderr.startswith("avo runner: "), done.stderr


@linux
def test_a_broker_key_is_one_public_key(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.pub", tmp_path / "bad.pub"
    good.write_text(f"{KEY} somebody@somewhere\n")
    bad.write_text(f'command="sh" {KEY}\n')
    shown = avo("setup", "--dry-run", "--only", "broker", "--broker-key", str(good))
    assert shown.returncode == 0 and f'run-once" {KEY}' in shown.stdout.replace("'", "")
    assert avo("setup", "--dry-run", "--broker-key", str(bad)).returncode == 2


def test_a_registration_goes_to_the_machine_and_nowhere_else(tmp_path: Path) -> None:
    got, command = tmp_path / "got", tmp_path / "ssh"
    command.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/argv"\ncat > "{got}"\nexit 3\n')
    command.chmod(0o755)
    answer = {"runner": {"id": 42, "name": "avo-1"}, "encoded_jit_config": "c2VjcmV0"}
    with github_api.serve("owner/name") as github:
        github.extra["POST", "actions/runners/generate-jitconfig"] = (201, answer)
        github.extra["DELETE", "actions/runners/42"] = (204, None)
        environment = github.environment() | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = avo("broker", "me@scorer", "--repository", "owner/name", "--labels",
                   "self-hosted,gpu", "--jobs", "1", **environment)  # fmt: skip
        asked = [(e.method, e.path, e.body) for e in github.exchanges]
    assert done.returncode == 0 and "job 1: status 3" in done.stdout, done.stderr
    assert got.read_text() == "c2VjcmV0\n"
    assert "c2VjcmV0" not in (tmp_path / "argv").read_text() + done.stdout + done.stderr
    assert [a[0] for a in asked] == ["POST", "DELETE"]  # the registration does not outlive the job
    assert asked[0][2]["labels"] == ["self-hosted", "gpu"]


@pytest.mark.parametrize("answer", [{}, {"runner": {"id": 1}, "encoded_jit_config": "a b"}])
def test_an_answer_that_is_no_registration_is_an_error(answer: dict) -> None:
    class Odd:
        def post(self, path: str, body: object) -> object:
            return answer

        def delete(self, path: str) -> None: ...

    scorer = broker.Scorer(command=("false",), labels=("x",), name="n")
    with pytest.raises(broker.BrokerError):
        broker.one_job(Odd(), scorer)


def test_a_host_is_no_option_of_ssh() -> None:
    with pytest.raises(broker.BrokerError):
        broker.over_ssh("-oProxyCommand=sh")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_the_units_are_units(tmp_path: Path) -> None:
    path = tmp_path / "avo-governor.service"
    path.write_text(texts.GOVERNOR)
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True)
    assert "Unknown" not in done.stderr and "Invalid" not in done.stderr
