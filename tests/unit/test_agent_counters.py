# SPDX-License-Identifier: MIT
"""ncu's command line and what is made of its output, which is written here as ncu prints it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.tools import counters
from agent.tools.tool import ToolError

SM, TIME = "sm__throughput.avg.pct_of_peak_sustained_elapsed", "gpu__time_duration.sum"
OUTPUT = f"""\
==PROF== Connected to process 1234
avo: throughput: 8 configurations
"ID","Process ID","Kernel Name","{SM}","{TIME}"
"","","","%","ns"
"0","1234","attention_forward(CUtensorMap_st, int)","71.25","812,352"
==PROF== Disconnected
"""


def test_the_table_names_each_counter_with_its_unit():
    assert counters.table(OUTPUT).splitlines() == [
        "attention_forward(CUtensorMap_st, int)",
        "SM throughput, % of peak: 71.25 %",
        "duration: 812,352 ns",
    ]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission", "ERR_NVGPUCTRPERM"),
        ("==WARNING== No kernels were profiled.", "No kernels were profiled"),
        ("\n".join(OUTPUT.splitlines()[:4]), "no launch"),
    ],
)
def test_without_a_launch_it_says_why(said, why):
    with pytest.raises(ToolError, match=why):
        counters.table(said)


def test_the_command_profiles_one_launch_of_the_candidates_functions(tmp_path, monkeypatch):
    ncu = tmp_path / "ncu"
    ncu.write_text("#!/bin/sh\n")
    ncu.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    line = counters.command(["attention_forward", "a.b"], ["python", "-m", "pytest"])
    assert Path(line[0]) == ncu and line[-3:] == ["python", "-m", "pytest"]
    assert line[line.index("--kernel-name") + 1] == r"regex:^(attention_forward|a\.b)$"
