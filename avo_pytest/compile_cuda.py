# SPDX-License-Identifier: MIT
"""The confined half of a CUDA build: `python -I compile_cuda.py JOB OUT` compiles with NVRTC.

JOB is a JSON file: source (path), options (of NVRTC), path (for imports). Into the folder OUT go
`code.cubin` and `log.txt`. It imports nothing of this package, so that it needs to see little.
Status 1: does not compile, the log says why.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(job_path: str, out_path: str) -> int:
    """Compile one translation unit."""
    job, out = json.loads(Path(job_path).read_text(encoding="utf-8")), Path(out_path)
    sys.path += [path for path in job["path"] if path not in sys.path]
    code, log = _compile(job["source"], job["options"])
    (out / "log.txt").write_text(log, encoding="utf-8")
    if code is None:
        return 1
    (out / "code.cubin").write_bytes(code)
    return 0


def _compile(source: str, options: list[str]) -> tuple[bytes | None, str]:
    """The cubin (None if there is none) and the compiler's log."""
    from cuda.bindings import nvrtc

    text = Path(source).read_bytes()
    program = _call(nvrtc.nvrtcCreateProgram(text, source.encode(), 0, [], []))
    flags = [option.encode() for option in options]
    failed = int(nvrtc.nvrtcCompileProgram(program, len(flags), flags)[0])
    log = bytearray(_call(nvrtc.nvrtcGetProgramLogSize(program)))
    _call(nvrtc.nvrtcGetProgramLog(program, log))
    said = log.decode(errors="replace").strip("\0\n ")
    if failed:
        return None, said
    code = bytearray(_call(nvrtc.nvrtcGetCUBINSize(program)))
    _call(nvrtc.nvrtcGetCUBIN(program, code))
    return bytes(code), said


def _call(result: tuple[Any, ...]) -> Any:
    """The value of an NVRTC call that succeeded."""
    if int(result[0]):
        raise RuntimeError(f"NVRTC: {result[0]!r}")
    return result[1] if len(result) > 1 else None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
