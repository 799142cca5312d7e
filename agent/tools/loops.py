# SPDX-License-Identifier: MIT
"""The hot loops of a disassembly, of SASS or a CPU's: where the arithmetic is, by counting.

A loop is what lies between a branch and its earlier target. Nothing is executed: what is called hot
is the innermost code with the most arithmetic.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

MOST_LOOPS = 3
MOST_OPCODES = 16
MATH = re.compile(
    r"HGMMA|QGMMA|HMMA|IMMA|UTC\w*MMA|FFMA2?|FMUL2?|FADD2?|HFMA2|MUFU|IMAD"  # SASS
    r"|v?fn?m(?:add|sub)\w*|vdpbf16ps|tdpbf16ps|vpdp\w+|v?(?:mul|add|sub|max|min)p[sdh]"  # x86
    r"|fmla|fmls|bfmmla|bfdot|fmul|fadd|fmax|fmin"  # AArch64
)
WEIGHTS = (("MMA", 64), ("dpbf16", 16), ("bfmmla", 16), ("bfdot", 8))
_FUNCTION = re.compile(r"^(?:[0-9a-f]+ <(?P<host>.+)>:|\s*\.section\s+\.text\.(?P<gpu>[^,\s]+))")
_LABEL = re.compile(r"^(\.L_\w+):")
_SASS = re.compile(r"^\s*/\*(?P<at>[0-9a-f]{4,})\*/\s+(?P<guard>@!?U?P\w+\s+)?(?P<code>[^;]+)")
_HOST = re.compile(r"^\s+(?P<at>[0-9a-f]+):\s+(?P<code>\S.*)")
_HOST_BRANCH = re.compile(
    r"^(?:j\w+|b(?:\.\w+)?|cbn?z|tbn?z)\s+(?:\w+,\s*(?:#\d+,\s*)?)?([0-9a-f]+)\b"
)
_SASS_BRANCH = re.compile(r"^BRA\b.*`\((\.L_\w+)\)")


@dataclass(frozen=True, slots=True)
class Loop:
    """Instructions of one loop; `weight` is their arithmetic."""

    function: str
    lines: tuple[str, ...]
    weight: int

    def mix(self) -> str:
        """Opcodes by number."""
        counts = Counter(line.split()[0].split(".")[0] for line in self.lines)
        most = counts.most_common(MOST_OPCODES)
        return "  ".join(f"{name} {count}" for name, count in most)


@dataclass(slots=True)
class _Code:
    """One function: its instructions, where labels and addresses are, and its branches."""

    name: str
    lines: list[str] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    branches: list[tuple[int, str]] = field(default_factory=list)

    def add(self, at: str, instruction: str) -> None:
        """One more instruction."""
        code = instruction.strip().split("#")[0].rstrip()
        self.places[at.lstrip("0")] = len(self.lines)
        if target := _SASS_BRANCH.match(code) or _HOST_BRANCH.match(code):
            self.branches.append((len(self.lines), target[1]))
        self.lines.append(code)

    def loops(self) -> set[tuple[int, int]]:
        """First and last instruction of each."""
        backward = ((self.places.get(to, at), at) for at, to in self.branches)
        return {(first, last) for first, last in backward if first < last}


def hot_loops(disassembly: str) -> list[Loop]:
    """The loops with the most arithmetic, of all functions, the hottest first."""
    found = [loop for code in _functions(disassembly) for loop in _innermost(code)]
    found.sort(key=lambda loop: -loop.weight)
    return found[:MOST_LOOPS]


def _functions(text: str) -> Iterator[_Code]:
    code = _Code("")
    for line in text.splitlines():
        if found := _FUNCTION.match(line):
            yield code
            code = _Code(found["host"] or found["gpu"])
        elif found := _LABEL.match(line):
            code.places[found[1]] = len(code.lines)
        elif found := _SASS.match(line) or _HOST.match(line):
            code.add(found["at"], found["code"])
    yield code


def _innermost(code: _Code) -> Iterator[Loop]:
    """Loops in which no other has half of the arithmetic."""
    prefix = [0]
    for line in code.lines:
        prefix.append(prefix[-1] + _weight(line))
    weights = {(a, b): prefix[b + 1] - prefix[a] for a, b in code.loops()}
    for (a, b), weight in weights.items():
        inside = [w for (c, d), w in weights.items() if a <= c and d <= b and (c, d) != (a, b)]
        if weight and 2 * max(inside, default=0) < weight:
            yield Loop(code.name, tuple(code.lines[a : b + 1]), weight)


def _weight(line: str) -> int:
    opcode = line.split()[0].split(".")[0]
    if not MATH.fullmatch(opcode):
        return 0
    return next((weight for part, weight in WEIGHTS if part in opcode), 1)
