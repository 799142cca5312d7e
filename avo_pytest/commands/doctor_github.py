# SPDX-License-Identifier: MIT
"""`avo doctor --github`: what a repository on GitHub lacks to run the gate."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of `avo doctor` that ask about GitHub."""
    told = "the repository on GitHub instead (default: GITHUB_REPOSITORY, else origin's)"
    parser.add_argument("--github", nargs="?", const="", metavar="OWNER/NAME", help=told)
    parser.add_argument("--script", action="store_true", help="with --github: fixes as a script")


def run(arguments: argparse.Namespace) -> int:
    """Print what the repository lacks, or the script that mends it."""
    from avo_pytest import gates
    from avo_pytest.ci import advice
    from avo_pytest.ci.github import GitHub, GitHubError
    from avo_pytest.printable import one_plain_line

    try:
        name = arguments.github or os.environ.get("GITHUB_REPOSITORY") or _origin(arguments.root)
        github = GitHub.from_environment({**os.environ, "GITHUB_REPOSITORY": name})
        found = list(advice.examine(github, gates.load(arguments.root)))
    except (GitHubError, gates.GateError, ValueError) as error:
        print(f"avo doctor: {error}", file=sys.stderr)
        return 2
    if arguments.script:
        print(advice.script(found, github.repository), end="")
        return 0
    for line in found:
        state = "ok     " if line.ok else "missing"
        print(f"{state} {one_plain_line(line.what, 60):<32} {one_plain_line(line.detail, 300)}")
        print("".join(f"{'':8}{row}\n" for row in line.fix.splitlines()), end="")
    return int(not all(line.ok for line in found))


def _origin(root: Path) -> str:
    """OWNER/NAME of the remote `origin`. Raises ValueError."""
    from avo_pytest.branches import GitError, git_text, opened

    try:
        with opened(root) as repository:
            url = git_text(repository, "remote", "get-url", "origin")
    except GitError as error:
        raise ValueError(f"name the repository: --github OWNER/NAME ({error})") from error
    found = re.search(r"[:/]([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+?)(\.git)?/?$", url)
    if found is None or "://" not in url and "@" not in url:
        raise ValueError("origin is not on GitHub: name the repository, --github OWNER/NAME")
    return found[1]
