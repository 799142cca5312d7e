# SPDX-License-Identifier: MIT
"""The broker: registers a scoring machine for one job at a time. It runs on another machine.

It holds the token that may register runners; the scoring machine sees a registration that is good
for one job, and is a clean machine again afterwards (docs/runners.md).
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

GROUP = 1  # GitHub's number of the default group
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=30", "-T")


class GitHub(Protocol):
    """As `ci.github.GitHub`."""

    def post(self, path: str, body: Any) -> Any: ...

    def delete(self, path: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """A machine: how it is reached (a command that reads a registration) and what it is called."""

    command: tuple[str, ...]
    labels: tuple[str, ...]
    name: str
    group: int = GROUP


class BrokerError(Exception):
    """A registration that GitHub did not give, or a machine that did not take it."""


def over_ssh(host: str) -> tuple[str, ...]:
    """The command for a machine set up by `avo runner setup`; its key is tied to one command."""
    if host.startswith("-"):
        raise BrokerError(f"{host!r} is no host")
    return (*SSH, "--", host)


def one_job(github: GitHub, scorer: Scorer) -> int:
    """Register, hand over, wait for the job to end; the status of the machine's command."""
    name = f"{scorer.name}-{secrets.token_hex(4)}"
    answer = github.post(
        "actions/runners/generate-jitconfig",
        {
            "name": name,
            "runner_group_id": scorer.group,
            "labels": list(scorer.labels),
            "work_folder": "_work",
        },
    )
    number, registration = _read(answer)
    try:
        return _hand_over(scorer.command, registration)
    finally:  # where the job was taken GitHub has removed it already
        github.delete(f"actions/runners/{number}")


def _read(answer: Any) -> tuple[int, str]:
    try:
        number, registration = int(answer["runner"]["id"]), str(answer["encoded_jit_config"])
    except (KeyError, TypeError, ValueError) as error:
        raise BrokerError(f"GitHub's answer is no registration: {error!r}") from error
    if not registration or not registration.isascii() or len(registration.split()) != 1:
        raise BrokerError("GitHub's registration is not one word")
    return number, registration


def _hand_over(command: Sequence[str], registration: str) -> int:
    try:
        done = subprocess.run(list(command), input=f"{registration}\n", text=True)
    except OSError as error:
        raise BrokerError(f"{command[0]}: {error.strerror}") from error
    return done.returncode
