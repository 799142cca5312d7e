# SPDX-License-Identifier: MIT
"""From a record to its line in the ledger, for records that came to an end early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from avo_pytest.entries import from_line, to_line
from avo_pytest.loading import _module
from avo_pytest.recording import Circumstances, entry_of
from avo_pytest.score import Record, Stage

synthetic = _module(Path(__file__).parents[1] / "synthetic.py")


def of_the_screen(blocks: int) -> Record:
    """A record that ended after so many blocks of its screen."""
    whole = synthetic.record()
    screen = [r.number for r in whole.replicates if r.stage is Stage.SCREEN]
    kept = [s for s in whole.samples if s.replicate in screen and s.block < blocks]
    return replace(
        whole,
        run="20260102-000000-abcdef",
        samples=tuple(kept),
        replicates=tuple(r for r in whole.replicates if r.number in screen),
    )


@pytest.mark.parametrize(("blocks", "told"), [(0, False), (1, False), (3, False), (8, True)])
def test_any_number_of_blocks_makes_a_line(blocks: int, told: bool) -> None:
    """An interval takes four blocks; without one there are no figures, and still an entry."""
    entry = entry_of(of_the_screen(blocks), Circumstances())
    assert to_line(from_line(to_line(entry))) == to_line(entry)
    assert (entry.overall is not None) == told
    assert all(("tflops" in row) == told for row in entry.configurations.values())
