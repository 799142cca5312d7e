# SPDX-License-Identifier: MIT
"""Several working lineages in one run, one step each in turn: they never measure at once.

Every so often an island looks at the others; where one stands clearly higher, it goes on from
there. Who came from where is in the journal.
"""

from __future__ import annotations

from collections import Counter

from agent.run import Run
from agent.state import ENDED, MIGRATED, RESET
from agent.working import due, estimate

AHEAD = 0.002  # as a fraction; below it a difference is noise


def free(run: Run) -> int | None:
    """The island whose turn it is: that with the fewest steps; None where all wait."""
    history = run.history
    waiting = Counter(step.island for step in history.unfinished)
    open_ = [n for n in range(run.plan.islands) if waiting[n] < max(run.plan.max_open, 1)]
    return min(open_, key=lambda island: (len(history.island(island)), island), default=None)


def migrate(run: Run, island: int) -> None:
    """Before a step: along with main, back to it where that is due, or over to an island ahead."""
    from datetime import UTC, datetime

    space, main = run.spaces[island], run.clone.synchronise()
    if not run.accepted(island) and space.tip() != main:
        space.return_to_main()  # another island, or somebody else, was faster
    if late := due(run.accepted(island), datetime.now(UTC)):
        space.return_to_main()
        run.journal.append(RESET, island=island, reason=late)
        return
    done = [step for step in run.history.island(island) if step.has(ENDED)]
    moved = len([e for e in run.history.of(MIGRATED) if e.facts["island"] == island])
    if run.plan.islands == 1 or len(done) // run.plan.migrate_every <= moved:
        return
    heights = {n: estimate(run.accepted(n)) for n in range(run.plan.islands)}
    best = max(heights, key=lambda n: (heights[n], -n))
    source = best if heights[best] - heights[island] > AHEAD else island
    if source != island:
        space.return_to_main()
        space.accept(run.spaces[source].tip())
    run.journal.append(
        MIGRATED, island=island, source=source, gain=heights[source], commit=space.tip()
    )
