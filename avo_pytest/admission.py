# SPDX-License-Identifier: MIT
"""May this record decide anything? What was judged, by what, under which rules.

Each rule says why not, or None. The groups go from what is known for certain to what is missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from avo_pytest.error_budget import level
from avo_pytest.policy import ISOLATION_LEVELS, LATER, SIMULATED, Policy, canonical
from avo_pytest.processes import ARMS
from avo_pytest.score import Check, Record, Status
from avo_pytest.verdict import Kind, Reason

MODES = ("measure", "screen", "confirm", "calibrate")
_AGAIN = "measure again with this tree's judge"


def known_mode(record: Record, policy: Policy) -> Reason | None:
    """A record of a mode that this version knows."""
    if record.mode in MODES:
        return None
    return Reason("mode", f"mode {record.mode!r} is not one of {', '.join(MODES)}", _AGAIN)


def candidate_failed(record: Record, policy: Policy) -> Reason | None:
    """One failed check of the candidate, also in the last launch, makes its score zero."""
    failed = _failed(record)
    wrong = [c for c in failed if c.arm == "candidate" and c.status is not Status.INVALID]
    if not wrong:
        return None
    first = wrong[0]
    where = "" if first.replicate is None else f" in replicate {first.replicate}"
    more = f" (and {len(wrong) - 1} more checks)" if len(wrong) > 1 else ""
    word = first.status.value.replace("_", " ")
    return Reason(
        "correctness",
        f"{first.configuration}{where}: {word}: {first.reason or 'no reason given'}{more}",
        "correct it first: `pytest bench/` checks without timing, --avo-seed replays the inputs",
    )


def other_failed(record: Record, policy: Policy) -> Reason | None:
    """A failed check of another arm, or one that is the machine's fault, says nothing of ours."""
    wrong = [c for c in _failed(record) if c.arm != "candidate" or c.status is Status.INVALID]
    if not wrong:
        return None
    text = f"{wrong[0].arm} on {wrong[0].configuration}: {wrong[0].reason or wrong[0].status}"
    return Reason("checks", text, "the candidate is not to blame; see the reason, then run again")


def same_artifact(record: Record, policy: Policy) -> Reason | None:
    """The same code and launch plans cannot be faster than themselves."""
    judged = {a.role: a for a in record.arms}
    candidate, incumbent = judged.get("candidate"), judged.get("incumbent")
    if record.mode == "calibrate" or candidate is None or incumbent is None:
        return None
    if not candidate.artifact or candidate.artifact != incumbent.artifact:
        return None
    text = f"candidate and incumbent are the same artifact, {candidate.artifact[:12]}"
    return Reason("no change", text, "change what the device executes; comments and names do not")


def only_measured(record: Record, policy: Policy) -> Reason | None:
    """Desk work."""
    if record.mode != "measure":
        return None
    advice = "--avo-mode confirm decides; --avo-mode screen says sooner whether that is worth it"
    return Reason("mode", "a measurement decides nothing", advice)


def policy_recorded(record: Record, policy: Policy) -> Reason | None:
    """The rules that were in force while it was measured are those it is judged by."""
    given = json.loads(canonical(policy))
    if not record.policy:
        return Reason("policy", "the record does not say which policy was in force", _AGAIN)
    recorded = json.loads(json.dumps({**LATER, **record.policy}))
    keys = sorted(recorded.keys() | given.keys())
    differing = [k for k in keys if repr(recorded.get(k)) != repr(given.get(k))]  # 1 is not true
    if not differing:
        return None
    key = differing[0]
    was, now = (_short(values.get(key)) for values in (recorded, given))
    more = f" (and {len(differing) - 1} more keys)" if len(differing) > 1 else ""
    return Reason("policy", f"{key} was {was} when it was measured and is {now} now{more}", _AGAIN)


def harness(record: Record, policy: Policy) -> Reason | None:
    """Another judge, another problem: other figures."""
    if policy.harness and record.harness == policy.harness:
        return None
    text = f"measured by harness {record.harness[:12] or 'unknown'}, not {policy.harness[:12]!r}"
    return Reason("harness", text, _AGAIN)


def configurations(record: Record, policy: Policy) -> Reason | None:
    """Exactly the set of this tree's problem, whole."""
    if record.set != policy.set or record.subset:
        what = f"set {record.set!r}" + (", a subset of it" if record.subset else "")
        return Reason("set", f"{what} was measured, not all of {policy.set!r}", _WHOLE)
    names = [c.name for c in record.configurations]
    extra = set(names) - set(policy.configurations)
    if missing := set(policy.configurations) - set(names):
        return Reason("set", f"configuration {min(missing)} was not measured", _WHOLE)
    if extra or len(names) != len(set(names)) or not names:
        odd = min(extra) if extra else "a name twice" if names else "no configuration"
        return Reason("set", f"{odd} is not in set {policy.set!r}", _WHOLE)
    if free := [c.name for c in record.configurations if not 0 < c.flops < math.inf]:
        return Reason("set", f"configuration {free[0]} has no plausible FLOPs", _WHOLE)
    return None


_WHOLE = "measure the whole set: no -k, no node id, no --avo-configuration"


def regime(record: Record, policy: Policy) -> Reason | None:
    """Only one regime decides."""
    if record.regime == policy.regime:
        return None
    text = f"measured {record.regime!r}, but {policy.regime!r} decides"
    return Reason("regime", text, f"--avo-regime {policy.regime}")


def isolation(record: Record, policy: Policy) -> Reason | None:
    """Every process at the level that the policy asks for, and none on a scripted device."""
    scripted = [_text(e, "device") == SIMULATED for e in _environments(record)]
    if policy.isolation == SIMULATED and all(scripted):
        return None
    advice = "`avo doctor` names what this machine lacks and the fix"
    if any(scripted) or SIMULATED in (record.target, policy.isolation):
        return Reason("isolation", "a simulated device never promotes, nor its policy", advice)
    rank = {level: i for i, level in enumerate(ISOLATION_LEVELS)}
    found = [record.isolation, *(_text(r.environment, "isolation") for r in record.replicates)]
    weakest = min(found, key=lambda level: rank.get(level, -1))
    if rank.get(weakest, -1) >= rank.get(policy.isolation, math.inf):
        return None
    text = f"isolation is {weakest!r}, promotion needs {policy.isolation!r}"
    return Reason("isolation", text, advice)


def arms(record: Record, policy: Policy) -> Reason | None:
    """Candidate, incumbent, and the incumbent a second time as the null twin."""
    found = {a.name: a for a in record.arms}
    if len(record.arms) != len(ARMS) or any(
        name not in found or found[name].role != name for name in ARMS
    ):
        names = ", ".join(f"{a.name} ({a.role})" for a in record.arms) or "none"
        return Reason("arms", f"the arms are {names}, not {', '.join(ARMS)}", _AGAIN)
    if not all(found[name].artifact for name in ARMS):
        return Reason("arms", "an arm has no artifact", _AGAIN)
    if found["null"].artifact != found["incumbent"].artifact:
        return Reason("arms", "the null twin is not the incumbent's artifact", _AGAIN)
    if record.mode == "calibrate" and found["candidate"].artifact != found["null"].artifact:
        return Reason("arms", "a calibration's candidate is not the incumbent's artifact", _AGAIN)
    return None


def one_device(record: Record, policy: Policy) -> Reason | None:
    """All processes on devices of one model, driver and power limit, that of the record."""
    for key in ("device", "driver", "power_limit_w", "threads"):
        values = {repr(e.get(key)) for e in _environments(record)}
        if len(values) > 1:
            text = f"{key} differs between the processes: {', '.join(sorted(values))}"
            return Reason("devices", text, "choose devices of one kind with --avo-devices")
    if not _text(record.environment, "device"):
        return Reason("devices", "the record does not name its device", _AGAIN)
    return None


def budget(record: Record, policy: Policy) -> Reason | None:
    """With an error budget every earlier confirm is there: its p-value and what became of it."""
    if record.mode == "calibrate":
        return None
    try:
        level(policy, record.attempts)
    except ValueError as error:
        return Reason("error budget", str(error), _AGAIN)
    return None


def attempts(record: Record, policy: Policy) -> Reason | None:
    """Every confirm of an artifact counts, and INVALID ones are not repeated until one fits."""
    if record.mode != "confirm":
        return None
    artifact = next(a.artifact for a in record.arms if a.role == "candidate")
    counts = [record.attempts.get(key) for key in ("confirms", "invalid", "all_confirms")]
    if record.attempts.get("artifact") != artifact or not all(map(_is_count, counts)):
        return Reason("attempts", "the earlier attempts of this artifact are not recorded", _AGAIN)
    if (invalid := record.attempts["invalid"]) <= policy.max_reruns:
        return None
    text = f"{invalid} confirms of this artifact were INVALID, {policy.max_reruns} may be repeated"
    return Reason("attempts", text, "mend the machine (see their reasons), then change the kernel")


RULES = (
    (Kind.INVALID, (known_mode,)),
    (Kind.INCORRECT, (candidate_failed,)),
    (Kind.INVALID, (other_failed,)),
    (Kind.NO_CHANGE, (same_artifact,)),
    (Kind.INCONCLUSIVE, (only_measured,)),
    (Kind.INVALID, (arms,)),
    (
        Kind.INVALID,
        (
            policy_recorded,
            harness,
            configurations,
            regime,
            isolation,
            one_device,
            attempts,
            budget,
        ),
    ),
)


def _failed(record: Record) -> list[Check]:
    """In an order that does not depend on the record's."""
    failed = (c for c in record.checks if not c.ok)
    return sorted(
        failed, key=lambda c: (c.replicate is not None, c.replicate or 0, c.configuration)
    )


def _environments(record: Record) -> list[Mapping[str, Any]]:
    return [record.environment, *(r.environment for r in record.replicates)]


def _text(mapping: Mapping[str, Any], key: str) -> str:
    value = mapping.get(key)
    return value if isinstance(value, str) else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
