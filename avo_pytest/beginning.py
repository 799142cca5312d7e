# SPDX-License-Identifier: MIT
"""What `avo init` puts into a repository: the first commit of its ledger, and a minimal layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avo_pytest import gates
from avo_pytest.entries import Entry
from avo_pytest.lineage import Series, lineages
from avo_pytest.report.badge import badges, placeholders
from avo_pytest.report.ladder import as_markdown

README = """\
# Results

The ledger of this repository: one JSON line per judged candidate, whatever the verdict, appended
and never changed. `ledger/YYYY-MM/DD.jsonl` holds the lines, `ladders/` and `badges/` are generated
from them. Each line ends with a digest of itself and carries the digest of its raw samples, which,
where they were kept, are on a ref of their own: `git fetch origin refs/avo/raw/<run>`.

`avo lineage` reads it, `avo page` draws it. Nothing here is written by hand.
"""
PYPROJECT = """\
[tool.avo]
kernel = "{kernel}"

# Which device decides: one `judge` per target.
[[tool.avo.gates]]
kernel = "{kernel}"
target = "cpu"
device = "cpu"
labels = ["self-hosted", "cpu"]
role = "judge"
"""
GITIGNORE = ".avo/\n__pycache__/\n.benchmarks/\n"


def ledger_files(root: Path, entries: Sequence[Entry]) -> dict[str, bytes]:
    """README, ladders of the shipped lineage, and badges; placeholders where nothing is known."""
    files = {"README.md": README}
    files |= {f"badges/{k}": v for k, v in placeholders(judged(root)).items()}
    files |= {f"badges/{k}": v for k, v in badges(entries).items()}
    for name in sorted({f"{e.kernel}-{e.target}" for e in entries}):
        mine = [e for e in entries if f"{e.kernel}-{e.target}" == name]
        files[f"ladders/{name}.md"] = as_markdown(lineages(mine), name)
    return {path: text.encode() for path, text in files.items()}


def judged(root: Path) -> list[Series]:
    """What the gate table has a judge for. Raises ValueError for a table that is not one."""
    table = gates.load(root)
    return [Series(g.kernel, g.target, g.device) for g in table if g.role == gates.JUDGE]


def layout(root: Path, kernel: str) -> dict[Path, str]:
    """Path → contents of what a repository without kernels needs to score one at once."""
    from avo_pytest.commands.new import kernel_files

    files = kernel_files(kernel, "cpu") if not (root / "kernels").is_dir() else {}
    if files:
        files |= {
            Path("pyproject.toml"): PYPROJECT.format(kernel=kernel),
            Path(".gitignore"): GITIGNORE,
        }
    return files


def advice(path: Path, text: str, existing: str) -> str:
    """What to add by hand to a file that exists and is left alone; empty: it has all of it."""
    if path.name == "pyproject.toml":
        return "" if "[tool.avo" in existing else text
    if path.name == ".gitignore":
        lines = existing.splitlines()
        return "".join(f"{line}\n" for line in text.splitlines() if line not in lines)
    return ""
