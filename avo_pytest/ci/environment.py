# SPDX-License-Identifier: MIT
"""What is installed where a score is made, against the lock that its image was made from.

A lock pins `name==version`, one a line. The digest names what is installed, whatever is locked.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NONE = "none"  # as a lock: nothing is compared
FREE = frozenset({"avo-pytest", "pip", "setuptools", "wheel", "uv"})  # installers, and ourselves
MOST_SHOWN = 5


class LockError(ValueError):
    """A lock that cannot be read."""


@dataclass(frozen=True, slots=True)
class Environment:
    """`differences`: sentences; none means that the environment is the lock's."""

    lock: str
    digest: str
    lock_digest: str
    python: str
    differences: tuple[str, ...]


def compare(lock: Path | None) -> Environment:
    """This interpreter's environment against a lock. Raises LockError."""
    found = installed()
    pinned = {} if lock is None else _pinned(lock)
    differences = () if lock is None else tuple(_differences(found, pinned))
    return Environment(
        lock=NONE if lock is None else lock.name,
        digest=digest(found),
        lock_digest=digest(pinned) if pinned else "",
        python=sys.version.split()[0],
        differences=differences,
    )


def chosen(named: str | None, root: Path, target: str) -> Path | None:
    """The lock to compare with: as named, else AVO_LOCK, else the target's; None for no lock."""
    name = named or os.environ.get("AVO_LOCK") or ""
    if name == NONE or (not name and target == "simulated"):  # a scripted device has no image
        return None
    if name:
        return Path(name) if Path(name).is_absolute() else root / name
    return root / "requirements" / ("cpu.txt" if target == "cpu" else "gpu.txt")


def installed() -> dict[str, str]:
    """Normalised name → version of every distribution that this interpreter sees."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        if name := distribution.metadata["Name"]:
            found.setdefault(_normal(name), distribution.version)  # the first is imported
    return {name: version for name, version in found.items() if name not in FREE}


def digest(versions: Mapping[str, str]) -> str:
    """SHA-256 of the sorted lines `name==version`."""
    lines = "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _pinned(lock: Path) -> dict[str, str]:
    try:
        text = lock.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise LockError(f"{lock}: {error}") from error
    found = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].partition(";")[0].strip()
        if not line:
            continue
        parts = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!_-]+)", line)
        if parts is None:
            raise LockError(f"{lock}:{number}: {line[:80]!r} is not name==version")
        found[_normal(parts[1])] = parts[2]
    return found


def _differences(found: Mapping[str, str], pinned: Mapping[str, str]) -> Iterator[str]:
    """What is installed is what is pinned; a lock may pin more than one machine needs."""
    other = [n for n in sorted(found.keys() & pinned.keys())
             if _public(found[n]) != _public(pinned[n])]  # fmt: skip
    odd = [f"{name} is {found[name]}, the lock has {pinned[name]}" for name in other]
    extra = sorted(found.keys() - pinned.keys())
    odd += [f"{name} {found[name]} is installed and not in the lock" for name in extra]
    yield from odd[:MOST_SHOWN]
    if len(odd) > MOST_SHOWN:
        yield f"and {len(odd) - MOST_SHOWN} more"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _public(version: str) -> str:
    """Without the local part: 2.13.0+cpu is built from 2.13.0."""
    return version.partition("+")[0]
