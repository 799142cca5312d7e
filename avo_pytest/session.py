# SPDX-License-Identifier: MIT
"""The judges of one pytest run: what the hooks of plugin.py hand over to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from avo_pytest import collection, options
from avo_pytest.interruption import Interruption
from avo_pytest.options import Options
from avo_pytest.report.progress import Progress

if TYPE_CHECKING:
    from avo_pytest.judge import Judge, Request
    from avo_pytest.score import Check, Record, Sample
    from avo_pytest.summary import Summary

PYTEST_REPORTS = "fE"  # what pytest lists at the end when not asked for anything else
PLAIN_BLOCKS = 3  # `pytest bench/` is for a quick look, not for a score


class Session:
    """Judges by kernel, made when first asked for. In a scoring run there is exactly one."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.options = _effective(options.from_config(config))
        self.judges: dict[str, Judge] = {}
        self._results: dict[str, tuple[Record, Summary]] = {}
        self._progress: Progress | None = None
        self._interruption = Interruption()

    def start_scoring(self) -> None:
        """Make the scoring run's judge; what cannot be scored ends the run before it begins."""
        from avo_pytest.judge import RequestError

        collection.refuse(self.config)
        collection.refuse_a_strange_root(self.config)
        kernel = collection.choose_kernel(self.config.rootpath, self.options.kernel)
        self.options = replace(self.options, kernel=kernel)
        try:
            self.judge(kernel)
        except RequestError as error:
            raise pytest.UsageError(str(error)) from None
        collection.default_paths(self.config, kernel)
        if hasattr(self.config.option, "benchmark_quiet"):
            self.config.option.benchmark_quiet = True  # the scoreboard is the table
        self._interruption.begin()

    def judge(self, kernel: str) -> Judge:
        """The judge of a kernel. Raises RequestError."""
        if kernel not in self.judges:
            from avo_pytest.judge import Judge

            self.judges[kernel] = Judge(self._request(kernel), self.listen)
        return self.judges[kernel]

    def names(self, kernel: str, kind: collection.Kind) -> list[str]:
        """Configurations to parametrise a test with."""
        from avo_pytest.judge import RequestError

        try:
            judge = self.judge(kernel)
        except RequestError as error:
            raise pytest.Collector.CollectError(str(error)) from None
        return judge.correctness_names() if kind == "correctness" else judge.throughput_names()

    def select(self, items: list[pytest.Item]) -> None:
        """Order the items and tell each judge what is left of its set after `-k` and the like."""
        if self.options.score:
            self._leave_reasons_to_the_scoreboard()
            kernel = self.options.kernel
            collection.keep_only(
                items,
                self.config,
                lambda i: collection.is_judged(i) and collection.kernel_of(i.path) == kernel,
            )
        collection.arrange(items)
        for kernel, judge in self.judges.items():
            chosen = {kind: collection.selected(items, kernel, kind) for kind in collection.KINDS}
            complete = len(chosen["correctness"]) == len(judge.correctness_names()) and len(
                chosen["throughput"]
            ) == len(judge.throughput_names())
            if not complete:
                judge.select(chosen["throughput"])

    def judged(self, kernel: str) -> Judged:
        """What the tests of a kernel see. One kernel is judged at a time."""
        for other in self.judges:
            if other != kernel:
                self._finish(other)
        return Judged(self, kernel)

    def listen(self, event: str, **facts: Any) -> None:
        """Show one of the judge's events past pytest's capture."""
        if self._progress is not None and not self._progress.due(event):
            return
        with self._uncaptured():
            if self._progress is None:
                self._progress = Progress(sys.stdout)
            self._progress.show(event, **facts)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """While a test waits for the judge: what must end the run ends it with one sentence."""
        from avo_pytest.judge import JudgeFault, RequestError

        if self._progress is not None:
            self._progress.begin()
        try:
            yield
        except RequestError as error:
            _end(str(error), pytest.ExitCode.USAGE_ERROR)
        except JudgeFault as error:
            _end(f"the judge failed: {error}", pytest.ExitCode.INTERNAL_ERROR)
        finally:
            if self._progress is not None:
                with self._uncaptured(newline=False):
                    self._progress.stop()

    def finish(self, status: int) -> int:
        """Stop all judges, keep their records, and say how the run ends."""
        for kernel in self.judges:
            self._finish(kernel, stopped=status == pytest.ExitCode.INTERRUPTED)
        if not self.options.score or self.config.option.collectonly:
            return status
        if status in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
            self._results.clear()  # the sentence that ended the run says it all
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return status
        return self._scored_status(status)

    def report(self, width: int | None, *, color: bool) -> str:
        """The scoreboard of a scoring run; empty where nothing was judged."""
        if not self.options.score or not self._results:
            return ""
        from avo_pytest.report.terminal import scoreboard

        return "\n".join(
            scoreboard(
                record,
                summary,
                width=width,
                color=color,
                saved=self._saved(kernel),
                candidate=self.options.candidate,
            )
            for kernel, (record, summary) in self._results.items()
        )

    def end(self) -> list[str]:
        """Nothing is left to be kept. The line for scripts, to be printed after everything else."""
        self._interruption.end()
        if not self.options.score or not self._results:
            return []
        from avo_pytest.report.outcome import last_line

        return [last_line(record, summary) for record, summary in self._results.values()]

    def _leave_reasons_to_the_scoreboard(self) -> None:
        """No tracebacks, and no list of failed tests between what to do next and the last line."""
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None:
            return
        if self.config.option.tbstyle == "auto":
            self.config.option.tbstyle = "no"
        if self.config.option.reportchars == PYTEST_REPORTS:
            terminal.reportchars = ""

    def _scored_status(self, status: int) -> int:
        """A scoring run may pass only with a score, and may want its verdict as exit code."""
        from avo_pytest.report.outcome import Outcome, exit_code, outcome

        found = [outcome(*result) for result in self._results.values()] or [Outcome.UNMEASURED]
        if self.options.exit_verdict:
            codes = [exit_code(*result) for result in self._results.values()]
            return codes[0] if codes else Outcome.UNMEASURED.value
        lost = any(judge.lost for judge in self.judges.values())
        kept = found[0] is Outcome.MEASURED and not lost
        return status if kept else pytest.ExitCode.TESTS_FAILED

    def _finish(self, kernel: str, *, stopped: bool = False) -> None:
        from avo_pytest.report.outcome import INTERRUPTED
        from avo_pytest.summary import summarise

        record = self.judges[kernel].finish(INTERRUPTED if stopped else "")
        if record is not None:
            self._results[kernel] = record, summarise(record)

    def _saved(self, kernel: str) -> Path | None:
        path = self.judges[kernel].run.journal.folder / "record.json"
        return path if path.is_file() else None

    def _request(self, kernel: str) -> Request:
        from avo_pytest.judge import Request

        o = self.options
        return Request(
            root=self.config.rootpath,
            kernel=kernel,
            target=o.target,
            device=o.device,
            devices=o.devices,
            share=o.share,
            candidate=o.candidate,
            incumbent=o.incumbent,
            set=o.set,
            configuration=o.configuration,
            baselines=o.baselines,
            blocks=o.blocks,
            seed=o.seed,
            mode=o.mode,
            regime=o.regime,
            timeout_s=o.timeout,
            twin=o.twin,
            threads=o.threads,
            json=o.json,
            nonce=o.nonce,
        )

    @contextmanager
    def _uncaptured(self, *, newline: bool = True) -> Iterator[None]:
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if capture is None or terminal is None:
            yield
            return
        with capture.global_and_fixture_disabled():
            if newline:
                terminal.ensure_newline()
                if (writer := self.config.get_terminal_writer()).width_of_current_line:
                    writer.line()  # dots that followed a line of ours, unknown to pytest
            yield


class Judged:
    """The `judged` fixture: a kernel's results by configuration."""

    def __init__(self, session: Session, kernel: str) -> None:
        self._session = session
        self._judge = session.judges[kernel]

    def correctness(self, configuration: str) -> Check:
        """The check of one correctness configuration; `ok` and, if not, a `reason`."""
        with self._session.asking():
            return self._judge.correctness(configuration)

    def throughput(self, configuration: str) -> list[Sample]:
        """The verified, timed launches of one throughput configuration; none where it failed."""
        with self._session.asking():
            return self._judge.throughput(configuration)

    def failure(self, configuration: str) -> str:
        """Why a configuration has no launches."""
        return self._judge.failure(configuration)

    def facts(self, configuration: str) -> tuple[str, dict[str, Any]]:
        """Group of a throughput configuration, and what pytest-benchmark's JSON says about it."""
        assignment = self._judge.run.assignment
        found = next(c for c in assignment.throughput if c.name == configuration)
        facts = {
            "kernel": assignment.problem.name,
            "target": assignment.target,
            "arm": "candidate",
            "flops": assignment.problem.flops(found),
        }
        return found.group, facts


def _effective(asked: Options) -> Options:
    """A plain `pytest bench/` looks at the working tree only, and briefly."""
    if asked.score:
        return asked
    return replace(
        asked,
        mode="measure",
        devices=(),
        share="",
        incumbent=asked.incumbent or "none",
        baselines=() if asked.baselines is None else asked.baselines,
        blocks=asked.blocks or PLAIN_BLOCKS,
    )


def _end(sentence: str, code: pytest.ExitCode) -> NoReturn:
    pytest.exit(sentence, returncode=code)
