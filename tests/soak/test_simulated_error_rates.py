# SPDX-License-Identifier: MIT
"""The stated error rate under every kind of noise, ten thousand candidates each; minutes.

    pytest -m soak -s tests/soak/test_simulated_error_rates.py

prints what `avo simulate` prints. Another seed than the command's default.
"""

from __future__ import annotations

import pytest

from avo_pytest.assignment import usable_cores
from avo_pytest.devices.scenarios import NOISES
from avo_pytest.policy import Policy
from avo_pytest.report import simulation
from avo_pytest.simulation.bounds import bounds
from avo_pytest.simulation.campaign import ALL, simulate
from avo_pytest.simulation.measured import OURS

pytestmark = pytest.mark.soak
SEED = 1


def test_all_bounds_hold_and_the_old_rules_fail() -> None:
    policy = Policy()
    measured = simulate(policy, list(NOISES), ALL, seed=SEED, workers=usable_cores())
    found = bounds(measured, alpha=policy.alpha_confirm)
    print(simulation.text(measured, found, policy, SEED))
    assert [b for b in found if not b.holds] == []
    for one in measured:
        old = one.counts["old rules"]
        assert old["one run > stored best"] > 0.48 * old["candidates"]
        assert old["paired, estimate > 0"] > 0.48 * old["candidates"]
        assert old["paired t, peeking"] > 0.25 * old["candidates"]
        if "evolution" in one.counts:
            searches = simulation.searches(one)
            assert searches[OURS][1] < 0.2 < searches["paired, estimate > 0"][1]
