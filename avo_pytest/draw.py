# SPDX-License-Identifier: MIT
"""Which configurations are checked: the problem's fixed ones, and some drawn anew for each run."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

from avo_pytest.assignment import Assignment
from avo_pytest.manifest import ManifestError, load, variant_of
from avo_pytest.problem import Configuration

DRAWN = 6
TRIES_PER_VARIANT = 200


@dataclass(frozen=True, slots=True)
class Point:
    """One correctness configuration with the seed of its contents."""

    configuration: Configuration
    seed: int


def points(assignment: Assignment, candidate: Path) -> list[Point]:
    """Fixed points, DRAWN random ones, and one more for each variant that none of them reaches.

    The run's seed decides all of it, so that `--avo-seed` replays a failure.
    """
    generator = random.Random(assignment.seed)
    problem = assignment.problem
    found = list(problem.correctness(assignment.kind))
    found += [problem.draw(generator, None) for _ in range(DRAWN)]
    found += _for_variants(assignment, candidate, found, generator)
    return [Point(c, generator.getrandbits(48)) for c in _distinct(found)]


def _for_variants(
    assignment: Assignment, candidate: Path, found: list[Configuration], generator: random.Random
) -> list[Configuration]:
    problem, facts = assignment.problem, assignment.facts
    try:
        manifest = load(candidate / "kernel.toml", problem)
        reached = {variant_of(manifest, problem, c, facts) for c in found}
        extra = []
        for base in assignment.throughput:
            variant = variant_of(manifest, problem, base, facts)
            for _ in range(TRIES_PER_VARIANT if variant not in reached else 0):
                drawn = problem.draw(generator, base)
                if variant_of(manifest, problem, drawn, facts) == variant:
                    extra.append(drawn)
                    reached.add(variant)
                    break
    except (ManifestError, OSError):
        return []  # the build reports it, with more to say
    return extra


def _distinct(configurations: list[Configuration]) -> list[Configuration]:
    """Names identify results, so a name drawn twice gets a suffix."""
    seen: dict[str, int] = {}
    distinct = []
    for configuration in configurations:
        count = seen.get(configuration.name, 0)
        seen[configuration.name] = count + 1
        name = configuration.name if count == 0 else f"{configuration.name}-{count + 1}"
        distinct.append(replace(configuration, name=name))
    return distinct
