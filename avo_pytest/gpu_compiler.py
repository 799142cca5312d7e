# SPDX-License-Identifier: MIT
"""NVRTC in a confined child: a candidate's sources → cubin. Needs no driver."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from avo_pytest import compile_cuda
from avo_pytest.identity import File, read_regular
from avo_pytest.toolchain import Compiled, Means, NoCompiler, check, run, staged

_TOOLKITS = ("/usr/local/cuda", "/opt/cuda")


def compile_kernel(
    tree: Mapping[str, File],
    source: str,
    chosen: Sequence[str],
    arch: str,
    macros: Mapping[str, int],
    means: Means,
) -> Compiled:
    """NVRTC → cubin. Raises CompileError."""
    with staged(tree) as (sources, out):
        options = [f"--gpu-architecture={arch}", "--ptxas-options=-v", "-I."]
        options += [f"-I{folder}" for folder in _header_folders()]
        options += [f"-D{name}={value}" for name, value in macros.items()]
        options += [flag.replace("-Xptxas=", "--ptxas-options=") for flag in chosen]
        if not any(flag.startswith("--std=") for flag in chosen):
            options.append("--std=c++17")
        job = {"source": source, "options": options, "path": [str(_package_folder())]}
        (out / "job.json").write_text(json.dumps(job), encoding="utf-8")
        script = Path(compile_cuda.__file__).resolve()
        started = time.monotonic()
        result = run(
            [sys.executable, "-I", str(script), str(out / "job.json"), str(out)],
            readable=[sources, script, *_interpreter(), *_header_folders(), *_toolkits()],
            writable=[out],
            means=means,
            env={k: os.environ[k] for k in ("CUDA_HOME", "CUDA_PATH") if k in os.environ},
            cwd=sources,
        )
        log = _text(out / "log.txt") or result.stderr
        check(result, source, log, means)
        return Compiled(read_regular(out / "code.cubin"), log, time.monotonic() - started)


@functools.cache
def version() -> str:
    """What a cubin depends on: NVRTC and its headers. Raises NoCompiler."""
    try:
        from cuda.bindings import nvrtc

        numbers = nvrtc.nvrtcVersion()[1:]
    except Exception as error:  # not installed, or installed without its library
        reason = f"NVRTC is missing ({error}): pip install 'avo-pytest[cuda]'"
        raise NoCompiler(reason) from None
    parts = [f"nvrtc {'.'.join(map(str, numbers))}"]
    for package in ("nvidia-cuda-nvrtc", "nvidia-cuda-runtime"):
        try:
            parts.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(parts)


def _interpreter() -> list[Path]:
    """What this Python and its packages are made of."""
    paths = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), str(_package_folder())}
    return [path for path in sorted(map(Path, paths)) if path.is_dir() and path != Path("/usr")]


@functools.cache
def _package_folder() -> Path:
    """Where the cuda packages are (perhaps a user's own site folder)."""
    spec = importlib.util.find_spec("cuda.bindings")
    if spec is None or not spec.submodule_search_locations:
        raise NoCompiler("cuda.bindings is missing: pip install 'avo-pytest[cuda]'")
    return Path(next(iter(spec.submodule_search_locations))).parents[1]


@functools.cache
def _header_folders() -> tuple[Path, ...]:
    """CUDA's headers for <cuda_bf16.h>, and CCCL's for <cuda/std/…> where installed."""
    from cuda.pathfinder import find_nvidia_header_directory

    found = [find_nvidia_header_directory(library) for library in ("cudart", "cccl")]
    return tuple(Path(path) for path in found if path)


def _toolkits() -> list[Path]:
    named = [os.environ.get("CUDA_HOME", ""), os.environ.get("CUDA_PATH", ""), *_TOOLKITS]
    return [Path(path) for path in named if path and Path(path).is_dir()]


def _text(path: Path) -> str:
    return read_regular(path).decode(errors="replace") if path.exists() else ""
