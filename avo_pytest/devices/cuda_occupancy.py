# SPDX-License-Identifier: MIT
"""`max_active_blocks` and `max_active_clusters` of a kernel, asked of the driver.

Only a context can tell, and the judge has none: `ask_driver` asks a process that ends at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

from avo_pytest.plan import Launch

TIMEOUT_S = 60.0


def ask_driver(index: int = 0) -> Callable[[str, Path, Launch], int]:
    """A function of (kind, cubin, launch) for `build`. It raises RuntimeError when refused."""

    @cache
    def ask(kind: str, code: Path, launch: Launch) -> int:
        question = json.dumps({"kind": kind, "code": str(code), "launch": asdict(launch)})
        answer = subprocess.run(
            [sys.executable, "-m", "avo_pytest.devices.cuda_occupancy", str(index)],
            input=question,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        if answer.returncode:
            last = answer.stderr.strip().splitlines()[-1:]
            raise RuntimeError(f"{launch.function}: {kind}: {''.join(last)}")
        return int(answer.stdout)

    return ask


def occupancy(index: int, kind: str, cubin: bytes, launch: Launch) -> int:
    """Blocks per SM, or clusters on the whole device, that can be active at once."""
    from cuda.bindings import driver

    from avo_pytest.devices.cuda_driver import Context, call
    from avo_pytest.devices.cuda_launch import Code, allow, launch_config

    context = Context(index)
    kernel = Code(cubin).kernel(launch.function)
    allow(kernel, launch, context.device)
    function = call(driver.cuKernelGetFunction(kernel))
    if kind == "max_active_clusters":
        config = launch_config(replace(launch, grid=launch.cluster or (1, 1, 1)), context.stream)
        return int(call(driver.cuOccupancyMaxActiveClusters(function, config)))
    ask = driver.cuOccupancyMaxActiveBlocksPerMultiprocessor
    return int(call(ask(function, prod(launch.block), launch.shared_bytes)))


def main() -> int:
    """Answer the question on standard input."""
    question = json.load(sys.stdin)
    asked = question["launch"] | {"arguments": ()}
    raw: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in asked.items()}
    launch = Launch(**raw)
    cubin = Path(question["code"]).read_bytes()
    print(occupancy(int(sys.argv[1]), question["kind"], cubin, launch))
    return 0


if __name__ == "__main__":
    sys.exit(main())
