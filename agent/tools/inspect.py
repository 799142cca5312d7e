# SPDX-License-Identifier: MIT
"""`inspect`: what the compiler made of the folder, its hot loops, how far it is from the ceiling.

Builds in the judge's own sandbox by `avo build`; compiled code is read, never run, but by
`profile`, which asks ncu where it is installed and allowed.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import guarded
from agent.evaluate import Evaluator
from agent.step import Result, Spend
from agent.tools import counters
from agent.tools.loops import hot_loops
from agent.tools.scoring import Scoring
from agent.tools.tool import Declared, Pages, ToolError, choice, text
from avo_pytest import toolchain
from avo_pytest.score import Record
from avo_pytest.summary import summarise
from avo_pytest.toolchain import Means

BUILD_S = 300.0
PROFILE_S = 300.0
TRAFFIC = Path(__file__).with_name("traffic.py")  # which loads a problem: never in this process
TRAFFIC_S = 60.0
DISASSEMBLE = Means(60.0, 4 << 30, True)
MOST_BYTES = 32 << 20  # of a disassembly
# The judge as ncu runs it: one slow launch, nothing to compare with.
BRIEFLY = (
    *("--avo-mode=measure", "--avo-blocks=1", "--avo-baselines=none", "--avo-incumbent=none"),
    "--avo-timeout=120",
)
TARGETS = ("cpu", "sm80", "sm90", "sm100")


@dataclass(frozen=True, slots=True)
class Inspection:
    """A step's worktree, and the judge that knows root, kernel, target and device."""

    worktree: Path
    evaluator: Evaluator
    scoring: Scoring
    spend: Spend

    def ask(self, given: Mapping[str, Any]) -> Result:
        """One of ACTIONS."""
        return ACTIONS[given["what"]](self, given)

    def build(self, given: Mapping[str, Any]) -> Result:
        """Resources and instructions of each code object, and what the compiler complained of."""
        made = self._built(given)
        lines = [f"builds for {made['arch']}, artifact {made['hash'][:12]}"]
        for key, part in made["report"].items():
            lines += _code_object(key, part)
        lines += [f"strict: {complaint}" for complaint in made["complaints"]]
        return Result(text="\n".join(lines), facts={"hash": made["hash"]})

    def loop(self, given: Mapping[str, Any]) -> Result:
        """The hot loops of a code object."""
        made = self._built(given)
        folder, wanted = Path(made["artifact"]), given.get("code", "")
        codes = [p for p in sorted(folder.glob("*.*")) if p.suffix in (".so", ".cubin")]
        chosen = [path for path in codes if path.stem.startswith(wanted)]
        if not chosen:
            raise ToolError(f"no code {wanted!r}; there are: {', '.join(p.stem for p in codes)}")
        lines = []
        for loop in hot_loops(_disassembly(chosen[0])):
            lines.append(f"loop of {len(loop.lines)} instructions in {loop.function}")
            lines.append(f"  {loop.mix()}")
            lines += [f"    {line}" for line in loop.lines]
        others = f"\nother code objects: {', '.join(p.stem for p in codes if p != chosen[0])}"
        told = "\n".join(lines) or "no loop with arithmetic was found"
        return Result(text=told + (others if len(codes) > 1 else ""))

    def roofline(self, given: Mapping[str, Any]) -> Result:
        """Each configuration of the last score against what the machine can do."""
        last = self.scoring.last
        if last is None or last.record_path is None:
            raise ToolError("score first: the roofline is that of the last score with figures")
        record = Record.from_json(last.record_path.read_bytes())
        return Result(text="\n".join(_roofline(record, self._traffic())))

    def profile(self, given: Mapping[str, Any]) -> Result:
        """Hardware counters of one launch, by ncu."""
        if self.evaluator.target not in TARGETS[1:]:
            raise ToolError("ncu profiles GPU kernels only; loop and roofline work everywhere")
        limit_s = min(PROFILE_S, self.spend.left().get("gpu_seconds", math.inf))
        judge = self.evaluator.command(self.scoring.folder, *BRIEFLY)
        line = counters.command(sorted(_functions(self._built(given))), judge)
        reservation = self.spend.reserve("profile", gpu_seconds=limit_s)
        ended = guarded.run(line, cwd=self.evaluator.root, timeout_s=limit_s)
        self.spend.settle(reservation, gpu_seconds=ended.seconds)
        return Result(text=counters.table(ended.output))

    def _traffic(self) -> Mapping[str, int]:
        """Configuration → bytes that it must move at least; none where that cannot be told."""
        line = [sys.executable, "-P", str(TRAFFIC), str(self.evaluator.root)]
        ended = guarded.run(
            [*line, self.evaluator.kernel], cwd=self.evaluator.root, timeout_s=TRAFFIC_S
        )
        try:
            return dict(json.loads(ended.output.strip().splitlines()[-1]))
        except (ValueError, IndexError):
            return {}

    def _built(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """`avo build`, from the trusted root's code on the worktree. Raises ToolError."""
        target = self.evaluator.target
        if target not in TARGETS:
            raise ToolError(f"target {target} is not compiled: score tells what there is to know")
        line = [sys.executable, "-m", "avo_pytest", "build", "--json", "--root", str(self.worktree)]
        line += ["--kernel", self.evaluator.kernel, "--target", target]
        if given.get("arch"):
            line += ["--arch", given["arch"]]
        ended = guarded.run(line, cwd=self.evaluator.root, timeout_s=BUILD_S)
        if ended.timed_out:
            raise ToolError(f"building took longer than {BUILD_S:.0f} s")
        if ended.returncode != 0:
            raise ToolError(ended.output.strip().removeprefix("avo build: "))
        made: Mapping[str, Any] = json.loads(ended.output[ended.output.index("{") :])
        return made


ACTIONS = {
    "build": Inspection.build,
    "loop": Inspection.loop,
    "profile": Inspection.profile,
    "roofline": Inspection.roofline,
}


def tools(inspection: Inspection, pages: Pages) -> list[Declared]:
    """`inspect`."""
    return [
        Declared(
            name="inspect", act=inspection.ask, pages=pages, required=("what",),
            description="What became of the target folder as it is now. build: compile it; "
            "registers, spills, shared memory, instructions by class, warnings. loop: the "
            "innermost loops with the most arithmetic, disassembled. roofline: the last score "
            "against the machine's ceilings. profile: counters of a launch by ncu, where allowed.",
            properties={
                "what": choice("what to look at", *sorted(ACTIONS)),
                "arch": text("a GPU to build for, such as sm_90; the oldest without it", 20),
                "code": text("a code object's name or its beginning, for loop", 64),
            },
        )
    ]  # fmt: skip


def _code_object(key: str, part: Mapping[str, Any]) -> Iterator[str]:
    macros = " ".join(f"{name}={value}" for name, value in part["macros"].items())
    yield f"{key[:12]}  {part['bytes']} bytes  {macros}".rstrip()
    if "instructions" in part:
        yield f"  {_counts(part['instructions'])}"
    for name, figures in part.get("kernels", {}).items():
        spilled = figures.get("spill_store_bytes", 0) + figures.get("spill_load_bytes", 0)
        yield (
            f"  {name}: {figures.get('registers', '?')} registers, {spilled} bytes spilled, "
            f"{figures.get('stack_bytes', '?')} of stack, "
            f"{figures['static_shared_bytes']} of static shared memory"
        )
        if "sass" in figures:
            yield f"    {_counts(figures['sass'])}"
    yield from (f"  {warning}" for warning in part["warnings"])


def _counts(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (item[0] != "total", -item[1]))
    return "  ".join(f"{name} {count}" for name, count in most) or "nothing counted"


def _functions(made: Mapping[str, Any]) -> set[str]:
    return {name for part in made["report"].values() for name in part.get("kernels", {})}


def _disassembly(path: Path) -> str:
    """By objdump or nvdisasm, confined: the file is a candidate's. Raises ToolError."""
    if path.suffix == ".so":
        tool, options = shutil.which("objdump"), ["-d", "--no-show-raw-insn", "-C"]
    else:
        found = toolchain.find_tool("nvdisasm")
        tool, options = (str(found) if found else None), ["-c"]
    if tool is None:
        raise ToolError("no disassembler: install binutils (objdump) or nvidia-cuda-nvdisasm")
    with tempfile.TemporaryDirectory(prefix="avo-loop-") as folder:
        out = Path(folder).resolve() / "text"
        toolchain.run(
            ["/bin/sh", "-c", 'exec "$@" > "$0"', str(out), tool, *options, str(path)],
            readable=[path, Path(tool)], writable=[out.parent], means=DISASSEMBLE,
        )  # fmt: skip
        if not out.is_file() or out.is_symlink():
            raise ToolError("the disassembler failed")
        with out.open("rb") as file:
            return file.read(MOST_BYTES).decode(errors="replace")


def _roofline(record: Record, moved: Mapping[str, int]) -> Iterator[str]:
    """What is reached of the arithmetic's ceiling, and what the tensors alone ask of memory."""
    yield f"run {record.run}, mode {record.mode}; the ceiling was probed between its blocks"
    yield "configuration | TFLOPS | of ceiling | ceiling | time | FLOPs per byte | GB/s at least"
    flops = {c.name: c.flops for c in record.configurations}
    for row in summarise(record).rows:
        if not row.tflops:
            continue
        percent, of = row.ceiling_percent, flops[row.configuration]
        ceiling = f"{100 * row.tflops / percent:.4g}" if percent else "?"
        share = f"{percent:.1f} %" if percent else "not probed"
        time_ms = of / row.tflops / 1e9
        line = f"{row.configuration} | {row.tflops:.4g} | {share} | {ceiling} | {time_ms:.4g} ms"
        if size := moved.get(row.configuration):
            line += f" | {of / size:.4g} | {size / time_ms / 1e6:.4g}"
        yield line
