# SPDX-License-Identifier: MIT
"""Compiler flags a candidate may choose: an exact list per compiler. The rest is the judge's."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

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

_TRUTH = ("true", "false")
CUDA_FLAGS = frozenset(
    {
        *("--use_fast_math", "--extra-device-vectorization", "--restrict"),
        *("--std=c++17", "--std=c++20"),
        *(f"--ftz={truth}" for truth in _TRUTH),
        *(f"--fmad={truth}" for truth in _TRUTH),
        *(f"--prec-div={truth}" for truth in _TRUTH),
        *(f"--prec-sqrt={truth}" for truth in _TRUTH),
        *(f"--maxrregcount={count}" for count in range(16, 256)),
        *(f"-Xptxas=-O{level}" for level in range(4)),
        *(f"-Xptxas=-dlcm={cache}" for cache in ("ca", "cg")),
        *(f"-Xptxas=--allow-expensive-optimizations={truth}" for truth in _TRUTH),
        *(f"-Xptxas=--register-usage-level={level}" for level in range(11)),
    }
)
_SHOWN = re.compile(r"(--maxrregcount|-Xptxas=--register-usage-level)=(\d+)")  # as a range


def check(target: Target, flags: Sequence[str]) -> str | None:
    """None, or a sentence about the first flag that is not allowed or is contradicted."""
    allowed = CPU_FLAGS if target == "cpu" else CUDA_FLAGS
    seen: dict[str, str] = {}
    for flag in flags:
        if flag not in allowed:
            near, choice = did_you_mean(flag, allowed), " ".join(_ranges(allowed))
            return f"flag {flag!r} is not allowed{near}; allowed for {target}: {choice}"
        option = _option(flag)
        if option in seen:
            return f"flag {flag!r} contradicts or repeats {seen[option]!r}"
        seen[option] = flag
    return None


def _option(flag: str) -> str:
    """What the flag sets: two flags that set the same contradict each other."""
    if flag.startswith("-Xptxas=-O"):
        return "-Xptxas=-O"
    return flag.rpartition("=")[0] or flag


def _ranges(allowed: Collection[str]) -> list[str]:
    """The flags in order, those with a number as a range."""
    numbers: dict[str, list[int]] = {}
    plain = []
    for flag in allowed:
        if match := _SHOWN.fullmatch(flag):
            numbers.setdefault(match[1], []).append(int(match[2]))
        else:
            plain.append(flag)
    return sorted(plain + [f"{name}={min(n)}…{max(n)}" for name, n in numbers.items()])
