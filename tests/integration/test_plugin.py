# SPDX-License-Identifier: MIT
"""The plugin as a user meets it, up to the first result: options, refusals, collection.

Nothing is built here; whole runs are in test_score_end_to_end.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy  # noqa: F401  (runs in this process must not import these two anew)
import pytest

import avo_pytest.judge  # noqa: F401
from avo_pytest.commands.new import kernel_files

pytestmark = pytest.mark.alone

pytest_plugins = ["pytester"]


def write_kernel(root: Path, name: str) -> None:
    for path, text in kernel_files(name, "cpu").items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


@pytest.fixture
def repository(pytester: pytest.Pytester) -> pytest.Pytester:
    write_kernel(pytester.path, "norm")
    return pytester


def score(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("--avo-score", *arguments)


def refusal(result: pytest.RunResult) -> str:
    """The one line of a usage error."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.errlines if line.strip()]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-n", "2"], "-n (pytest-xdist)"),
        (["--lf"], "--lf"),
        (["--ff"], "--ff"),
        (["--nf"], "--nf"),
        (["--sw"], "--sw"),
        (["--benchmark-only"], "--benchmark-only"),
        (["--benchmark-skip"], "--benchmark-skip"),
        (["-p", "no:terminal"], "-p no:terminal"),
    ],
)
def test_what_would_shrink_or_reorder_the_set_is_refused(repository, arguments, words):
    assert words in refusal(score(repository, *arguments))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ('group.addoption("--reruns", type=int, default=0)', "--reruns"),
        (
            'group.addoption("--randomly-x", dest="randomly_reorganize", default=True)',
            "-p no:randomly",
        ),
    ],
)
def test_plugins_that_reroll_or_shuffle_are_refused(repository, option, words):
    """Their options are what our check reads; the plugins themselves are not installed."""
    repository.makepyfile(
        other=f"def pytest_addoption(parser):\n    group = parser.getgroup('x')\n    {option}\n"
    )
    repository.syspathinsert()
    extra = ["--reruns", "2"] if "reruns" in option else []
    assert words in refusal(score(repository, "-p", "other", *extra))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--avo-blocks", "0"], "--avo-blocks: '0'"),
        (["--avo-target", "sm70"], "auto, cpu, sm80, sm90, sm100"),
        (["--avo-kernel", "nope"], "nope"),
        (["--avo-configuration", "nope*"], "r8192-w1024"),
        (["--avo-baselines", "nope"], "torch-cpu"),
        (["--avo-set", "nope"], "cpu"),
        (["--avo-candidate", "nope"], "nope"),
        (["--avo-device", "tpu"], "tpu"),
        (["--avo-device", "cuda:99"], "cuda:99"),
        (["--avo-device", "cuda", "--avo-target", "cpu"], "target cpu does not run on device cuda"),
    ],
)
def test_a_request_that_cannot_be_served_ends_in_one_line(repository, arguments, words):
    assert words in refusal(score(repository, *arguments))


def test_without_a_kernel_the_way_to_one_is_named(pytester):
    assert "avo new kernel" in refusal(score(pytester))


def test_a_problem_that_does_not_load_is_named_with_its_error(repository):
    (repository.path / "bench" / "norm" / "problem.py").write_text("1 / 0\n")
    assert "bench/norm/problem.py:PROBLEM: ZeroDivisionError" in refusal(score(repository))


def test_of_two_kernels_one_must_be_chosen(repository):
    write_kernel(repository.path, "other")
    assert "norm, other" in refusal(score(repository))


def test_the_table_chooses_the_kernel(repository):
    write_kernel(repository.path, "other")
    repository.makepyprojecttoml('[tool.avo]\nkernel = "other"')
    result = score(repository, "--collect-only", "-q")
    assert result.ret == 0
    assert not [line for line in result.outlines if "bench/norm" in line]
    assert [line for line in result.outlines if "bench/other" in line]


def test_a_scoring_run_collects_the_kernel_whatever_testpaths_say(repository):
    repository.makepyprojecttoml('[tool.pytest.ini_options]\ntestpaths = ["tests"]')
    repository.mkdir("tests").joinpath("test_other.py").write_text("def test_other(): pass\n")
    result = score(repository, "--collect-only", "-q")
    lines = [line for line in result.outlines if "::" in line]
    assert lines
    assert all(line.startswith("bench/norm/test_norm.py::") for line in lines)


def test_correctness_comes_first_and_one_seed_gives_one_set(repository):
    first, second = (
        [line for line in score(repository, "--collect-only", "-q", *seed).outlines if "::" in line]
        for seed in (["--avo-seed", "7"], ["--avo-seed", "7"])
    )
    assert first == second
    kinds = ["throughput" in line for line in first]
    assert kinds == sorted(kinds)
    assert any(kinds) and not all(kinds)


def test_tests_that_are_not_judged_keep_out_of_a_scoring_run(repository):
    (repository.path / "bench" / "norm" / "test_more.py").write_text("def test_more(): pass\n")
    result = score(repository, "--collect-only", "-q")
    result.stdout.fnmatch_lines(["*1 deselected*"])


def test_a_name_that_says_neither_kind_is_an_error_in_one_line(repository):
    (repository.path / "bench" / "norm" / "test_norm.py").write_text(
        "def test_speed(judged, configuration): pass\n"
    )
    result = score(repository)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*test_speed uses the fixture*correctness*throughput*"])
    result.stdout.no_fnmatch_line("Traceback*")


def test_a_fixture_called_configuration_elsewhere_is_left_alone(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def configuration():
            return 42

        def test_own(configuration):
            assert configuration == 42
        """
    )
    assert pytester.runpytest_inprocess().ret == 0


def test_workers_of_xdist_do_not_judge(repository):
    result = repository.runpytest_subprocess("bench", "-n", "1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*one at a time*without -n*"])


def test_help_lists_all_options_in_one_group(pytester):
    result = pytester.runpytest_inprocess("--help")
    result.stdout.fnmatch_lines(["*avo-pytest*", "*--avo-score*", "*--avo-exit-verdict*"])


def test_importing_the_plugin_costs_little():
    """At most 20 ms over `import pytest`; the best of some, for machines that are busy."""
    code = (
        "import pytest, time; start = time.process_time(); import avo_pytest.plugin; "
        "print(time.process_time() - start)"
    )
    line, seconds = [sys.executable, "-c", code], []
    while len(seconds) < 20 and min(seconds, default=1.0) > 0.020:
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        seconds.append(float(done.stdout))
    assert min(seconds) <= 0.020


def test_a_record_that_exists_already_does_not_become_the_root(repository, tmp_path_factory):
    record = tmp_path_factory.mktemp("elsewhere") / "r.json"
    record.write_text("{}")
    command = [sys.executable, "-m", "pytest", "--avo-score", "--avo-json", str(record)]
    done = subprocess.run(command, cwd=repository.path, capture_output=True, text=True)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--avo-json=PATH" in done.stderr
