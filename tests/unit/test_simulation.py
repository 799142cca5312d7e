# SPDX-License-Identifier: MIT
"""`avo simulate` in small: arrays, records, old rules, and bounds that notice a broken rule."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import stats

from avo_pytest.devices.scenarios import NOISES, Noise
from avo_pytest.policy import Policy
from avo_pytest.power import power
from avo_pytest.promotion import Kind, decide
from avo_pytest.report import simulation as report
from avo_pytest.screen import minimum_blocks, scale, screen
from avo_pytest.simulation import naive
from avo_pytest.simulation.bounds import Bound, Rate, bounds
from avo_pytest.simulation.launches import ARMS, Size, draw
from avo_pytest.simulation.measured import OURS, SLOW_MODES, Measured, SlowMode
from avo_pytest.simulation.screening import promising
from avo_pytest.simulation.trials import HEAT, Task, decided, run
from avo_pytest.simulation.world import process_sd, small, world

POLICY = Policy()
SIZE = Size(replicates=3, blocks=4, configurations=2)
SILENT = Noise(launch=0.0, layout=0.0)


def generator(seed=0):
    return np.random.default_rng(seed)


def task(trial, count, *, noise="normal", seed=0, policy=POLICY, excess=0.0):
    return Task(trial=trial, noise=noise, count=count, seed=(seed,), policy=policy, excess=excess)


@pytest.fixture(scope="module")
def here():
    return world("normal", small(POLICY), generator())


def test_turns_are_an_order_and_its_reverse():
    position = draw(SILENT, SIZE, np.zeros(5), generator()).position
    assert position.shape == (5, 3, 4, 2, 2, 3)
    assert np.array_equal(np.sort(position, axis=-1), np.broadcast_to([0, 1, 2], position.shape))
    assert np.array_equal(position[..., 0, :] + position[..., 1, :], np.full((5, 3, 4, 2, 3), 2))
    assert len(np.unique(position[..., 0, :].reshape(-1, 3), axis=0)) == 6


def test_a_gain_is_what_is_measured():
    launches = draw(SILENT, SIZE, np.array([0.01, -0.02]), generator())
    assert launches.process_values() == pytest.approx(np.array([[0.01] * 3, [-0.02] * 3]))
    assert launches.process_values(ARMS.index("null"), 1) == pytest.approx(np.zeros((2, 3)))


def test_launches_carry_over_in_the_order_of_the_protocol():
    """Of x y z z y x the fourth follows itself; the first follows the primer, whatever it was."""
    launches = draw(replace(SILENT, carry=0.01), SIZE, np.zeros(40), generator())
    by_position = np.take_along_axis(
        launches.log_ms, np.argsort(launches.position, axis=-1), axis=-1
    ).reshape(-1, 6)
    assert by_position[:, [1, 2, 4, 5]] == pytest.approx(0.01)
    assert by_position[:, 3] == pytest.approx(0.0)
    assert np.mean(by_position[:, 0]) == pytest.approx(0.01 * 2 / 3, rel=0.1)


def test_heat_burdens_who_runs_after_the_candidate():
    launches = draw(SILENT, SIZE, np.zeros(200), generator(), heat=0.06)
    times = launches.log_ms.reshape(-1, 3).mean(axis=0)
    # of its launches each other arm makes 7 of 18 after the candidate, the candidate 4 of 18
    assert times == pytest.approx([0.06 * 4 / 18, 0.06 * 7 / 18, 0.06 * 7 / 18], rel=0.05)


def test_drift_is_common_and_layout_is_not():
    drifting = draw(replace(SILENT, drift=0.001), SIZE, np.zeros(300), generator())
    assert drifting.log_ms.std() > 0.005
    assert drifting.process_values().std() < 0.001
    laid_out = draw(replace(SILENT, layout=0.001), SIZE, np.zeros(300), generator())
    assert laid_out.process_values().std() == pytest.approx(0.001 * np.sqrt(2), rel=0.1)
    assert np.ptp(laid_out.paired(), axis=2).max() < 1e-12


def test_tails_and_modes():
    def kurtosis(noise):
        return stats.kurtosis(draw(noise, SIZE, np.zeros(300), generator()).log_ms, axis=None)

    assert kurtosis(NOISES["tails"]) > 10
    assert abs(kurtosis(NOISES["normal"])) < 0.5
    modes = draw(replace(SILENT, slow=0.01, slow_loads=0.25), SIZE, np.zeros(300), generator())
    assert set(np.unique(modes.log_ms.round(9))) == {0.0, 0.01}
    assert (modes.log_ms > 0.005).mean() == pytest.approx(0.25, abs=0.05)


def test_the_real_rule_promotes_a_real_gain_and_only_for_its_own_policy(here):
    launches = draw(here.noise, here.recorder.size, np.array([0.01, -0.01]), generator())
    faster, slower = (here.recorder.record(launches, i) for i in (0, 1))
    assert decide(faster, here.policy).kind is Kind.PROMOTE
    assert decide(faster, here.policy).gain == pytest.approx(0.01, abs=0.001)
    assert decide(slower, here.policy).kind is Kind.REJECT
    real = replace(here.policy, isolation="device-only")
    verdict = decide(replace(faster, policy=asdict(real)), real)
    assert (verdict.kind, verdict.reasons[0].rule) == (Kind.INVALID, "isolation")


def test_the_array_screen_is_the_screen(here):
    d = here.blocks(generator().normal(0.0005, 0.001, size=60), POLICY.screen_blocks, generator(1))
    rho = scale(here.calibration.block_sd)

    def sequential(values):
        for n in range(minimum_blocks(POLICY.alpha_screen), len(values) + 1):
            seen = screen(values[:n], rho=rho, min_gain=here.min_gain, alpha=POLICY.alpha_screen)
            if seen.decision != "continue":
                return seen.decision == "promising"
        return False

    expected = [sequential(values) for values in d]
    assert 0 < sum(expected) < len(expected)
    assert promising(d, POLICY, rho, here.min_gain).tolist() == expected


def test_a_slow_mode_is_the_candidates_alone():
    size = Size(replicates=4000, blocks=1, configurations=1)
    mode = SlowMode(0.05, 0.02)
    made = draw(SILENT, size, np.array([0.003]), generator(), mode=mode)
    d = made.process_values()[0]
    assert np.allclose(np.unique(d.round(9)), [0.003 - 0.02, 0.003])
    assert (d < 0).mean() == pytest.approx(mode.share, abs=0.02)  # 5.8 sigma
    assert not made.process_values(2, 1).any()


def test_a_rare_slow_mode_is_promoted_more_often_than_promised():
    """What docs/simulation.md warns of: at a true mean gain of just min_gain."""
    counts = run(task("slow mode", 60))
    rates = {name: counts[f"{name}: promoted"] / counts[f"{name}: confirms"] for name in SLOW_MODES}
    worst = "5 % of processes 2 % slower"
    assert rates[worst] > 20 * POLICY.alpha_confirm
    table = report.text([measured({"slow mode": counts})], [], POLICY, 0)
    assert f"{worst}" in table and "66.3%" in table and f"{rates[worst]:.2%}" in table


@pytest.mark.parametrize("trial", ["no change", "both stages", "old rules"])
def test_a_task_is_decided_by_its_seed(trial):
    found = run(task(trial, 20, noise="layout"))
    assert found == run(task(trial, 20, noise="layout"))
    assert found != run(task(trial, 20, noise="layout", seed=1))


def test_a_search_counts_what_each_rule_promotes_claims_and_gains():
    counts = run(task("evolution", 1, noise="layout"))
    searches = report.searches(measured({"evolution": counts}))
    promoted, no_better, true, claimed = searches[OURS]
    assert promoted > 5 and no_better == 0
    assert claimed == pytest.approx(true, rel=0.3)
    for rule in naive.PAIRED:
        assert searches[rule][1] > 10
        assert searches[rule][3] > 1.4 * searches[rule][2]


def test_old_rules_promote_for_nothing():
    """measuring.md §2.8 under noise without any process effect: 50 %, 50 %, 24 %, 28 %."""
    d = generator().standard_normal((4000, 60))
    assert naive.point_estimate(d).promoted.mean() == pytest.approx(0.5, abs=0.03)
    assert naive.peeking(d).promoted.mean() == pytest.approx(0.28, abs=0.04)
    once = np.zeros((4000, 1))
    assert naive.stored_best(once, generator()).promoted.mean() == pytest.approx(0.5, abs=0.03)
    margin = naive.stored_best(once, generator(), naive.RUN_SD).promoted.mean()
    assert margin == pytest.approx(stats.norm.sf(1 / np.sqrt(2)), abs=0.03)


def test_a_stored_best_is_a_ratchet():
    decided = naive.stored_best(np.zeros((300, 400)), generator())
    per_stream = decided.promoted.sum(axis=1)
    assert 4 < per_stream.mean() < 9  # records among 400 equal runs: ln 400 + 0.58
    assert decided.claimed[decided.promoted].sum() / 300 > 0.01


def test_peeking_claims_more_than_there_is():
    d = 0.1 + generator().standard_normal((2000, 60))
    found = naive.peeking(d)
    assert found.claimed[found.promoted].mean() > 0.3


def test_candidates_that_leave_the_device_hot_are_invalid():
    here = world("carry-over", small(POLICY), generator())
    hot = decided(here, np.zeros(20), generator(), heat=HEAT)
    assert {v.kind for v in hot} == {Kind.INVALID}
    assert {v.reasons[0].rule for v in hot} <= {"carry-over", "order effect", "null twin"}


def measured(counts, *, promised=0.9):
    return Measured("normal", 0.0008, 0.002, promised, counts)


def test_rates_and_their_limits():
    rate = Rate(3, 1000)
    assert rate.upper() == pytest.approx(stats.binomtest(3, 1000).proportion_ci(0.9).high)
    assert rate.lower() == pytest.approx(stats.binomtest(3, 1000).proportion_ci(0.9).low)


@pytest.mark.parametrize(("times", "holds"), [(1, True), (10, False)])
def test_the_bounds_notice_an_error_ten_times_as_large(times, holds):
    """The same seed and promise, with the rule as it should be and with one that is not."""
    rule = replace(POLICY, alpha_confirm=times * POLICY.alpha_confirm)
    counts = run(task("min_gain", 200, policy=rule))
    found = bounds([measured({"min_gain": counts})], alpha=POLICY.alpha_confirm)
    assert [b.holds for b in found] == [holds]


@pytest.mark.parametrize(
    ("counts", "holds"),
    [
        ({"no change": {"confirms": 640}}, True),
        ({"no change": {"confirms": 640, "PROMOTE": 1}}, False),
        ({"no change": {"confirms": 500}}, False),
        ({"both stages": {"screened": 640, "confirms": 9}}, True),
        ({"both stages": {"screened": 640, "confirms": 9, "PROMOTE": 4}}, False),
        ({"power": {"confirms": 1000, "PROMOTE": 890}}, True),
        ({"power": {"confirms": 1000, "PROMOTE": 800}}, False),
    ],
)
def test_each_bound_can_fail(counts, holds):
    assert [b.holds for b in bounds([measured(counts)], alpha=0.005)] == [holds]


def test_power_is_what_is_promised(here):
    """Within what chance and the guards take away."""
    sd = process_sd("normal", here.policy, generator())
    excess = 2 * sd
    promised = power(excess, processes=here.policy.replicates, sd=sd, min_gain=0.0)
    found = run(task("power", 150, excess=excess))
    assert found["PROMOTE"] / 150 == pytest.approx(promised, abs=0.08)
    assert 0.7 < promised < 0.9


def test_the_last_line_says_how_it_ended():
    good, bad = (Bound("power", "normal", holds, "x") for holds in (True, False))
    assert report.last_line([good, good]) == "AVO simulate: all 2 bounds hold"
    assert report.last_line([good, bad]) == "AVO simulate: 1 of 2 bounds FAILED"
