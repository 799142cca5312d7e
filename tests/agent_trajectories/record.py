# SPDX-License-Identifier: MIT
"""Records searches that the judge really judged, for the supervisor's detector to be tested on.

    python tests/agent_trajectories/record.py OUT.jsonl [NAME...]

Each search edits three constants of a kernel on the simulated device, whose speed is planted, and
is judged by the command, a confirm per attempt. Its label is what it was written to be.
"""

from __future__ import annotations

import difflib
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import simulated_repository as repository  # noqa: E402

Constants = dict[str, int]
VALUES = {"TILE": (32, 64, 96, 128, 160, 192), "STAGES": (1, 2, 3, 4, 5), "UNROLL": (1, 2, 4, 8)}
BEST = {"TILE": 128, "STAGES": 3, "UNROLL": 4}
FAULTS = ("zeros", "row", "stale", "input", "canary", "crash")
SCORE = ("-m", "pytest", "-p", "no:cacheprovider", "--avo-score", "-q", "--avo-mode=confirm")


@dataclass
class Search:
    """What a searcher sees: where it stands, what it tried, and chance."""

    here: Constants
    random: random.Random
    tried: list[Constants] = field(default_factory=list)
    count: int = 0


@dataclass(frozen=True)
class Try:
    """One attempt: constants, and what is wrong with it."""

    constants: Constants
    fault: str = ""
    bad_key: str = ""
    machine: str = "simulated"
    bonus: float = 0.0  # a gain beside the constants, as of an edit elsewhere


def speed(constants: Constants, scale: float = 0.03) -> float:
    """ln of the planted speed: each constant's distance from its best costs."""
    away = [abs(VALUES[k].index(v) - VALUES[k].index(BEST[k])) for k, v in constants.items()]
    return -scale * sum(a**1.5 for a in away)


def neighbours(here: Constants) -> list[Constants]:
    """One constant, one place."""
    found = []
    for name, values in VALUES.items():
        for place in (values.index(here[name]) - 1, values.index(here[name]) + 1):
            if 0 <= place < len(values):
                found.append({**here, name: values[place]})
    return found


def climb(search: Search) -> Try:
    """A neighbour that was not tried, then anything that was not tried."""
    fresh = [c for c in neighbours(search.here) if c not in search.tried]
    while not fresh:
        drawn = {name: search.random.choice(values) for name, values in VALUES.items()}
        fresh = [drawn] if drawn not in search.tried else []
    return Try(search.random.choice(fresh))


def forgetful(search: Search) -> Try:
    """A neighbour, tried or not."""
    return Try(search.random.choice(neighbours(search.here)))


def oscillating(search: Search) -> Try:
    """Back and forth between two."""
    return Try({**search.here, "TILE": (96, 160)[search.count % 2]})


def rotating(search: Search) -> Try:
    """Three, in turn, after two others."""
    turn = ("TILE", 64), ("STAGES", 2), ("UNROLL", 8), ("TILE", 96), ("STAGES", 4)
    name, value = turn[search.count] if search.count < 5 else turn[2 + search.count % 3]
    return Try({**search.here, name: value})


def stubborn(search: Search) -> Try:
    """The same key that the manifest does not have, with other constants each time."""
    return Try(climb(search).constants, bad_key="prefetch")


def breaking(search: Search) -> Try:
    """Another fault each time."""
    return Try(climb(search).constants, fault=FAULTS[search.count % len(FAULTS)])


def stumbling(search: Search) -> Try:
    """Climbs, and every third attempt is wrong at first."""
    wrong = search.count % 3 == 1
    return Try(climb(search).constants, fault="row" if wrong else "")


def creeping(search: Search) -> Try:
    """One attempt in three gains 1.2 %."""
    return lucky(search, 3, 0.012)


def crawling(search: Search) -> Try:
    """One attempt in five gains 1 %."""
    return lucky(search, 5, 0.010)


def lucky(search: Search, one_in: int, gain: float) -> Try:
    """A climb that by something else gains so much, once in a while."""
    constants = climb(search).constants
    luck = search.random.randrange(one_in) == 0
    return Try(constants, bonus=gain - speed(constants) + speed(search.here) if luck else 0.0)


def disturbed(search: Search) -> Try:
    """Climbs while every other run of the machine is useless."""
    machine = "simulated:machine.toml" if search.count % 2 else "simulated"
    return Try(climb(search).constants, machine=machine)


FAR = {"TILE": 32, "STAGES": 1, "UNROLL": 1}
NEAR = {"TILE": 96, "STAGES": 3, "UNROLL": 2}
# name: label, searcher, start, attempts, seed
SEARCHES: dict[str, tuple[str, Callable[[Search], Try], Constants, int, int]] = {
    "climb": ("healthy", climb, FAR, 11, 1),
    "climb-again": ("healthy", climb, {"TILE": 192, "STAGES": 5, "UNROLL": 1}, 10, 2),
    "stumbling-climb": ("healthy", stumbling, FAR, 12, 3),
    "disturbed-climb": ("healthy", disturbed, FAR, 14, 4),
    "exhausted": ("stall", climb, BEST, 14, 5),
    "climb-then-exhausted": ("stall", climb, NEAR, 18, 6),
    "breaking": ("stall", breaking, FAR, 10, 7),
    "forgetful": ("cycle", forgetful, BEST, 14, 8),
    "oscillating": ("cycle", oscillating, BEST, 10, 9),
    "rotating": ("cycle", rotating, BEST, 14, 10),
    "stubborn": ("cycle", stubborn, FAR, 8, 11),
    "creeping": ("slow", creeping, BEST, 20, 12),
    "crawling": ("slow", crawling, BEST, 24, 13),
}


def record(name: str, root: Path) -> dict[str, Any]:
    """One search, judged from its first to its last attempt."""
    label, searcher, start, count, seed = SEARCHES[name]
    search = Search(start, random.Random(seed))
    level, attempts = 0.0, []
    for search.count in range(count):
        tried = searcher(search)
        gain = speed(tried.constants) - speed(search.here) + tried.bonus
        attempt = judge(root, tried, level, level + gain)
        attempt["diff"] = diff(search.here, tried)
        attempts.append({"step": search.count + 1, **_short(attempt, root)})
        search.tried.append(tried.constants)
        if attempt["verdict"] == "PROMOTE":
            level += gain
            search.here = search.here if tried.bonus else tried.constants
        print(name, attempts[-1], flush=True)
    source = f"record.py, search {name}, {count} confirms on the simulated device"
    return {"name": f"sim-{name}", "label": label, "source": source, "attempts": attempts}


def judge(root: Path, tried: Try, level: float, gain: float) -> dict[str, Any]:
    """The verdict on one attempt, from its record; of one that is refused earlier, its words."""
    repository.script(root, "before", gain=level)
    keys: dict[str, Any] = {"gain": gain, "comment": json.dumps(tried.constants).replace('"', "'")}
    keys |= {"fault": tried.fault, "at": 3} if tried.fault else {}
    keys |= {tried.bad_key: 1} if tried.bad_key else {}
    repository.script(root, **keys)
    target = root / "record.json"
    target.unlink(missing_ok=True)
    options = (f"--avo-device={tried.machine}", "--avo-incumbent=before", "--avo-json=record.json")
    line = (sys.executable, *SCORE, "--avo-exit-verdict", *options)
    done = subprocess.run(line, cwd=root, capture_output=True, text=True, timeout=300)
    if not target.exists():
        said = [line for line in done.stdout.splitlines() if "kernel.toml" in line]
        return {"verdict": "INCORRECT", "correct": False, "failure": (said or [done.stdout])[0]}
    verdict = json.loads(target.read_text())["derived"]["verdict"]
    right = verdict["kind"] != "INCORRECT"
    reason = "; ".join(f"{r['rule']}: {r['text']}" for r in verdict["reasons"])
    failure = "" if right else reason[:300]
    return {
        "verdict": verdict["kind"],
        "gain": verdict["gain"],
        "correct": right,
        "failure": failure,
    }


def diff(here: Constants, tried: Try) -> str:
    """The edit as it would be in a kernel's source."""
    before, after = (list(_source(c, b)) for c, b in ((here, 0.0), (tried.constants, tried.bonus)))
    return "\n".join([*difflib.unified_diff(before, after, lineterm="", n=0)][2:])


def _short(attempt: dict[str, Any], root: Path) -> dict[str, Any]:
    """Without this machine's paths, digits that say nothing, and what goes without saying."""
    gain = attempt.get("gain")
    attempt["failure"] = attempt["failure"].replace(f"{root}/", "")
    attempt["gain"] = None if gain is None else round(gain, 6)
    usual = {"gain": None, "correct": True, "failure": "", "diff": ""}
    return {k: v for k, v in attempt.items() if k not in usual or v != usual[k]}


def _source(constants: Constants, bonus: float) -> Iterator[str]:
    for name, value in constants.items():
        yield f"constexpr int {name} = {value};"
    if bonus:
        yield f"// gained elsewhere: {bonus:.4f}"


def main(out: Path, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = repository.write(
            Path(folder), "replicates = 8\nscreen_blocks = 24\nconfirm_blocks = 4"
        )
        repository.script(root, "before")
        repository.scenario(root, "[incidents]\ndisturbed = 0.9\nthrottled = 0.9\n")
        line = ("-m", "avo_pytest", "calibrate", "--device=simulated", "--incumbent=before")
        subprocess.run((sys.executable, *line, "--processes=8"), cwd=root, check=True)
        with out.open("a", encoding="utf-8") as file:
            for name in names or SEARCHES:
                file.write(json.dumps(record(name, root), ensure_ascii=False) + "\n")
                file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
