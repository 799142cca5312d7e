# SPDX-License-Identifier: MIT
"""What a compiled candidate is made of: registers, spills, shared memory, instructions by class.

For reports and `avo build --strict`; nothing here decides a verdict.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from avo_pytest import elf, toolchain
from avo_pytest.specification import Target
from avo_pytest.toolchain import Means

# Opcodes worth counting: tensor cores, special functions, data movement, FP32 work, waiting.
SASS_CLASSES = (
    *("HMMA", "IMMA", "HGMMA", "QGMMA", "UTCHMMA", "UTCQMMA", "UTCOMMA", "MUFU"),
    *("FFMA", "FFMA2", "FMUL", "FMUL2", "FADD", "FADD2", "FMNMX", "FMNMX3", "F2FP"),
    *("LDSM", "STSM", "LDGSTS", "UTMALDG", "UTMASTG", "UBLKCP", "LDTM", "STTM", "LDG", "STG"),
    *("LDS", "STS", "LDL", "STL", "BAR", "SYNCS", "DEPBAR", "WARPGROUP", "SHFL"),
)
TENSOR_CORE = {"sm90": ("HGMMA", "QGMMA"), "sm100": ("UTCHMMA", "UTCQMMA", "UTCOMMA")}
_SERIALISED = re.compile(r"\bC75\d\d\b")
_WARNING = re.compile(r"warning|C75\d\d", re.IGNORECASE)
_ENTRY = re.compile(r"Compiling entry function '([^']+)'")
_FIGURES = {
    "registers": re.compile(r"Used (\d+) registers"),
    "static_shared_bytes": re.compile(r"(\d+) bytes smem"),
    "stack_bytes": re.compile(r"(\d+) bytes stack frame"),
    "spill_store_bytes": re.compile(r"(\d+) bytes spill stores"),
    "spill_load_bytes": re.compile(r"(\d+) bytes spill loads"),
}
_SECTION = re.compile(r"^\s*\.section\s+\.text\.([^,\s]+)")
_OPCODE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)")
_HOST_CLASSES = {
    "zmm_fma": re.compile(r"\bvfn?m(?:add|sub)\w*\s.*%zmm"),
    "ymm_fma": re.compile(r"\bvfn?m(?:add|sub)\w*\s.*%ymm"),
    "vdpbf16ps": re.compile(r"\bvdpbf16ps\b"),
    "tdpbf16ps": re.compile(r"\btdpbf16ps\b"),
    "neon_fma": re.compile(r"\b(?:fmla|bfmmla|bfdot)\b"),
}
_WARNINGS = 20
_DISASSEMBLY_BYTES = 64 << 20


def of_cubin(path: Path, log: str, means: Means) -> dict[str, Any]:
    """Kernels with their resources and instruction counts, and the compiler's warnings."""
    parsed = elf.parse(path.read_bytes())
    resources, counts = _resources(log), _sass(path, means)
    kernels = {
        name: {
            "static_shared_bytes": 0,  # ptxas mentions it only where there is some
            **resources.get(name, {}),
            "parameter_bytes": parsed.parameters(name),
            **({"sass": counts[name]} if name in counts else {}),
        }
        for name in sorted(parsed.entries)
    }
    return {"bytes": path.stat().st_size, "kernels": kernels, "warnings": _warnings(log)}


def of_shared_object(path: Path, log: str, means: Means) -> dict[str, Any]:
    """Size, counts of vector instructions where objdump is there, and the compiler's warnings."""
    report: dict[str, Any] = {"bytes": path.stat().st_size, "warnings": _warnings(log)}
    if objdump := shutil.which("objdump"):
        text = _output([objdump, "-d", "--no-show-raw-insn", str(path)], path, means)
        lines = text.splitlines()
        report["instructions"] = {
            name: count
            for name, pattern in _HOST_CLASSES.items()
            if (count := sum(1 for line in lines if pattern.search(line)))
        }
    return report


def complaints(target: Target, report: Mapping[str, Any]) -> list[str]:
    """What `--strict` refuses: serialised wgmma, spills, no tensor-core instruction."""
    found = []
    for code, part in report.items():
        found += [f"{code}: {line}" for line in part["warnings"] if _SERIALISED.search(line)]
        kernels = part.get("kernels", {})
        for name, figures in kernels.items():
            spilled = figures.get("spill_store_bytes", 0) + figures.get("spill_load_bytes", 0)
            if spilled:
                found.append(f"{code}: {name} spills {spilled} bytes of registers")
        counts = [figures["sass"] for figures in kernels.values() if "sass" in figures]
        wanted = TENSOR_CORE.get(target, ())
        if wanted and not counts:
            found.append(f"{code}: tensor-core instructions not counted: nvdisasm is missing")
        elif wanted and not any(c.get(opcode) for c in counts for opcode in wanted):
            found.append(f"{code}: no tensor-core instruction of {target} ({', '.join(wanted)})")
    return found


def _resources(log: str) -> dict[str, dict[str, int]]:
    """Kernel → figures, from ptxas -v."""
    found: dict[str, dict[str, int]] = {}
    current: dict[str, int] = {}
    for line in log.splitlines():
        if match := _ENTRY.search(line):
            current = found.setdefault(match[1], {})
        for figure, pattern in _FIGURES.items():
            if match := pattern.search(line):
                current.setdefault(figure, int(match[1]))
    return found


def _warnings(log: str) -> list[str]:
    """Each warning once, without those about the toolkit's own headers (absolute paths)."""
    lines = (line.strip() for line in log.splitlines() if _WARNING.search(line))
    return list(dict.fromkeys(line for line in lines if not line.startswith("/")))[:_WARNINGS]


def _sass(path: Path, means: Means) -> dict[str, dict[str, int]]:
    """Kernel → opcode → count; empty without nvdisasm."""
    tool = toolchain.find_tool("nvdisasm")
    if tool is None:
        return {}
    counts: dict[str, Counter[str]] = {}
    current: Counter[str] = Counter()
    for line in _output([str(tool), "-c", str(path)], path, means).splitlines():
        if match := _SECTION.match(line):
            current = counts.setdefault(match[1], Counter())
        elif match := _OPCODE.match(line):
            current[match[1]] += 1
    return {kernel: dict(_classes(counter)) for kernel, counter in counts.items()}


def _classes(counter: Counter[str]) -> Iterator[tuple[str, int]]:
    yield "total", counter.total()
    yield from ((name, counter[name]) for name in SASS_CLASSES if counter[name])


def _output(argv: list[str], path: Path, means: Means) -> str:
    """What a tool prints about a file, through a file of ours: disassemblies are long."""
    with tempfile.TemporaryDirectory(prefix="avo-inspect-") as folder:
        out = Path(folder).resolve() / "text"
        toolchain.run(
            ["/bin/sh", "-c", 'exec "$@" > "$0"', str(out), *argv],
            readable=[path, Path(argv[0])],
            writable=[out.parent],
            means=means,
        )
        if not out.is_file():
            return ""
        with out.open("rb") as opened:
            return opened.read(_DISASSEMBLY_BYTES).decode(errors="replace")
