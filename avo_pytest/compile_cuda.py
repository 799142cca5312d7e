# SPDX-License-Identifier: MIT
"""The confined half of a CUDA build: `python -I compile_cuda.py JOB OUT` compiles with NVRTC.

JOB is a JSON file: source, name, arch, options (of ProgramOptions), macros, include, path.
Into the folder OUT go `code.cubin` and `log.txt`. It imports nothing of this package, so that it
needs to see little. Status 1: does not compile, the log says why.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any


def main(job_path: str, out_path: str) -> int:
    """Compile the job; the folder of the source is the only quoted include path."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    sys.path += [path for path in job["path"] if path not in sys.path]
    out, log = Path(out_path), io.StringIO()
    try:
        code = _compile(job, log)
    except Exception as error:  # whatever the compiler says is for the kernel's author
        (out / "log.txt").write_text(f"{log.getvalue()}{error}", encoding="utf-8")
        return 1
    (out / "code.cubin").write_bytes(code)
    (out / "log.txt").write_text(log.getvalue(), encoding="utf-8")
    return 0


def _compile(job: dict[str, Any], log: io.StringIO) -> bytes:
    from cuda.core import Program, ProgramOptions

    options = ProgramOptions(
        **{"std": "c++17", **job["options"]},
        name=job["name"],
        arch=job["arch"],
        define_macro=[tuple(pair) for pair in job["macros"]] or None,
        include_path=job["include"],
    )
    program = Program(Path(job["source"]).read_text(encoding="utf-8"), "c++", options)
    # Never print the object: without a driver its repr hangs.
    return bytes(program.compile("cubin", logs=log).code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
