# SPDX-License-Identifier: MIT
"""The judge's own C++ for CPUs: `child.cpp` (loads a candidate) and `trusted.cpp` (inputs, probes).

Compiled at first use with the machine's compiler into a cache keyed by content, compiler and CPU.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
COMPILERS = ("g++", "clang++", "c++")
_FLAGS = ("-std=c++20", "-O3", "-Wall", "-pthread")
_LIBRARY_FLAGS = ("-march=native", "-ffp-contract=fast", "-fPIC", "-shared")


class NoCompiler(Exception):
    """This machine cannot compile C++; says what to install."""


def compiler() -> str:
    """The C++ compiler's path: of $CXX, or the first there is."""
    names = shlex.split(os.environ.get("CXX", ""))[:1] or COMPILERS
    for name in names:
        if (path := shutil.which(name)) is not None:
            return path
    raise NoCompiler(f"no C++ compiler ({', '.join(names)}): apt install g++, or set CXX")


@functools.cache
def compiler_version() -> str:
    """First line of the compiler's --version."""
    text = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True)
    return text.stdout.splitlines()[0]


def loader(cache: Path) -> Path:
    """The candidate's loader, an executable."""
    return _compiled("child.cpp", (), ("-ldl",), cache)


class Trusted:
    """`trusted.cpp` behind numpy arrays. `threads` bounds what fill and fingerprint may use."""

    def __init__(self, cache: Path, threads: int) -> None:
        self._library = ctypes.CDLL(str(_compiled("trusted.cpp", _LIBRARY_FLAGS, (), cache)))
        self._threads = threads

    def fill(self, out: NDArray[np.uint16], base: int, table: NDArray[np.uint16]) -> None:
        """Contents of a launch; bitwise what `inputs.fill` gives for this base and table."""
        self._library.avo_fill(
            _pointer(out),
            ctypes.c_int64(out.size),
            ctypes.c_uint64(base),
            _pointer(table),
            self._threads,
        )

    def fingerprint(self, bits: NDArray[np.uint16], secret: int) -> NDArray[np.float32]:
        """float32 [rows, 3] of a BF16 matrix."""
        rows, width = bits.shape
        out = np.empty((rows, 3), dtype=np.float32)
        self._library.avo_fingerprint(
            _pointer(bits),
            ctypes.c_int64(rows),
            ctypes.c_int64(width),
            ctypes.c_uint64(secret),
            _pointer(out),
            self._threads,
        )
        return out

    def units(self) -> list[str]:
        """What of a core multiplies and adds, by name; the first is FP32 FMA."""
        name = self._library.avo_unit
        name.restype = ctypes.c_char_p
        names = itertools.takewhile(bool, map(name, itertools.count()))
        return [text.decode() for text in names]

    def probe(self, cpus: Sequence[int], seconds: float, unit: int = 0) -> list[float]:
        """GFLOPS of a unit of each CPU, all running at once; 0 where it may not be used."""
        numbers = (ctypes.c_int * len(cpus))(*cpus)
        rates = (ctypes.c_double * len(cpus))()
        duration = ctypes.c_double(seconds)
        self._library.avo_probe(unit, numbers, len(cpus), duration, rates)
        return list(rates)


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def _compiled(source: str, flags: Sequence[str], libraries: Sequence[str], cache: Path) -> Path:
    text = b"".join(path.read_bytes() for path in (HERE / source, *sorted(HERE.glob("*.h"))))
    key = repr((source, flags, libraries, _FLAGS, compiler_version(), _cpu())).encode()
    name = f"{Path(source).stem}-{hashlib.sha256(key + text).hexdigest()[:16]}"
    folder = cache / "native"
    target = folder / name
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch, name)
        command = [compiler(), *_FLAGS, *flags, str(HERE / source), "-o", str(made), *libraries]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise NoCompiler(f"{source} does not compile with {compiler()}:\n{done.stderr[-2000:]}")
        made.replace(target)  # atomic: another worker may be doing the same
    return target


def _cpu() -> str:
    """What -march=native depends on; a cache may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(
        sorted({line for line in lines if line.startswith(("flags", "model", "Features"))})
    )
