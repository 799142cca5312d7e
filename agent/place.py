# SPDX-License-Identifier: MIT
"""What a run evolves, and what its branches and refs are called."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.refs import ATTEMPTS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")


@dataclass(frozen=True, slots=True)
class Place:
    """A run, its kernel and its target. Raises ValueError for what git could not call a branch."""

    run: str
    kernel: str
    target: str

    def __post_init__(self) -> None:
        for name in (self.run, self.kernel, self.target):
            if not NAME.fullmatch(name) or ".." in name or name.endswith((".lock", ".")):
                raise ValueError(f"{name!r} is no name for a run, kernel or target")

    @property
    def folder(self) -> str:
        """The only one that may change, as git writes it."""
        return f"kernels/{self.kernel}/{self.target}"

    @property
    def work(self) -> str:
        """The working lineage."""
        return f"refs/heads/evolve/{self.run}/work"

    def proposal(self, number: int) -> str:
        """The branch of a step's proposal."""
        return f"refs/heads/evolve/{self.run}/{number}"

    def attempt(self, number: int | str) -> str:
        """Where a step's failed tree is kept."""
        return f"{ATTEMPTS}{self.run}/{number}"
