# SPDX-License-Identifier: MIT
"""A judge run by a command rather than by pytest: with progress, and Ctrl-C keeps what there is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avo_pytest.assignment import Request
    from avo_pytest.judge import Judge
    from avo_pytest.score import Record


def judged(request: Request, work: Callable[[Judge], object]) -> tuple[Judge, Record | None]:
    """Do `work` with a judge; its record, None where nothing was judged. Raises RequestError."""
    from avo_pytest.interruption import Interruption
    from avo_pytest.judge import Judge
    from avo_pytest.report.outcome import INTERRUPTED
    from avo_pytest.report.progress import Progress

    progress, interruption, stopped = Progress(sys.stdout), Interruption(), ""

    def listen(event: str, **facts: Any) -> None:
        if progress.due(event):
            progress.show(event, **facts)

    judge = Judge(request, listen)
    interruption.begin()
    try:
        work(judge)
    except KeyboardInterrupt:
        stopped = INTERRUPTED
    finally:
        progress.stop()
        record = judge.finish(stopped)
        interruption.end()
    return judge, record
