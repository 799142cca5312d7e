# SPDX-License-Identifier: MIT
"""`intake.json`: what is to be judged, by whom, and against what. The jobs after intake obey it.

It says everything that a record is compared with later, and was written where no code of the
candidate ran.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from avo_pytest import shares
from avo_pytest.ci.outputs import write_json
from avo_pytest.gates import Gate
from avo_pytest.identity import read_regular, tree_hash
from avo_pytest.strict_json import build, loads

FILE, CANDIDATE, IGNORED = "intake.json", "candidate", "ignored.json"
MOST_BYTES = 1 << 20
UNKNOWN = "unknown"  # kernel and target of a proposal that names none


class OrderError(ValueError):
    """A folder that holds no order, or another one than it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Commits are full SHAs, `candidate`, `incumbent` and `harness` hashes; "" where not known.

    `files` of the candidate: path → SHA-256 of the contents. `pull` 0: a branch. `gates`: rows of
    the matrix.
    """

    event: str
    sender: str
    created: str
    repository: str
    run: str  # of the workflow, and its attempt
    attempt: int
    nonce: str
    pull: int = 0
    ref: str = ""
    fork: bool = False
    proposal: str = ""
    base: str = ""  # main's tip
    landing: str = ""
    kernel: str = UNKNOWN
    target: str = UNKNOWN
    candidate: str = ""
    incumbent: str = ""
    harness: str = ""
    idea: str = ""
    author: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    gates: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Write the file into a folder."""
        write_json(folder / FILE, asdict(self))


def load(folder: Path) -> Order:
    """The order of a folder. Raises OrderError."""
    path = folder / FILE
    try:
        if path.stat().st_size > MOST_BYTES:
            raise OrderError(f"{path}: more than {MOST_BYTES} bytes")
        raw = loads(read_regular(path))
        gates, notes = raw.get("gates", ()), tuple(map(str, raw.get("notes", ())))
        order: Order = build(Order, raw, gates=tuple(map(dict, gates)), notes=notes)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise OrderError(f"{path}: {error}") from error
    return order


def row(gate: Gate) -> dict[str, Any]:
    """A gate as a row of the matrix. The name is that of its artifacts."""
    words = [gate.kernel, gate.target, *re.findall(r"[a-z0-9]+", gate.device.lower())]
    return {
        "name": "-".join(words)[:80],
        "kernel": gate.kernel,
        "target": gate.target,
        "device": gate.device,
        "labels": list(gate.labels),
        "role": gate.role,
        "shares": gate.shares,
    }


def jobs(gate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One job of the matrix a share: "K/N", and where its artifact is kept. A gate's name has no
    dot, so that no two artifacts have one name."""
    name, count = str(gate["name"]), int(gate["shares"])
    if count == 1:
        return [{**gate, "share": "1/1", "artifact": f"score-{name}"}]
    return [
        {**gate, "share": shares.text(k, count), "artifact": f"score-{name}.{k}of{count}"}
        for k in range(1, count + 1)
    ]


def job(gate: Mapping[str, Any], share: str) -> dict[str, Any]:
    """The job of a share. Raises OrderError."""
    found = {str(one["share"]): one for one in jobs(gate)}
    if share not in found:
        raise OrderError(f"share {share!r}: gate {gate['name']} has {', '.join(found)}")
    return found[share]


def gate_named(order: Order, name: str) -> Mapping[str, Any]:
    """The row of a gate. Raises OrderError."""
    for found in order.gates:
        if found["name"] == name:
            return found
    known = ", ".join(g["name"] for g in order.gates) or "none"
    raise OrderError(f"gate {name!r} is not in {FILE}; there: {known}")


def restore(order: Order, folder: Path, to: Path) -> Path:
    """The candidate's files in `to`, no others and none executable. Raises OrderError.

    Every file is compared with its digest, and the whole with the identity in the order.
    """
    source = folder / CANDIDATE
    for path, digest in sorted(order.files.items()):
        try:
            content = read_regular(source / path)
        except OSError as error:
            raise OrderError(f"{source / path}: {error.strerror or error}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise OrderError(f"{source / path}: is not the file that intake saw")
        place = to / path
        if not place.resolve().is_relative_to(to.resolve()):
            raise OrderError(f"{path}: leaves the folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        place.chmod(0o644)
    if tree_hash(to) != order.candidate:
        raise OrderError(f"{source}: is not candidate {order.candidate[:12]}")
    return to


def keep(files: Mapping[str, bytes], folder: Path) -> dict[str, str]:
    """Write a candidate's files (path → contents) below `folder`; what the order says of them."""
    said = {}
    for path, content in sorted(files.items()):
        place = folder / CANDIDATE / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        said[path] = hashlib.sha256(content).hexdigest()
    return said


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """A small JSON file of another job; None where there is none. Raises OrderError.

    Links and special files are no files here: an artifact may hold what its maker likes.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OrderError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
        raise OrderError(f"{path}: no regular file of at most {most_bytes} bytes")
    try:
        return loads(read_regular(path))
    except (OSError, ValueError) as error:
        raise OrderError(f"{path}: {error}") from error


def as_text(order: Order) -> str:
    """The matrix, as GitHub's fromJSON reads it."""
    rows = [row for gate in order.gates for row in jobs(gate)]
    return json.dumps(rows, separators=(",", ":"))
