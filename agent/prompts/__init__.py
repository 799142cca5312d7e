# SPDX-License-Identifier: MIT
"""The texts that the model gets, one file each, with `$names` to fill in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from string import Template

FOLDER = Path(__file__).parent


def prompt(name: str, **values: str) -> str:
    """The text of `name`.md with its names filled in; every name needs its value."""
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    return Template(text).substitute(values).strip()


def digest() -> str:
    """Of all texts, for the record of a run."""
    files = sorted(FOLDER.glob("*.md"))
    return hashlib.sha256(b"\0".join(p.name.encode() + p.read_bytes() for p in files)).hexdigest()
