# SPDX-License-Identifier: MIT
"""Job `build`: does the candidate compile for every gate? Registers and spills, without a GPU.

A compiler is the only thing of this job that meets the candidate, confined like everywhere.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avo_pytest.ci import order, outputs
from avo_pytest.ci.order import Order, OrderError
from avo_pytest.specification import Target

FILE = "build.json"
SIMULATED = "simulated"  # a script, which is not compiled
# What the name of a gate's device begins with → what is built for it; others: the target's oldest
ARCHITECTURES = {
    "NVIDIA A100": "sm_80",
    "NVIDIA H100": "sm_90",
    "NVIDIA H200": "sm_90",
    "NVIDIA GH200": "sm_90",
    "NVIDIA B200": "sm_100",
    "NVIDIA GB200": "sm_100",
    "NVIDIA B300": "sm_103",
}
MOST_LOG = 20_000  # characters: the beginning of a compiler's complaints is what helps


def run(arguments: argparse.Namespace) -> int:
    """Write build.json; 1 where something does not build."""
    try:
        found = order.load(arguments.intake)
        with tempfile.TemporaryDirectory(prefix="avo-ci-") as scratch:
            folder = order.restore(found, arguments.intake, Path(scratch))
            parts = [
                _build(found, folder, arguments.root.resolve(), gate)
                for gate in _distinct(found.gates)
            ]
    except OrderError as error:
        outputs.say(f"avo ci build: {error}")
        return 1
    ok = all(part["ok"] for part in parts)
    outputs.write_json(arguments.out / FILE, {"ok": ok, "nonce": found.nonce, "builds": parts})
    for part in parts:
        outputs.say(f"{part['arch']}: {'built' if part['ok'] else part['log']}")
    return 0 if ok else 1


def _distinct(gates: tuple[Mapping[str, Any], ...]) -> list[Mapping[str, Any]]:
    return list({_arch(gate): gate for gate in gates}.values())


def _arch(gate: Mapping[str, Any]) -> str | None:
    name = str(gate["device"])
    return next((arch for start, arch in ARCHITECTURES.items() if name.startswith(start)), None)


def _build(found: Order, folder: Path, root: Path, gate: Mapping[str, Any]) -> dict[str, Any]:
    from avo_pytest.architectures import typical_facts
    from avo_pytest.build import BuildError, build
    from avo_pytest.loading import load_problem

    if found.target == SIMULATED:
        return {"ok": True, "arch": SIMULATED, "registers": None, "spills": None, "log": ""}
    target: Target = found.target  # type: ignore[assignment]  # intake looked it up
    try:
        facts = typical_facts(target, _arch(gate))
        problem = load_problem(found.kernel, root=root)
        kind = "cpu" if target == "cpu" else "cuda"
        sets = problem.throughput.get(kind, {}).values()  # type: ignore[call-overload]
        configurations = [*problem.correctness(kind), *(c for s in sets for c in s)]  # type: ignore[arg-type]
        artifact = build(folder, problem, configurations, facts, root / ".avo" / "cache")
    except (BuildError, KeyError, OSError) as error:
        log = str(error.args[0] if isinstance(error, KeyError) else error)
        return {"ok": False, "arch": _arch(gate) or target, "log": log[:MOST_LOG]}
    return {"ok": True, "arch": artifact.arch, "log": "", **_figures(artifact.report)}


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """The most of each over all kernels; None on a CPU."""
    kernels = [k for part in report.values() for k in part.get("kernels", {}).values()]
    spills = [k.get("spill_store_bytes", 0) + k.get("spill_load_bytes", 0) for k in kernels]
    return {
        "registers": max((k.get("registers", 0) for k in kernels), default=None),
        "spills": max(spills, default=None),
        "warnings": [w for part in report.values() for w in part["warnings"]][:50],
    }
