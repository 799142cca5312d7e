# SPDX-License-Identifier: MIT
"""What `avo simulate` found, as tables and as JSON; pure functions on counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from avo_pytest.policy import Policy
from avo_pytest.report.columns import table
from avo_pytest.simulation.bounds import Bound, Rate, promoted
from avo_pytest.simulation.measured import OURS, SLOW_MODES, STREAM, Measured
from avo_pytest.simulation.naive import PAIRED, STORED
from avo_pytest.simulation.world import BLOCKS, CONFIGURATIONS, small

SCHEMA = 1
OLD_RULES = (*STORED, *PAIRED)
RULES = (*OLD_RULES, OURS)


def text(measured: Sequence[Measured], found: Sequence[Bound], policy: Policy, seed: int) -> str:
    """The whole report but the last line."""
    parts = [
        _header(policy, seed),
        _confirms(measured),
        *(_slow_modes(one, policy) for one in measured if "slow mode" in one.counts),
        _stages(measured),
        _old_rules(measured),
        *(_evolution(one) for one in measured if "evolution" in one.counts),
        _bounds(found),
    ]
    return "\n\n".join(parts) + "\n"


def last_line(found: Sequence[Bound]) -> str:
    """How it ended, for scripts too."""
    broken = [b for b in found if not b.holds]
    if not broken:
        return f"AVO simulate: all {len(found)} bounds hold"
    return f"AVO simulate: {len(broken)} of {len(found)} bounds FAILED"


def as_json(
    measured: Sequence[Measured], found: Sequence[Bound], policy: Policy, seed: int
) -> dict[str, Any]:
    """All counts, from which every figure of the report follows, and the bounds."""
    return {
        "schema": SCHEMA,
        "seed": seed,
        "policy": asdict(small(policy)),
        "noises": [asdict(one) for one in measured],
        "bounds": [asdict(bound) for bound in found],
        "holds": all(bound.holds for bound in found),
    }


def _header(policy: Policy, seed: int) -> str:
    reduced = small(policy)
    return (
        f"The rule in force: alpha {policy.alpha_confirm:.3g}, min_gain {policy.min_gain:.2%}, "
        f"screen alpha {policy.alpha_screen:.3g}. Seed {seed}.\n"
        f"Simulated confirms have {reduced.replicates} processes of {BLOCKS} blocks of "
        f"{CONFIGURATIONS} configurations; each is a record that the real rule decides."
    )


def _confirms(measured: Sequence[Measured]) -> str:
    header = ["confirms", "process sd", "no-change promoted", "95 % limit", "invalid"]
    header += ["at min_gain promoted", "found", "promised"]
    rows = []
    for one in measured:
        none, edge, power = (promoted(one, t) for t in ("no change", "min_gain", "power"))
        invalid = one.counts.get("no change", {}).get("INVALID", 0)
        rows.append(
            (
                one.noise,
                f"{one.process_sd:.3%}",
                _count(none),
                f"{none.upper():.3%}" if none else "",
                f"{invalid / none.trials:.2%}" if none else "",
                f"{edge.value:.2%}" if edge else "",
                f"{power.value:.1%}" if power else "",
                f"{one.promised:.1%}",
            )
        )
    return table(header, rows)


def _slow_modes(one: Measured, policy: Policy) -> str:
    """No bound: no test of process values sees what did not happen in these processes."""
    processes, counts, rows = small(policy).replicates or 0, one.counts["slow mode"], []
    for name, mode in SLOW_MODES.items():
        rate = Rate(int(counts[f"{name}: promoted"]), int(counts[f"{name}: confirms"]))
        unseen = (1 - mode.share) ** processes
        rows.append((name, f"{unseen:.1%}", f"{rate.value:.2%}", _count(rate)))
    header = (f"own slow mode, mean gain min_gain ({one.noise})", "shows in no process")
    return table((*header, "promoted", ""), rows)


def _stages(measured: Sequence[Measured]) -> str:
    header = ("no-change candidates, both stages", "passed the screen", "promoted")
    rows = []
    for one in measured:
        counts = one.counts.get("both stages")
        if counts:
            passed = Rate(int(counts["passed"]), int(counts["screened"]))
            rows.append((one.noise, f"{passed.value:.2%}", _count(promoted(one, "both stages"))))
    return table(header, rows)


def _old_rules(measured: Sequence[Measured]) -> str:
    rows = []
    for one in measured:
        counts = one.counts.get("old rules")
        if counts:
            shares = [counts[rule] / counts["candidates"] for rule in OLD_RULES]
            rows.append((one.noise, *(f"{share:.1%}" for share in shares)))
    return table(("no-change promoted by the old rules", *OLD_RULES), rows)


def _evolution(one: Measured) -> str:
    """Means of one search; claims against truth."""
    rows = [
        (rule, f"{p:.1f}", f"{bad:.1f}", f"{true:.2%}", f"{claimed:.2%}")
        for rule, (p, bad, true, claimed) in searches(one).items()
    ]
    header = (f"a search of {STREAM} candidates ({one.noise})", "promoted", "no better")
    return table((*header, "true gain", "claimed gain"), rows)


def searches(one: Measured) -> Mapping[str, tuple[float, ...]]:
    """Rule → promotions, promotions of what is no better, true and claimed gain of one search."""
    counts = one.counts["evolution"]
    columns = ("promoted", "no better", "true gain", "claimed gain")
    return {
        rule: tuple(counts[f"{rule}: {column}"] / counts["streams"] for column in columns)
        for rule in RULES
    }


def _bounds(found: Sequence[Bound]) -> str:
    rows = [("ok" if b.holds else "FAILED", b.noise, f"{b.name}: {b.text}") for b in found]
    return "\n".join(f"{state:6}  {noise:10}  {said}" for state, noise, said in rows)


def _count(rate: Rate | None) -> str:
    return f"{rate.events} of {rate.trials}" if rate else ""
