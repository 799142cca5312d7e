# SPDX-License-Identifier: MIT
"""The host's C++ compiler in a confined child: a candidate's sources → shared object."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from avo_pytest.identity import File, read_regular
from avo_pytest.toolchain import Compiled, Means, NoCompiler, check, run, staged

COMPILERS = ("g++", "clang++", "c++")
_COMMON = (
    *("-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-pthread", "-Wall"),
    "-Werror=date-time",  # the same source, the same bytes
)
_LINK_ELF = ("-Wl,-z,defs", "-Wl,-z,now", "-Wl,-z,noexecstack", "-Wl,--build-id=none", "-Wl,-s")


def compile_function(
    tree: Mapping[str, File],
    shim: str,
    source: str,
    chosen: Sequence[str],
    macros: Mapping[str, int],
    means: Means,
) -> Compiled:
    """C++ → shared object that exports avo_entry and nothing else. Raises CompileError."""
    with staged(tree) as (sources, out):
        (out / "shim.cpp").write_text(shim, encoding="utf-8")
        command, readable = list(_command()), [sources, *_folders()]
        defines = [f"-D{name}={value}" for name, value in macros.items()]
        made, code = str(out / "code.o"), str(out / "code.so")
        steps = (
            [*_COMMON, *chosen, *defines, "-I.", "-c", str(out / "shim.cpp"), "-o", made],
            ["-shared", "-pthread", *_link_flags(), made, "-o", code],
        )
        started, log = time.monotonic(), ""
        for step in steps:  # apart, so that no flag of the candidate reaches the linker
            result = run(
                [*command, *step],
                readable=readable,
                writable=[out],
                means=means,
                env={"SOURCE_DATE_EPOCH": "0"},
                cwd=sources,
            )
            log += result.stderr.replace(f"{out}{os.sep}", "")
            check(result, source, log, means)
        return Compiled(read_regular(out / "code.so"), log, time.monotonic() - started)


@functools.cache
def version() -> str:
    """Path and version of the C++ compiler. Raises NoCompiler."""
    command = _command()
    told = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    return f"{shlex.join(command)}: {told.stdout.splitlines()[0] if told.stdout else 'unknown'}"


def instructions() -> str:
    """What `-march=native` depends on: a digest of the CPU's model and flags."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "Features", "CPU part", "vendor_id")
    found = sorted({line for line in lines if line.startswith(wanted)})
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def _command() -> tuple[str, ...]:
    """$CXX or the first compiler found, with an absolute path."""
    asked = shlex.split(os.environ.get("CXX", ""))
    names = [asked[0]] if asked else COMPILERS
    for name in names:
        if path := shutil.which(name):
            return (path, *asked[1:])
    raise NoCompiler(f"no C++ compiler ({', '.join(names)}): apt install g++, or set CXX")


def _folders() -> list[Path]:
    """Where a compiler outside /usr/bin keeps its headers and libraries."""
    binary = Path(_command()[0]).resolve()
    return [] if binary.is_relative_to("/usr/bin") else [binary.parents[1]]


def _link_flags() -> tuple[str, ...]:
    return ("-Wl,-undefined,error",) if sys.platform == "darwin" else _LINK_ELF
