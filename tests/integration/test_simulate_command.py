# SPDX-License-Identifier: MIT
"""`avo simulate` and `avo power` from a shell."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avo_pytest.calibration import to_dict
from avo_pytest.commands import power
from avo_pytest.policy import Policy
from avo_pytest.simulation.world import small, world

HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None


def avo(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "avo_pytest", *arguments],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def calibrated(tmp_path):
    """A repository with a calibration, of a simulated device."""
    folder = tmp_path / ".avo" / "calibrations"
    folder.mkdir(parents=True)
    made = world("normal", small(Policy()), np.random.default_rng(0)).calibration
    (folder / "one.json").write_text(json.dumps(to_dict(made)))
    newer = replace(made, created="2026-02-01T00:00:00+00:00", start_seconds=(3.0, 3.0))
    (folder / "two.json").write_text(json.dumps(to_dict(newer)))
    return tmp_path


def resolution(root, *line):
    """What `avo power` finds out before it draws its table."""
    parser = ArgumentParser()
    power.add_parser(parser.add_subparsers())
    return power.resolution(parser.parse_args(["power", "--root", str(root), *line]))


@pytest.mark.parametrize("command", ["simulate", "power"])
def test_help_has_examples(tmp_path, command):
    done = avo(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"avo {command}" in done.stdout.partition("examples:")[2]


def test_a_quick_simulation(tmp_path):
    done = avo("simulate", "--quick", "--noise", "drift", "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().splitlines()[-1] == "AVO simulate: all 4 bounds hold"
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["holds"] and len(found["bounds"]) == 4
    counts = found["noises"][0]["counts"]
    assert counts["no change"]["confirms"] == 640
    old = counts["old rules"]
    assert old["paired, estimate > 0"] / old["candidates"] > 0.4
    assert old["paired t, peeking"] / old["candidates"] > 0.25


def test_a_bound_that_fails_fails_the_command(tmp_path):
    """So few candidates cannot show so small an error rate, and what is not shown does not pass."""
    done = avo("simulate", "--candidates", "40", "--noise", "tails", cwd=tmp_path)
    assert done.returncode == 1
    assert "too few candidates to tell" in done.stdout
    assert "bounds FAILED" in done.stdout.rstrip().splitlines()[-1]


def test_an_interrupt_ends_it_soon(tmp_path):
    """A full simulation takes minutes; the wrapper listens where a background job would not."""
    wrapper = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from avo_pytest.cli import main; sys.exit(main(['simulate', '--noise', 'normal']))"
    )
    process = subprocess.Popen([sys.executable, "-c", wrapper], cwd=tmp_path)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=40) == 130


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--noise", "wild"], "'wild' is none of normal, drift"),
        (["--seed", "-1"], "--seed"),
        (["--candidates", "0"], "--candidates"),
        (["--json", "gone/found.json"], "gone"),
        (["--root", "broken"], "gain_min"),
    ],
)
def test_what_cannot_be_simulated(tmp_path, line, said):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pyproject.toml").write_text("[tool.avo.policy]\ngain_min = 1\n")
    done = avo("simulate", *line, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert said in done.stderr


def test_a_plot_without_matplotlib_says_what_to_install(tmp_path):
    """At once, not after minutes."""
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n")
    done = avo("simulate", "--plot", "x.svg", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "pip install 'avo-pytest[report]'" in done.stderr


@pytest.mark.skipif(not HAS_MATPLOTLIB, reason="matplotlib is not installed")
def test_a_plot(tmp_path):
    from avo_pytest.report.simulation_plot import save
    from avo_pytest.simulation.campaign import simulate

    measured = simulate(Policy(), ["normal"], 20, seed=0, workers=1)
    save(measured, 0.005, tmp_path / "found.svg")
    assert "false promotions" in (tmp_path / "found.svg").read_text().lower()


def test_power_answers_and_tabulates(tmp_path):
    done = avo("power", "--sd", "0.09%", "--gain", "0.3%", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a 0.3% gain is confirmed with 90% probability with 12 replicates" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows if row and row[0].isdigit()] == ["8", "12", "16", "24", "32"]


def test_power_takes_the_newest_calibration(calibrated):
    gain, found = resolution(calibrated)
    assert "2026-02-01" in found.told and "simulated" in found.told
    assert (gain, found.wanted, found.alpha) == (0.015, 0.9, 0.005)  # as for any CPU
    assert found.sd == pytest.approx(0.0008, rel=0.3)
    assert found.min_gain == 0.005
    assert found.seconds(8) == "40 s"  # 8 x (3 s to start + 8 blocks of 0.25 s)


def test_what_is_asked_for_comes_before_the_calibration(calibrated):
    one = str(calibrated / ".avo" / "calibrations" / "one.json")
    gain, found = resolution(calibrated, "--calibration", one, "--gain", "0.5%", "--power", "80%")
    assert (gain, found.wanted) == (0.005, 0.8)
    assert "2026-01-01" in found.told
    assert resolution(calibrated, "--min-gain", "0.2%", "--alpha", "0.1%")[1].min_gain == 0.002


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([], "no calibration in"),
        (["--target", "cpu"], "no calibration of target cpu"),
        (["--calibration", "gone.json"], "gone.json"),
        (["--calibration", "odd.json"], "odd.json"),
        (["--sd", "1%", "--calibration", "odd.json"], "give one"),
    ],
)
def test_power_says_what_is_missing(tmp_path, line, said):
    (tmp_path / "odd.json").write_text('{"values": 3}')
    done = avo("power", *line, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert said in done.stderr


@pytest.mark.parametrize(("text", "value"), [("0.3%", 0.003), ("0.003", 0.003), ("90%", 0.9)])
def test_percentages(text, value):
    assert power.fraction(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "x", "0", "-1%", "100%", "3", "nan"])
def test_what_is_no_percentage(text):
    with pytest.raises(ArgumentTypeError, match="percentage"):
        power.fraction(text)
