# SPDX-License-Identifier: MIT
"""Hardware counters of one launch, by NVIDIA's profiler `ncu` where it is installed and allowed."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Sequence

from agent.tools.tool import ToolError

METRICS = {
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "SM throughput, % of peak",
    "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed": "memory throughput, %",
    "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active": "tensor pipe, % of peak",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "active warps, % of peak",
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "issue slots used, %",
    "dram__bytes.sum.pct_of_peak_sustained_elapsed": "DRAM, % of peak",
    "lts__t_sector_hit_rate.pct": "L2 hit rate, %",
    "l1tex__data_bank_conflicts_pipe_lsu.sum": "shared-memory bank conflicts",
    "gpu__time_duration.sum": "duration",
}


def command(functions: Sequence[str], judge: Sequence[str]) -> list[str]:
    """`judge` under ncu, for the first launch of one of these functions. Raises ToolError."""
    found = shutil.which("ncu") or shutil.which("ncu", path="/usr/local/cuda/bin")
    if found is None:
        raise ToolError("ncu is not installed on this machine; use build, loop and roofline")
    names = "|".join(map(re.escape, functions))
    line = [found, "--target-processes", "all", "--csv", "--page", "raw", "--launch-count", "1"]
    return [*line, "--kernel-name", f"regex:^({names})$", "--metrics", ",".join(METRICS), *judge]


def table(said: str) -> str:
    """The counters of the launch that ncu saw. Raises ToolError: why there is none."""
    if "ERR_NVGPUCTRPERM" in said:
        raise ToolError("ncu may not read this GPU's counters here (ERR_NVGPUCTRPERM)")
    start = next((i for i, line in enumerate(said.splitlines()) if line.startswith('"ID"')), None)
    if start is None:
        raise ToolError("ncu profiled nothing: " + " ".join(said.split())[-300:])
    rows = list(csv.DictReader(io.StringIO("\n".join(said.splitlines()[start:]))))
    if len(rows) < 2:
        raise ToolError("ncu profiled no launch")
    units, launch = rows[0], rows[1]
    lines = [f"{launch.get('Kernel Name', '')[:80]}"]
    lines += [
        f"{n}: {launch[m]} {units.get(m, '')}".rstrip() for m, n in METRICS.items() if m in launch
    ]
    return "\n".join(lines)
