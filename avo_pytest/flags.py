# SPDX-License-Identifier: MIT
"""Compiler flags a candidate may choose: an exact list per compiler. The rest is the judge's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from avo_pytest.specification import Target, did_you_mean

CPU_FLAGS = frozenset(
    {
        *("-O2", "-O3", "-Ofast", "-funroll-loops"),
        # -ffast-math and its parts
        *("-ffast-math", "-fno-math-errno", "-funsafe-math-optimizations", "-ffinite-math-only"),
        *("-fno-rounding-math", "-fno-signaling-nans", "-fcx-limited-range"),
        *("-fexcess-precision=fast", "-fassociative-math", "-freciprocal-math"),
        *("-fno-signed-zeros", "-fno-trapping-math", "-ffp-contract=fast", "-ffp-contract=off"),
        # instruction set: the scoring host's own, or a named level
        *("-march=native", "-mcpu=native", "-mtune=native"),
        *("-march=x86-64-v3", "-march=x86-64-v4", "-mprefer-vector-width=256"),
        *("-mprefer-vector-width=512", "-mavx2", "-mfma", "-mf16c", "-mbmi2"),
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"),
        *("-mavx512bf16", "-mavx512fp16", "-mamx-tile", "-mamx-bf16"),
        *("-fno-exceptions", "-fno-rtti", "-fno-stack-protector"),
    }
)
HOST_FLAGS = frozenset({"-march=native", "-mcpu=native", "-mtune=native"})  # depend on the host

# flag → (field of cuda.core.ProgramOptions, value); ptxas options collect in a list
CUDA_FLAGS: dict[str, tuple[str, Any]] = {
    "--use_fast_math": ("use_fast_math", True),
    "--extra-device-vectorization": ("extra_device_vectorization", True),
    "-extra-device-vectorization": ("extra_device_vectorization", True),
    "--restrict": ("restrict", True),
    **{
        f"--{flag}={text}": (field, value)
        for flag, field in (
            ("ftz", "ftz"),
            ("fmad", "fma"),
            ("prec-div", "prec_div"),
            ("prec-sqrt", "prec_sqrt"),
        )
        for text, value in (("true", True), ("false", False))
    },
    **{f"--std={std}": ("std", std) for std in ("c++17", "c++20")},
    **{f"-Xptxas=-O{level}": ("ptxas_options", f"-O{level}") for level in range(4)},
    **{f"-Xptxas=-dlcm={c}": ("ptxas_options", f"-dlcm={c}") for c in ("ca", "cg")},
    **{
        f"-Xptxas=--allow-expensive-optimizations={text}": (
            "ptxas_options",
            f"--allow-expensive-optimizations={text}",
        )
        for text in ("true", "false")
    },
    **{
        f"-Xptxas=--register-usage-level={n}": ("ptxas_options", f"--register-usage-level={n}")
        for n in range(11)
    },
}
_REGISTERS = re.compile(r"--maxrregcount=(\d{1,3})")


def check(target: Target, flags: Sequence[str]) -> str | None:
    """None, or a sentence about the first flag that is not allowed or is contradicted."""
    seen: dict[str, str] = {}
    for flag in flags:
        option = _option(target, flag)
        if option is None:
            allowed = sorted(
                CPU_FLAGS if target == "cpu" else [*CUDA_FLAGS, "--maxrregcount=16…255"]
            )
            near = did_you_mean(flag, allowed)
            return f"flag {flag!r} is not allowed{near} Allowed for {target}: {' '.join(allowed)}"
        if option in seen:
            return f"flag {flag!r} contradicts or repeats {seen[option]!r}"
        seen[option] = flag
    return None


def program_options(flags: Sequence[str]) -> dict[str, Any]:
    """Checked CUDA flags as keyword arguments of cuda.core.ProgramOptions."""
    options: dict[str, Any] = {"ptxas_options": ["-v"]}
    for flag in flags:
        if match := _REGISTERS.fullmatch(flag):
            options["max_register_count"] = int(match[1])
            continue
        field, value = CUDA_FLAGS[flag]
        if field == "ptxas_options":
            options[field].append(value)
        else:
            options[field] = value
    return options


def _option(target: Target, flag: str) -> str | None:
    """What the flag sets, once only; None if it is not allowed."""
    if target == "cpu":
        return flag.partition("=")[0] if flag in CPU_FLAGS else None
    if match := _REGISTERS.fullmatch(flag):
        return "--maxrregcount" if 16 <= int(match[1]) <= 255 else None
    if flag not in CUDA_FLAGS:
        return None
    return re.sub(r"=?\w*$", "", flag) if flag.startswith("-Xptxas") else CUDA_FLAGS[flag][0]
