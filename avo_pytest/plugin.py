# SPDX-License-Identifier: MIT
"""The pytest plugin: hand-overs only. Nothing heavy is imported before a kernel is judged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from avo_pytest import collection, options

if TYPE_CHECKING:
    from avo_pytest.score import Sample
    from avo_pytest.session import Judged, Session

SESSION = pytest.StashKey["Session"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("avo_score"):
        _session(config).start_scoring()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"judged", "configuration"} <= set(metafunc.fixturenames):
        kind = collection.kind_of(metafunc.function.__name__)
        kernel = collection.kernel_of(metafunc.definition.path)
        distributed = hasattr(metafunc.config, "workerinput")  # see `judged`
        names = ["any"] if distributed else _session(metafunc.config).names(kernel, kind)
        metafunc.parametrize("configuration", names)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    if SESSION in config.stash and not session.testsfailed:  # else collection failed
        config.stash[SESSION].select(items)


@pytest.fixture
def judged(request: pytest.FixtureRequest) -> Judged:
    """What the judge finds out about this folder's kernel, by configuration."""
    if hasattr(request.config, "workerinput"):
        pytest.fail("kernels are judged one at a time: run without -n", pytrace=False)
    return _session(request.config).judged(collection.kernel_of(request.node.path))


@pytest.fixture
def replay(
    request: pytest.FixtureRequest, judged: Judged, configuration: str
) -> Callable[[Sequence[Sample]], None]:
    """Gives launches that the judge timed to pytest-benchmark's table and JSON."""
    from avo_pytest.replay import replayer

    return replayer(request, *judged.facts(configuration))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if SESSION in session.config.stash:
        session.exitstatus = session.config.stash[SESSION].finish(exitstatus)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if SESSION in terminalreporter.config.stash:
        columns = shutil.get_terminal_size().columns
        limited = terminalreporter.isatty() or "COLUMNS" in os.environ
        text = terminalreporter.config.stash[SESSION].report(
            columns if limited else None, color=terminalreporter.hasmarkup
        )
        terminalreporter.write("\n" + text if text else "")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if SESSION in config.stash:
        for line in config.stash[SESSION].end():
            config.get_terminal_writer().line(line)


def _session(config: pytest.Config) -> Session:
    if SESSION not in config.stash:
        from avo_pytest.session import Session

        config.stash[SESSION] = Session(config)
    return config.stash[SESSION]
