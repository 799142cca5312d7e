# SPDX-License-Identifier: MIT
"""The code objects of one candidate: compiled when asked for, checked, cached by their inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avo_pytest import compile_cuda, elf, flags, gpu_compiler, host_compiler, inspection, sandbox
from avo_pytest.artifact import discard, new_folder
from avo_pytest.identity import File, hash_of
from avo_pytest.native_shim import shim
from avo_pytest.plan import Launch
from avo_pytest.printable import printable
from avo_pytest.problem import TensorSpec
from avo_pytest.specification import Manifest
from avo_pytest.toolchain import Compiled, CompileError, Means, NoCompiler

FORMAT = 1  # of the cache; part of every key
_KEY = 32
_MUTABLE = ".nv.global"
_LOG_CHARACTERS = 4000


class BuildError(Exception):
    """A candidate that cannot be built: `reason` for its author, `log` from the compiler."""

    def __init__(self, reason: str, log: str = "") -> None:
        self.reason, self.log = printable(reason), printable(log)
        shown = self.log[:_LOG_CHARACTERS].replace("\n", "\n| ")  # no line of it stands alone
        super().__init__(f"{self.reason}\n| {shown}" if shown else self.reason)


class MachineError(BuildError):
    """Nothing can be built here, whatever the candidate: no compiler, a full disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What building one candidate may cost."""

    builds: int = 16
    build_s: float = 30.0
    total_s: float = 120.0
    code_bytes: int = 4 << 20
    memory_bytes: int = 8 << 30


@dataclass(frozen=True, slots=True)
class Code:
    """One code object. `key` is made of its bytes."""

    key: str
    path: Path
    report: Mapping[str, Any]


class Codes:
    """The code objects of one candidate on one architecture."""

    AT_ONCE = 2  # compilers, which share what one may take

    def __init__(
        self,
        manifest: Manifest,
        tree: Mapping[str, File],
        arch: str,
        cache: Path,
        *,
        confine: bool,
        limits: Limits,
    ) -> None:
        self._manifest, self._arch, self._limits = manifest, arch, limits
        self._tree = {name: file for name, file in tree.items() if name != "kernel.toml"}
        self._cache = cache / "codes"
        self._means = Means(limits.build_s, limits.memory_bytes, confine)
        self._isolation = sandbox.level()[0] if confine else "none"
        self._codes: dict[tuple[tuple[tuple[str, int], ...], str], Code] = {}
        self._ahead: dict[tuple[tuple[tuple[str, int], ...], str], Future[Code]] = {}
        self._spent_s = 0.0

    @property
    def made(self) -> list[Code]:
        return list(self._codes.values())

    def get(
        self,
        macros: Mapping[str, int],
        launches: Sequence[Launch],
        tensors: Mapping[str, TensorSpec],
    ) -> Code:
        """The code for these macros; the rest matters to a CPU's shim. Raises BuildError."""
        shim_ = self._shim(launches, tensors)
        wanted = (tuple(sorted(macros.items())), shim_)
        if wanted not in self._codes:
            if len(self._codes) == self._limits.builds:
                reason = "more builds than allowed; specialise on fewer values"
                raise self._error(f"{reason} ({self._limits.builds})")
            try:
                ahead = self._ahead.get(wanted)
                self._codes[wanted] = ahead.result() if ahead else self._cached(macros, shim_)
            except NoCompiler as error:
                raise MachineError(error.reason) from error
            except CompileError as error:
                raise self._error(error.reason, macros, error.log) from error
            except elf.ElfError as error:
                raise self._error(f"the compiler wrote no cubin: {error}", macros) from error
        return self._codes[wanted]

    def prepare(self, wanted: Sequence[Mapping[str, int]]) -> None:
        """Compile for these macros side by side, where no shim is needed; `get` tells failures."""
        keys = list(dict.fromkeys((tuple(sorted(macros.items())), "") for macros in wanted))
        if self._manifest.target == "cpu" or len(keys) < 2:
            return
        alone = self._means
        self._means = replace(alone, memory_bytes=alone.memory_bytes // self.AT_ONCE)
        with ThreadPoolExecutor(self.AT_ONCE) as pool:
            for key in keys[: self._limits.builds]:
                self._ahead[key] = pool.submit(self._cached, dict(key[0]), "")
        self._means = alone

    def _shim(self, launches: Sequence[Launch], tensors: Mapping[str, TensorSpec]) -> str:
        cpu = self._manifest.target == "cpu"
        return shim(self._manifest.source, launches[0], tensors) if cpu else ""

    def _cached(self, macros: Mapping[str, int], shim_: str) -> Code:
        """From the cache, where its bytes are still what was stored, or compiled into it."""
        folder = self._cache / self._inputs(macros, shim_)
        if (code := _read(folder)) is None:
            discard(folder)  # a damaged entry, or an older format: made anew
            compiled = self._compile(macros, shim_)
            with new_folder(folder) as new:
                if new is not None:
                    self._write(new, compiled, macros)
            code = _read(folder)
        if code is None:
            raise self._error(f"the cache at {folder} cannot be read back")
        return code

    def _inputs(self, macros: Mapping[str, int], shim_: str) -> str:
        """A hash of all that the code depends on."""
        manifest = self._manifest
        cpu = manifest.target == "cpu"
        version = host_compiler.version if cpu else gpu_compiler.version
        native = cpu and flags.HOST_FLAGS.intersection(manifest.flags)
        parts = [
            FORMAT,
            self._isolation,
            [manifest.target, self._arch, manifest.source, *manifest.flags],
            sorted(macros.items()),
            hash_of(self._tree),
            version(),
            host_compiler.instructions() if native else "",
            shim_ if cpu else Path(compile_cuda.__file__).read_text(encoding="utf-8"),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def _compile(self, macros: Mapping[str, int], shim_: str) -> Compiled:
        left_s = self._limits.total_s - self._spent_s
        if left_s <= 0:
            raise self._error(f"building took longer than {self._limits.total_s:g} s in all")
        means = replace(self._means, timeout_s=min(self._limits.build_s, left_s))
        source, chosen = self._manifest.source, self._manifest.flags
        if self._manifest.target == "cpu":
            made = host_compiler.compile_function(self._tree, shim_, source, chosen, macros, means)
        else:
            made = gpu_compiler.compile_kernel(
                self._tree, source, chosen, self._arch, macros, means
            )
            self._refuse_state(made)
        self._spent_s += made.seconds
        if len(made.code) > self._limits.code_bytes:
            reason = (
                f"{len(made.code)} bytes of code; at most {self._limits.code_bytes} are allowed"
            )
            raise self._error(reason, macros)
        return made

    def _refuse_state(self, compiled: Compiled) -> None:
        """Nothing may survive a launch, nor be taken from outside the candidate's own code."""
        source, parsed = self._manifest.source, elf.parse(compiled.code)
        if parsed.undefined:
            names = ", ".join(parsed.undefined)
            raise self._error(
                f"{source}: uses {names}, which the driver would provide; "
                "printf, malloc, assert and device-side launches are not available"
            )
        for section in parsed.sections:
            if section.name.startswith(_MUTABLE) and section.size:
                raise self._error(
                    f"{source}: {section.size} bytes of __device__ variables or string literals "
                    f"({section.name}) would survive a launch. Tables belong in __constant__, "
                    "scratch memory in a workspace"
                )

    def _write(self, folder: Path, compiled: Compiled, macros: Mapping[str, int]) -> None:
        cpu = self._manifest.target == "cpu"
        path = folder / ("code.so" if cpu else "code.cubin")
        path.write_bytes(compiled.code)
        inspect = inspection.of_shared_object if cpu else inspection.of_cubin
        report = {
            "macros": dict(macros),
            "seconds": round(compiled.seconds, 3),
            "isolation": self._isolation,
            **inspect(path, compiled.log, self._means),
        }
        entry = {"file": path.name, "key": _key(compiled.code), "report": report}
        (folder / "code.json").write_text(json.dumps(entry, sort_keys=True), encoding="utf-8")

    def _error(
        self, reason: str, macros: Mapping[str, int] | None = None, log: str = ""
    ) -> BuildError:
        with_ = " ".join(f"{name}={value}" for name, value in (macros or {}).items())
        return BuildError(
            f"{self._manifest.path}: {reason}{f' with {with_}' if with_ else ''}", log
        )


def _read(folder: Path) -> Code | None:
    try:
        entry = json.loads((folder / "code.json").read_text(encoding="utf-8"))
        path = folder / entry["file"]
        return (
            Code(entry["key"], path, entry["report"])
            if _key(path.read_bytes()) == entry["key"]
            else None
        )
    except (OSError, ValueError, KeyError):
        return None


def _key(code: bytes) -> str:
    return hashlib.sha256(code).hexdigest()[:_KEY]
