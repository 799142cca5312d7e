# SPDX-License-Identifier: MIT
"""Is everything there that was planned, once, and nothing else? Anything else is INVALID."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from avo_pytest.evidence import EvidenceError, Launches, disorder, gather
from avo_pytest.policy import Policy
from avo_pytest.processes import ARMS
from avo_pytest.score import Record, Replicate, Stage, Status
from avo_pytest.verdict import Reason

_AGAIN = "the confirm counts as an attempt; run it again"


def whole(record: Record, policy: Policy) -> Reason | None:
    """A machine's share of a confirm decides nothing, whatever it shows."""
    if "share" not in record.plan:
        return None
    text = f"share {str(record.plan['share'])[:9]} of a confirm is no confirm"
    return Reason("share", text, "`avo merge` all of its shares")


def replicates(record: Record, policy: Policy) -> Reason | None:
    """Numbered without gap, each a process that ended well and loaded the three arms."""
    numbers = sorted(r.number for r in record.replicates)
    if not numbers or numbers != list(range(len(numbers))):
        text = f"{len(numbers)} processes that are not numbered from 0 on"
        return Reason("replicates", text, _AGAIN)
    for r in sorted(record.replicates, key=lambda r: r.number):
        if (wrong := _wrong(r, policy)) is not None:
            return Reason("replicates", f"replicate {r.number}: {wrong}", _AGAIN)
    return None


def checked(record: Record, policy: Policy) -> Reason | None:
    """The candidate on the correctness set, and in full on all configurations of each process."""
    good = {(c.replicate, c.configuration) for c in record.checks if c.arm == "candidate" and c.ok}
    if record.mode != "calibrate" and not any(replicate is None for replicate, _ in good):
        return Reason("checks", "no check of the candidate on the correctness set", _AGAIN)
    for r in sorted(record.replicates, key=lambda r: r.number):
        for name in policy.configurations:
            if (r.number, name) not in good:
                text = f"replicate {r.number}: no check of the candidate on {name}"
                return Reason("checks", text, _AGAIN)
    return None


def observed(record: Record, policy: Policy) -> Reason | None:
    """Readings around every block, once."""
    for entry in record.blocks:
        pair = [entry[key] for key in ("before", "after") if key in entry]
        if any(type(entry.get(key)) is not int for key in ("replicate", "block")):
            return Reason("readings", "a block's readings do not say where they belong", _AGAIN)
        if not all(isinstance(reading, Mapping) for reading in pair):
            return Reason("readings", "a block's readings are not a table", _AGAIN)
    keys = Counter((b["replicate"], b["block"]) for b in record.blocks)
    closed = {(b["replicate"], b["block"]) for b in record.blocks if "before" in b and "after" in b}
    launched = {(s.replicate, s.block) for s in record.samples}
    confirm = {r.number for r in record.replicates if r.stage is Stage.CONFIRM}
    for replicate, block in sorted(launched):
        stopped = replicate not in confirm and (replicate, block + 1) not in launched
        if (replicate, block) not in closed and not stopped:
            text = f"replicate {replicate}, block {block}: no readings before and after it"
            return Reason("readings", text, _AGAIN)
    if extra := [k for k, n in keys.items() if n > 1 or (k not in launched and k[0] in confirm)]:
        return Reason("readings", f"readings of a block that was not launched: {extra[0]}", _AGAIN)
    return None


RULES = (replicates, checked, observed)


def launches(record: Record, policy: Policy, stage: Stage) -> Launches:
    """All launches of a stage, complete and in order. Raises EvidenceError with the sentence.

    A screen may have been stopped: the torn block at the end of a process does not count.
    """
    planned = {r.number: r.blocks for r in record.replicates if r.stage is stage}
    known = {r.number for r in record.replicates}
    if strangers := {s.replicate for s in record.samples} - known:
        raise EvidenceError(f"samples of a replicate that never was: {min(strangers)}")
    samples = [s for s in record.samples if s.replicate in planned]
    found = gather(samples, policy.configurations, ARMS)
    if stage is Stage.SCREEN:
        found = _less_torn_ends(found)
    if not found.rows:
        raise EvidenceError(f"no whole block of the {stage}")
    for number, blocks in planned.items():
        have = [block for replicate, block in found.rows if replicate == number]
        wanted = blocks if stage is not Stage.SCREEN else min(blocks, len(have))
        if have != list(range(wanted)):
            raise EvidenceError(
                f"replicate {number}: {len(have)} of {blocks} blocks have launches"
                if len(have) < blocks
                else f"replicate {number}: {len(have)} blocks, {blocks} were planned"
            )
    if wrong := found.missing() or disorder(found):
        raise EvidenceError(wrong)
    return found


def _wrong(r: Replicate, policy: Policy) -> str | None:
    limit = {Stage.SCREEN: policy.screen_blocks, Stage.CONFIRM: policy.confirm_blocks}
    if r.stage not in limit:
        return f"its stage is {r.stage}"
    if r.status is not Status.OK:
        return f"{r.status}: {r.reason or 'the process was lost'}"
    exact = r.stage is Stage.CONFIRM
    if not 0 < r.blocks <= limit[r.stage] or (exact and r.blocks != limit[r.stage]):
        return f"{r.blocks} blocks were planned, {limit[r.stage]} are the policy's"
    if sorted(r.loaded) != sorted(ARMS):
        return f"it loaded {', '.join(r.loaded) or 'nothing'}, not {', '.join(ARMS)}"
    if not (0 <= r.start_seconds <= r.seconds and 0 < r.seconds < math.inf):
        return f"it took {r.seconds} s, of which {r.start_seconds} s to start"
    return None


def _less_torn_ends(found: Launches) -> Launches:
    """Without the last block of a process where that is incomplete."""
    torn = np.asarray(np.isnan(found.log_ms).any(axis=(1, 2, 3)))
    last = dict(found.rows)  # replicate → its highest block, for rows are sorted
    keep = [not t or last[row[0]] != row[1] for row, t in zip(found.rows, torn, strict=True)]
    return found.chosen(np.array(keep, dtype=bool))
