# SPDX-License-Identifier: MIT
"""How many bytes a launch must move at least: `python -P agent/tools/traffic.py ROOT KERNEL`.

A process of its own, because a problem is code of the repository, which the agent never imports.
Prints JSON: configuration → bytes of all its tensors, each once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from avo_pytest.loading import load_problem


def main(root: str, kernel: str) -> None:
    """Of every throughput configuration."""
    problem = load_problem(kernel, root=Path(root))
    sets = (s for by_name in problem.throughput.values() for s in by_name.values())
    every = {c.name: c for configurations in sets for c in configurations}
    moved = {name: sum(t.bytes for t in problem.tensors(c)) for name, c in every.items()}
    print(json.dumps(moved))


if __name__ == "__main__":
    main(*sys.argv[1:])
