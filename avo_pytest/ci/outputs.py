# SPDX-License-Identifier: MIT
"""What a job tells the workflow and the reader of its log: outputs, summary, lines.

A value is one line by construction: a newline in an output file would begin another output.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avo_pytest.journal import write_atomically
from avo_pytest.printable import printable


def tell(values: Mapping[str, str | bool]) -> None:
    """Set the outputs of this step (GITHUB_OUTPUT) and print them."""
    lines = [f"{name}={_plain(value)}" for name, value in values.items()]
    if path := os.environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    for line in lines:
        print(f"  {line}")


def summarise(markdown: str) -> None:
    """Add to the page of the run (GITHUB_STEP_SUMMARY)."""
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{markdown}\n")


def say(text: str) -> None:
    """A line for the log. No text of others becomes a workflow command there."""
    line = printable(text, " ")
    print(f" {line}" if line.startswith("::") else line, file=sys.stderr)


def write_json(path: Path, value: Any) -> None:
    """A file of ours: sorted, readable, no NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n")


def _plain(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else printable(value, " ")
