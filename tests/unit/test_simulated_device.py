# SPDX-License-Identifier: MIT
"""The simulated device: what its noise does, what its scripts do, and that the judge notices."""

from __future__ import annotations

import importlib.util
import math
import random
from pathlib import Path

import numpy as np
import pytest

from avo_pytest import inputs, timing, verification
from avo_pytest.artifact import load_artifact
from avo_pytest.codes import BuildError
from avo_pytest.devices import Arm, ArmFailed
from avo_pytest.devices import scripts as arm_scripts
from avo_pytest.devices.scenarios import NOISES, Incidents, Noise, Scenario, load
from avo_pytest.devices.scripts import Script
from avo_pytest.devices.simulated import SimulatedDevice
from avo_pytest.devices.simulated_clock import SimulatedClock
from avo_pytest.loading import load_problem
from avo_pytest.simulation.launches import ARMS, Size, draw

SEED = bytes(32)
QUIET = Noise(launch=0.0, layout=0.0)
HELPER = Path(__file__).resolve().parents[1] / "simulated_repository.py"


def helper():
    spec = importlib.util.spec_from_file_location(HELPER.stem, HELPER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


repository = helper()


@pytest.fixture
def root(tmp_path):
    return repository.write(tmp_path)


@pytest.fixture
def device():
    return SimulatedDevice(Scenario(noise=QUIET), seed=SEED)


def arms(root, **candidate):
    """Candidate, incumbent and null twin, built."""
    found = []
    for name, keys in (("candidate", candidate), ("incumbent", {}), ("null", {})):
        folder = repository.script(root, f"arms/{name}", **keys)
        found.append(Arm(name, name, arm_scripts.build(folder, "toy", root / "cache").path))
    return found


def bench(root, device, of):
    problem = load_problem("toy", root=root)
    configuration = problem.throughput["cpu"]["two"][0]
    return verification.stage(device, problem, configuration, of, timeout_s=1.0)[0]


def measured(root, device, of, blocks=2, order=1):
    """Samples of the real protocol."""
    messages = []
    timing.measure(device, [bench(root, device, of)], blocks, messages.append, random.Random(order))
    return [m["sample"] for m in messages if m["kind"] == "sample"]


def clock(noise, *, replicate=0, incidents=None, **scripts):
    """A process with the arms a and b (or those given)."""
    scenario = Scenario(noise=noise, incidents=incidents or Incidents())
    made = SimulatedClock(scenario, seed=SEED, replicate=replicate)
    for name, script in (scripts or {"a": {}, "b": {}}).items():
        made.load(name, Script(**script))
    return made


def logs(of, arm, count):
    return np.array([math.log(of.launch(arm, "c")[0]) for _ in range(count)])


def test_the_protocol_runs_on_it(root, device):
    samples = measured(root, device, arms(root, gain=0.01))
    assert len(samples) == 2 * 2 * 3
    by_arm = {name: {s.ms for s in samples if s.arm == name} for name in ARMS}
    assert by_arm["incumbent"] == by_arm["null"] == {1.0}
    assert by_arm["candidate"] == {math.exp(-0.01)}


def test_the_same_seed_and_order_give_the_same_times(root):
    def times(replicate):
        device = SimulatedDevice(Scenario(noise=NOISES["drift"]), seed=SEED, replicate=replicate)
        return [s.ms for s in measured(root, device, arms(root))]

    assert times(3) == times(3)
    assert len({*times(3), *times(4)}) == 2 * len(times(3))


def test_inputs_are_those_that_a_sample_replays(root, device):
    problem = load_problem("toy", root=root)
    configuration = problem.throughput["cpu"]["two"][0]
    stage = device.stage(problem, configuration, arms(root))
    stage.refresh(77)
    spec = problem.tensors(configuration)[0]
    assert np.array_equal(stage.oracle_inputs()["x"], inputs.fill(spec, SEED, 77))


def test_it_says_what_it_is(device):
    assert device.environment()["device"] == "simulated"
    assert device.environment()["isolation"] == "none"


def test_gains_may_differ_by_configuration():
    one = clock(QUIET, a={"gain": 0.01, "gains": {"other": 0.02}})
    assert math.log(one.launch("a", "c")[0]) == pytest.approx(-0.01)
    assert math.log(one.launch("a", "other")[0]) == pytest.approx(-0.03)


def test_launches_spread_as_asked():
    assert logs(clock(Noise(launch=0.002, layout=0.0)), "a", 4000).std() == pytest.approx(
        0.002, rel=0.05
    )


def test_drift_and_steps_are_common_to_the_arms():
    drifting = clock(Noise(launch=0.0, layout=0.0, drift=0.001, step=0.01, step_share=0.05))
    pairs = np.array([logs(drifting, arm, 1)[0] for _ in range(500) for arm in "ab"])
    assert pairs.std() > 0.01
    moves = np.abs(np.diff(pairs))
    assert np.median(moves) < 0.001
    assert 0.02 < (moves > 0.005).mean() < 0.08


def test_tails_are_heavy():
    drawn = logs(clock(Noise(launch=0.001, layout=0.0, degrees=2.0)), "a", 4000)
    assert (np.abs(drawn) > 0.005).mean() == pytest.approx(0.038, abs=0.012)


def test_layout_is_drawn_for_each_arm_in_each_process():
    biases = np.array(
        [
            [logs(made, arm, 2) for arm in "ab"]
            for made in (clock(Noise(launch=0.0, layout=0.01), replicate=r) for r in range(300))
        ]
    )
    assert np.array_equal(biases[..., 0], biases[..., 1])
    assert biases[..., 0].std() == pytest.approx(0.01, rel=0.15)
    assert abs(np.corrcoef(biases[:, 0, 0], biases[:, 1, 0])[0, 1]) < 0.2


def test_an_arm_may_have_two_modes():
    noise = Noise(launch=0.0, layout=0.0, slow=0.01, slow_loads=0.25, slow_launches=0.1)
    drawn = np.array([logs(clock(noise, replicate=r), "a", 20) for r in range(200)])
    loaded = np.median(drawn, axis=1)
    assert {round(x, 6) for x in loaded} == {0.0, 0.01}
    assert (loaded > 0.005).mean() == pytest.approx(0.25, abs=0.1)
    assert (drawn[loaded == 0] > 0.005).mean() == pytest.approx(0.1, abs=0.02)


def test_carry_over_and_heat():
    one = clock(Noise(launch=0.0, layout=0.0, carry=0.01), hot={"heat": 0.1}, cool={})
    found = [logs(one, arm, 1)[0] for arm in ("cool", "cool", "hot", "hot", "cool")]
    assert found == pytest.approx([0.0, 0.0, 0.01, 0.1, 0.11])


def test_disturbed_launches_are_slower_and_say_so():
    one = clock(QUIET, incidents=Incidents(disturbed=0.3, disturbed_by=0.5))
    launched = [one.launch("a", "c") for _ in range(300)]
    assert {round(math.log(ms), 6) for ms, why in launched if why} == {0.5}
    assert {ms for ms, why in launched if not why} == {1.0}
    assert 0.2 < sum(bool(why) for _, why in launched) / 300 < 0.4


def test_throttled_blocks_and_strangers_are_seen(root):
    incidents = Incidents(throttled=1.0, throttled_by=0.5, foreign=(41,))
    device = SimulatedDevice(Scenario(noise=QUIET, incidents=incidents), seed=SEED)
    seen = device.observe()
    assert seen["throttle_reasons"] and seen["foreign_processes"] == [41]
    assert {s.ms for s in measured(root, device, arms(root))} == {math.exp(0.5)}


@pytest.mark.parametrize("kind", NOISES)
def test_arrays_and_device_draw_the_same_noise(kind):
    """`avo simulate` draws arrays; A/A process values spread as on the device."""
    size = Size(replicates=1, blocks=4, configurations=2)
    arrays = draw(NOISES[kind], size, np.zeros(2000), np.random.default_rng(0)).process_values()
    values = [process_value(kind, replicate) for replicate in range(150)]
    assert np.std(values) == pytest.approx(arrays.std(), rel=0.25)


def process_value(kind, replicate):
    made = SimulatedClock(Scenario(noise=NOISES[kind]), seed=SEED, replicate=replicate)
    for arm in ARMS:
        made.load(arm, Script())
    order = random.Random(replicate)
    d = np.array([[block_value(made, order) for _ in range(4)] for _ in range(2)])
    return np.median(d, axis=1).mean()


def block_value(made, order):
    forward = order.sample(ARMS, 3)
    made.launch(order.choice(ARMS), "c")
    turns = [{arm: math.log(made.launch(arm, "c")[0]) for arm in turn} for turn in
             (forward, forward[::-1])]  # fmt: skip
    return np.mean([turn["incumbent"] - turn["candidate"] for turn in turns])


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("crash", "crashed"),
        ("timeout", "timeout"),
        ("zeros", "incorrect"),
        ("row", "incorrect"),
        ("stale", "incorrect"),
        ("input", "incorrect"),
        ("canary", "incorrect"),
    ],
)
def test_the_judge_notices(root, device, fault, status):
    """Launch 4 is in the first turn: one is the check in full, one may be the primer."""
    with pytest.raises(ArmFailed) as failure:
        measured(root, device, arms(root, fault=fault, at=3), blocks=3)
    assert (failure.value.arm, failure.value.status) == ("candidate", status)


def test_a_fault_waits_for_its_launch_and_its_replicate(root, device):
    samples = measured(root, device, arms(root, fault="zeros", at=1000))
    assert len(samples) == 12
    assert len(measured(root, device, arms(root, fault="zeros", replicates=(1,)))) == 12
    elsewhere = SimulatedDevice(Scenario(noise=QUIET), seed=SEED, replicate=1)
    with pytest.raises(ArmFailed):
        measured(root, elsewhere, arms(root, fault="zeros", replicates=(1,)))


def test_an_artifact_is_named_by_its_behaviour(root):
    def built(**keys):
        return arm_scripts.build(repository.script(root, "arm", **keys), "toy", root / "cache")

    assert built(gain=0.01).hash == built(gain=0.01).hash != built(gain=0.02).hash
    assert load_artifact(built().path).target == "simulated"


@pytest.mark.parametrize(
    ("keys", "said"),
    [({"gian": 0.1}, "gian"), ({"fault": "sulk"}, "sulk"), ({"gain": "fast"}, "gain")],
)
def test_a_wrong_script_does_not_build(root, keys, said):
    with pytest.raises(BuildError, match=said):
        arm_scripts.build(repository.script(root, "arm", **keys), "toy", root / "cache")


def test_scenarios_by_name_and_file(tmp_path):
    assert load("simulated", tmp_path).noise == NOISES["normal"]
    assert load("simulated:tails", tmp_path).noise == NOISES["tails"]
    written = repository.scenario(
        tmp_path, "ms = 3.0\n[noise]\ncarry = 0.1\n[incidents]\nlost_in = [1]\n"
    )
    scenario = load(written, tmp_path)
    assert (scenario.ms, scenario.noise.carry, scenario.incidents.lost_in) == (3.0, 0.1, (1,))


@pytest.mark.parametrize(
    ("text", "said"),
    [("[noise]\nlunch = 1\n", "lunch"), ("nois = 1\n", "nois"), ("[", "machine.toml"),
     ("noise = 3\n", "noise"), ("[noise]\ndrift = 'much'\n", "drift")],
)  # fmt: skip
def test_wrong_scenarios_are_told_apart(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        load(repository.scenario(tmp_path, text), tmp_path)


def test_an_unknown_scenario_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="normal, drift"):
        load("simulated:wild", tmp_path)
