# SPDX-License-Identifier: MIT
"""`avo build`: compile a kernel without a device and say what it is made of."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avo_pytest.artifact import Artifact
    from avo_pytest.plan import DeviceFacts

EXAMPLES = """\
examples:
  avo build --kernel attention --target sm80               for a typical sm_80 device
  avo build --kernel attention --target sm80 --arch sm_90  the same source for a Hopper device
  avo build --kernel attention --target sm90 --strict      fail on spills and serialised wgmma
  avo build --kernel attention --target cpu --json         for scripts

It needs no GPU and no driver: every plan of every configuration is resolved and checked, every
variant compiled, and registers, spills, shared memory and instructions are counted.

exit status: 0 built, 1 does not build (or --strict found something), 2 usage.
"""
_SHOWN_COUNTS = 10


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "build",
        help="compile a kernel without a device: registers, spills, instructions",
        description="Compile a kernel for all its configurations and report what came out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kernel", required=True, help="a folder of kernels/, such as attention")
    parser.add_argument(
        "--target", required=True, choices=("cpu", "sm80", "sm90", "sm100"), help="source family"
    )
    parser.add_argument("--arch", help="device to build for, such as sm_90 (default: the oldest)")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="fail on ptxas C75xx warnings, register spills, and on sm90 or sm100 when no "
        "tensor-core instruction is there",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: here)")


def run(arguments: argparse.Namespace) -> int:
    """Build, report, and return the exit status."""
    from avo_pytest.architectures import typical_facts
    from avo_pytest.build import BuildError, build
    from avo_pytest.inspection import complaints
    from avo_pytest.loading import load_problem
    from avo_pytest.problem import DeviceKind

    root, target = arguments.root.resolve(), arguments.target
    kind: DeviceKind = "cpu" if target == "cpu" else "cuda"
    try:
        facts = typical_facts(target, arguments.arch)
        problem = load_problem(arguments.kernel, root=root)
    except (KeyError, FileNotFoundError) as error:
        print(f"avo build: {error.args[0]}", file=sys.stderr)
        return 2
    except Exception as error:  # a problem is somebody's code, which may fail in any way
        where = f"bench/{arguments.kernel}/problem.py"
        print(f"avo build: {where}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    sets = problem.throughput.get(kind, {}).values()
    configurations = [*problem.correctness(kind), *(c for s in sets for c in s)]
    folder = root / "kernels" / arguments.kernel / target
    try:
        artifact = build(folder, problem, configurations, facts, root / ".avo" / "cache")
    except BuildError as error:
        print(f"avo build: {error}", file=sys.stderr)
        return 1
    found = complaints(target, artifact.report)
    if arguments.json:
        print(json.dumps(_summary(artifact, facts, found), indent=1, sort_keys=True))
    else:
        print("\n".join(_text(artifact, facts, found)))
    return 1 if arguments.strict and found else 0


def _summary(artifact: Artifact, facts: DeviceFacts, found: list[str]) -> dict[str, Any]:
    return {
        "artifact": str(artifact.path),
        "hash": artifact.hash,
        "kernel": artifact.kernel,
        "target": artifact.target,
        "arch": artifact.arch,
        "assumed": {"num_sms": facts.num_sms, "l2_bytes": facts.l2_bytes},
        "report": artifact.report,
        "variants": {name: plan.variant for name, plan in sorted(artifact.plans.items())},
        "complaints": found,
    }


def _text(artifact: Artifact, facts: DeviceFacts, found: list[str]) -> Iterator[str]:
    assumed = f", assuming {facts.num_sms} SMs" if facts.num_sms else ""
    yield f"{artifact.kernel}/{artifact.target} for {artifact.arch}{assumed}"
    yield f"  code objects: {len(artifact.codes)}, configurations: {len(artifact.plans)}"
    for key, part in artifact.report.items():
        macros = " ".join(f"{name}={value}" for name, value in part["macros"].items())
        variants = sorted({p.variant for p in artifact.plans.values() if p.code == key})
        yield ""
        size = f"{part['bytes']} bytes, {part['seconds']:.1f} s"
        yield f"{key}  {size}  {', '.join(variants)}  {macros}".rstrip()
        if "instructions" in part:
            yield f"  {_counts(part['instructions'])}"
        for name, figures in part.get("kernels", {}).items():
            yield f"  {name}: {_resources(figures)}"
            if "sass" in figures:
                yield f"    {_counts(figures['sass'])}"
        yield from (f"  {warning}" for warning in part["warnings"])
    yield ""
    yield from (f"strict: {complaint}" for complaint in found)
    yield f"hash {artifact.hash}"
    yield f"in   {artifact.path}"


def _resources(figures: Mapping[str, Any]) -> str:
    spilled = figures.get("spill_store_bytes", 0) + figures.get("spill_load_bytes", 0)
    return (
        f"{figures.get('registers', '?')} registers, {spilled} bytes spilled, "
        f"{figures.get('stack_bytes', '?')} bytes of stack, "
        f"{figures['static_shared_bytes']} bytes of static shared memory"
    )


def _counts(counts: Mapping[str, int]) -> str:
    """The classes with the most instructions; `total` first."""
    most = sorted(counts.items(), key=lambda item: (item[0] != "total", -item[1]))
    return (
        "  ".join(f"{name} {count}" for name, count in most[: _SHOWN_COUNTS + 1]) or "none counted"
    )
