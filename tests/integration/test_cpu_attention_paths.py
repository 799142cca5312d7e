# SPDX-License-Identifier: MIT
"""Every path of the CPU attention kernel by the judge's own rule, and under the sanitizers.

`make test` takes some awkward configurations, `make soak` the whole correctness set.
"""

from __future__ import annotations

import platform
import shutil
import struct
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from avo_pytest import correctness
from avo_pytest.devices import native
from avo_pytest.loading import load_problem
from avo_pytest.manifest import load as load_manifest
from avo_pytest.plan import DeviceFacts
from avo_pytest.problem import Configuration
from avo_pytest.resolution import resolve
from avo_pytest.specification import Manifest

ROOT = Path(__file__).resolve().parents[2]
KERNEL = ROOT / "kernels" / "attention" / "cpu"
DRIVER = Path(__file__).parent / "cpu_attention" / "driver.cpp"
PROBLEM = load_problem("attention", root=ROOT)
MANIFEST = load_manifest(KERNEL / "kernel.toml", PROBLEM)
ALL = PROBLEM.correctness("cpu")
THREADS = (3, 1, 2)  # by turns; every other problem on the loader's threads, of which there are 3
QUICK = ("s1-", "s2-", "s31-", "s77-", "s129-", "s192-", "s200-", "s353-", "s320-", "s450-")

X86 = platform.machine() in ("x86_64", "AMD64")
TEST_COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


@cache
def cpu_flags() -> frozenset[str]:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    return frozenset(next((x for x in text.splitlines() if x.startswith("flags")), "").split())


def needs(*flags: str) -> pytest.MarkDecorator:
    lacking = [flag for flag in flags if flag not in cpu_flags()]
    return pytest.mark.skipif(bool(lacking), reason=f"this CPU has no {', '.join(lacking)}")


def compiled(
    folder: Path, compiler: str, flags: Sequence[str], constants: dict[str, int] | None = None
) -> Path:
    """The driver around the kernel, with the shipped constants but for those given."""
    shipped = tomllib.loads((KERNEL / "kernel.toml").read_text())["constants"]
    values = {name: c["value"] for name, c in shipped.items()} | (constants or {})
    made = folder / "driver"
    command = [
        *(compiler, "-std=c++20", "-pthread", "-Wall", "-ffp-contract=fast"),
        *(f"-D{name}={value}" for name, value in values.items()),
        *(f"-I{KERNEL}", f"-I{native.HERE}", *flags, str(DRIVER), "-o", str(made)),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    return made


def check(command: Sequence[str], configurations: Sequence[Configuration]) -> None:
    """Run the driver on all of them; the judge's rule for each output, and a clean end."""
    contents = [PROBLEM.inputs(c, seed) for seed, c in enumerate(configurations)]
    problems = [
        _problem(c, given, THREADS[number % 3], number % 2)
        for number, (c, given) in enumerate(zip(configurations, contents, strict=True))
    ]
    outputs = _outputs(run(command, problems), configurations)
    for c, given, bits in zip(configurations, contents, outputs, strict=True):
        found = correctness.check_output(PROBLEM, c, given, bits)
        assert found.ok, f"{c.name}: {found.reason}"


def run(command: Sequence[str], problems: Sequence[bytes]) -> bytes:
    done = subprocess.run(command, input=b"".join(problems), capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert not done.stderr, done.stderr.decode()[-3000:]
    return done.stdout


def _problem(
    c: Configuration,
    contents: dict[str, np.ndarray],
    threads: int,
    lent: int,
    manifest: Manifest = MANIFEST,
) -> bytes:
    sizes = [c[name] for name in ("batch", "seq", "heads", "kv_heads", "causal")]
    (packed,) = resolve(manifest, PROBLEM, c, DeviceFacts(arch="x86_64")).workspaces
    header = struct.pack("<8if", *sizes, threads, lent, packed.bytes, _scale(c))
    return header + b"".join(contents[name].tobytes() for name in "qkv")


def _scale(c: Configuration) -> float:
    return float(PROBLEM.scalars(c)["scale_log2e"])


def _outputs(raw: bytes, configurations: Sequence[Configuration]) -> Iterator[np.ndarray]:
    at = 0
    for c in configurations:
        spec = PROBLEM.output(c)
        flat = np.frombuffer(raw, dtype=np.uint16, count=spec.elements, offset=at)
        at += spec.bytes
        yield flat.reshape(spec.rows, spec.shape[-1])
    assert at == len(raw)


def quick() -> list[Configuration]:
    chosen = [c for c in ALL if any(f"-{part}" in c.name for part in QUICK)]
    assert len(chosen) > len(QUICK) and {c["causal"] for c in chosen} == {0, 1}
    return chosen


AVX512 = needs("avx512f", "avx512bw", "avx512dq", "avx512vl")
PATHS = [
    pytest.param(["-march=native"], {}, id="native"),
    pytest.param(["-march=x86-64-v4"], {}, id="avx512-fp32", marks=AVX512),
    pytest.param(["-march=x86-64-v3"], {}, id="avx2", marks=needs("avx2", "fma")),
    pytest.param(["-march=x86-64"], {}, id="portable"),
    pytest.param(["-march=x86-64"], {"AMX_EMULATED": 1}, id="amx-emulated"),
]
FULL = pytest.mark.parametrize(
    "configurations",
    [pytest.param(quick, id="quick"), pytest.param(lambda: ALL, id="all", marks=pytest.mark.soak)],
)


@pytest.mark.skipif(not X86, reason="paths of x86")
@pytest.mark.parametrize(("flags", "constants"), PATHS)
@FULL
def test_path(tmp_path: Path, flags: list[str], constants: dict[str, int], configurations) -> None:
    driver = compiled(tmp_path, native.compiler(), ["-O2", *flags], constants)
    check([str(driver)], configurations())


# Heads for every thread, some left over, fewer than threads; more than the packed memory holds.
SHARED_OUT = ((1, 4, 4, 200), (1, 5, 5, 150), (2, 6, 3, 100), (1, 2, 1, 400), (2, 3, 3, 1500))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sanitizers of Linux")
def test_the_number_of_threads_changes_no_bit(tmp_path: Path) -> None:
    """Who packs and who attends to a head depends on it, and on who comes first."""
    flags = ["-O1", "-march=native", "-fsanitize=address", "-fno-sanitize-recover=all"]
    driver = compiled(tmp_path, native.compiler(), flags, {"PACKED_MIB": 4})
    text = (KERNEL / "kernel.toml").read_text()
    assert text.count("PACKED_MIB = { value = 24") == 1
    folder = shutil.copytree(KERNEL, tmp_path / "kernel")
    (folder / "kernel.toml").write_text(text.replace("MIB = { value = 24", "MIB = { value = 4"))
    manifest = load_manifest(folder / "kernel.toml", PROBLEM)
    names = ("batch", "heads", "kv_heads", "seq", "causal", "group", "head_dim")
    for batch, heads, kv_heads, seq in SHARED_OUT:
        for causal in (0, 1):
            sizes = (batch, heads, kv_heads, seq, causal, heads // kv_heads, 128)
            c = replace(ALL[0], name=str(sizes), symbols=dict(zip(names, sizes, strict=True)))
            given = PROBLEM.inputs(c, 0)
            ways = [(threads, threads % 2) for threads in (1, 2, 3, 4, 5, 8)]
            outputs = run([str(driver)], [_problem(c, given, *way, manifest) for way in ways])
            first, *others = _outputs(outputs, [c] * len(ways))
            for way, bits in zip(ways[1:], others, strict=True):
                assert np.array_equal(bits, first), f"{c.name}: {way}"


@pytest.mark.skipif(not X86, reason="paths of x86")
def test_the_amx_path_compiles_to_tile_instructions(tmp_path: Path) -> None:
    flags = ["-O2", "-march=sapphirerapids", "-S"]
    assembly = compiled(tmp_path, native.compiler(), flags).read_text()
    assert "tdpbf16ps" in assembly and "ldtilecfg" in assembly and "tilerelease" in assembly


@pytest.mark.skipif(not X86, reason="without a cross compiler's own machine")
@pytest.mark.skipif(
    shutil.which(TEST_COMPILER) is None or shutil.which(EMULATOR) is None,
    reason=f"{TEST_COMPILER} or {EMULATOR} is missing: apt install g++-aarch64-linux-gnu qemu-user",
)
@FULL
def test_aarch64(tmp_path: Path, configurations) -> None:
    driver = compiled(tmp_path, TEST_COMPILER, ["-O2", "-static"])
    check([EMULATOR, str(driver)], configurations())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sanitizers of Linux")
@pytest.mark.parametrize(
    "sanitizer", ["thread", pytest.param("address,undefined", id="address-undefined")]
)
@FULL
def test_sanitizers_find_nothing(tmp_path: Path, sanitizer: str, configurations) -> None:
    flags = ["-O1", "-march=native", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    driver = compiled(tmp_path, native.compiler(), flags)
    check([str(driver)], configurations())
