# SPDX-License-Identifier: MIT
"""The confined shell as a tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import shell
from agent.step import Result
from agent.tools.tool import Declared, Pages, ToolError, number, text

LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Console:
    """Where commands run and what they may write."""

    worktree: Path
    folder: Path

    def run(self, given: Mapping[str, Any]) -> Result:
        """One command."""
        timeout_s = float(given.get("seconds", shell.TIMEOUT_S))
        try:
            answer = shell.run(
                given["command"], worktree=self.worktree, writable=self.folder, timeout_s=timeout_s
            )
        except shell.ShellError as error:
            raise ToolError(str(error)) from None
        ended = f"exit status {answer.returncode}"
        if answer.timed_out:
            ended = f"ended after {timeout_s:g} s"
        elif answer.returncode < 0:
            ended = f"killed by signal {-answer.returncode}"
        output = answer.output.rstrip("\n")
        facts = {"returncode": answer.returncode, "seconds": answer.seconds}
        return Result(text=f"{ended}, {answer.seconds:.1f} s\n{output}".rstrip(), facts=facts)


def tools(console: Console, pages: Pages) -> list[Declared]:
    """`shell`."""
    return [
        Declared(
            name="shell", act=console.run, pages=pages, required=("command",),
            description="Run a command with bash in the worktree. It has no network, no GPU and no "
            "git; it may write in the target folder and in $TMPDIR, which is empty each time. "
            "Everything it starts ends with the call. Standard output and error come together.",
            properties={
                "command": text("for bash -c", shell.COMMAND_CHARACTERS, minLength=1),
                "seconds": number("at most so long, 120 without it", 1, LONGEST_S),
            },
        )
    ]  # fmt: skip
