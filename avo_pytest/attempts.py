# SPDX-License-Identifier: MIT
"""Every confirm that began on this machine, in `.avo/attempts.jsonl`: who tries often enough wins
by luck, so tries are counted, whatever became of them.

Append-only, one line when the first confirm replicate may start and one with the verdict. A line
is one write under a lock, so that two judges and a crash leave whole lines; half a line at the end
is closed by whoever writes next and counts for nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

FILE = "attempts.jsonl"
INVALID, PROMOTE = "INVALID", "PROMOTE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What makes two confirms the same: trees (known before a build) and all that they meet."""

    kernel: str
    target: str
    set: str
    candidate: str  # tree hashes
    incumbent: str
    harness: str
    policy: str  # its digest
    configurations: tuple[str, ...]
    devices: tuple[str, ...]
    share: str = ""  # K/N
    question: str = ""  # the nonce, which all shares of one confirm have


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One confirm. `verdict` is empty while it runs, or where it was killed.

    `seed` is the run's: whoever continues it replays and records one seed. `model` is the device's
    name, `artifacts` are the hashes of candidate and incumbent.
    """

    run: str
    created: str
    seed: int
    identity: Identity
    artifacts: tuple[str, str]
    model: str
    verdict: str = ""
    p_value: float | None = None

    def same(self, artifacts: tuple[str, str], model: str) -> bool:
        """Whether what was built and is run on now is what it was about."""
        return (self.artifacts, self.model) == (artifacts, model)


def begin(home: Path, attempt: Attempt) -> None:
    """Write down that it begins. Raises OSError: what cannot be counted must not begin."""
    _append(home, {"begin": asdict(attempt)})


def end(home: Path, run: str, verdict: str, p_value: float | None) -> None:
    """Write down what became of it. Raises OSError."""
    _append(home, {"end": run, "verdict": verdict, "p_value": p_value})


def read(home: Path) -> list[Attempt]:
    """All attempts, oldest first. What is not a line of ours is passed over."""
    found: list[dict[str, Any]] = []
    last: dict[str, dict[str, Any]] = {}  # of each run, which may have begun anew
    for line in _lines(home / FILE):
        if isinstance(begun := line.get("begin"), dict):
            found.append(begun)
            last[str(begun.get("run"))] = begun
        elif (run := str(line.get("end"))) in last:
            last[run].update(verdict=line.get("verdict"), p_value=line.get("p_value"))
    return [a for raw in found if (a := _attempt(raw)) is not None]


def history(
    attempts: Sequence[Attempt], artifact: str, identity: Identity, *, past: bool = False
) -> dict[str, Any]:
    """`Record.attempts`: the confirms before this one, of this artifact and of all of them here.

    One that was killed and not continued counts as INVALID, and so does a share, since nobody here
    learns what became of it; shares of one confirm count once, those of this one not. `past`: also
    the p-value of each, and whether it was promoted, which an error budget is made of.
    """
    here = _confirms([a for a in attempts if _place(a.identity) == _place(identity)], identity)
    own = [a for a in here if a.artifacts[0] == artifact]
    each = {"past": [[a.p_value, a.verdict == PROMOTE] for a in here]} if past else {}
    return {
        **each,
        "artifact": artifact,
        "confirms": len(own),
        "invalid": sum(a.verdict in ("", INVALID) for a in own),
        "all_confirms": len(here),
        "promotions": sum(a.verdict == PROMOTE for a in here),
    }


def _place(identity: Identity) -> tuple[str, str]:
    return identity.kernel, identity.target


def _confirms(attempts: Sequence[Attempt], identity: Identity) -> list[Attempt]:
    """One attempt a confirm. Shares are of one confirm if they answer one question; a share that
    was run again is of another."""
    runs: Counter[Identity] = Counter()
    found: dict[Any, Attempt] = {}
    for number, attempt in enumerate(attempts):
        key: Any = number
        if attempt.identity.share:
            key = (_confirm(attempt.identity), runs[attempt.identity])
            runs[attempt.identity] += 1
        found.setdefault(key, attempt)
    if identity.share:
        found.pop((_confirm(identity), runs[identity]), None)
    return list(found.values())


def _confirm(identity: Identity) -> Identity:
    """What the shares of one confirm have in common."""
    return replace(identity, share="", devices=())


def _append(home: Path, line: Mapping[str, Any]) -> None:
    text = json.dumps(line, sort_keys=True).encode() + b"\n"
    descriptor = os.open(home / FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            text = b"\n" + text
        if os.write(descriptor, text) != len(text):
            raise OSError(f"{home / FILE}: the disk is full")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            parsed = json.loads(line)
        except ValueError:
            continue
        if isinstance(parsed, dict):
            yield parsed


def _attempt(raw: Mapping[str, Any]) -> Attempt | None:
    try:
        if raw.keys() - {f.name for f in fields(Attempt)}:
            return None
        held = raw["identity"]
        lists = {k: tuple(held[k]) for k in ("configurations", "devices")}
        identity = Identity(**{**held, **lists})
        candidate, incumbent = raw["artifacts"]
        return Attempt(**{**raw, "identity": identity, "artifacts": (candidate, incumbent)})
    except (KeyError, TypeError, ValueError):
        return None
