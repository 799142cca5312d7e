# SPDX-License-Identifier: MIT
"""Builds with the real compilers: what comes out, what is refused, what is cached."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from avo_pytest import sandbox
from avo_pytest.architectures import TYPICAL, typical_facts
from avo_pytest.build import Artifact, BuildError, Limits, build, load_artifact
from avo_pytest.inspection import complaints
from avo_pytest.loading import load_problem
from avo_pytest.plan import DeviceFacts, Launch
from avo_pytest.problem import Configuration, Problem

HERE = Path(__file__).parent
SCALE: Problem = load_problem("small_problems.py:SCALE", root=HERE)
ALL = [*SCALE.correctness("cuda"), *SCALE.throughput["cuda"]["small"]]
A100, H100, HOST = TYPICAL["sm_80"], TYPICAL["sm_90"], typical_facts("cpu")

CUDA = """\
#include "step.cuh"
extern "C" __global__ void scale(const float* x, float* y, float factor, long long n) {
    __shared__ float tile[THREADS];
    long long i = blockIdx.x * (long long)THREADS + threadIdx.x;
    tile[threadIdx.x] = i < n ? x[i] : 0.f;
    if (i < n) y[i] = step(tile[threadIdx.x], factor);
}
"""
STEP = "__device__ inline float step(float x, float factor) { return factor * x; }\n"
CUDA_TOML = """\
schema = 1
target = "sm80"
[compile]
source = "scale.cu"
flags = ["--use_fast_math"]
specialise = ["fast"]
[constants]
THREADS = 256
[[launch]]
function = "scale"
grid = ["ceil_div(rows * width, THREADS)"]
block = ["THREADS"]
arguments = ["x", "y", "factor", { i64 = "rows * width" }]
"""
CPP = """\
#include <cstdint>
#include <cstring>
extern "C" void scale(const uint16_t* x, uint16_t* y, float factor, int64_t n, int32_t) {
    for (int64_t i = 0; i < n; ++i) {
        uint32_t bits = uint32_t(x[i]) << 16;
        float value;
        std::memcpy(&value, &bits, 4);
        value *= factor * GAIN;
        std::memcpy(&bits, &value, 4);
        y[i] = uint16_t(bits >> 16);
    }
}
"""
CPP_TOML = """\
schema = 1
target = "cpu"
[compile]
source = "scale.cpp"
flags = ["-O3"]
[constants]
GAIN = 4
[[launch]]
function = "scale"
arguments = ["x", "y", "factor", { i64 = "rows * width" }, "threads"]
"""
GOOD = {"kernel.toml": CUDA_TOML, "scale.cu": CUDA, "step.cuh": STEP}
GOOD_CPU = {"kernel.toml": CPP_TOML, "scale.cpp": CPP}

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests that do not look into it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a candidate's folder, with files replaced or added."""

    def written(files: dict[str, str], **others: str) -> Path:
        folder = tmp_path / "kernel"
        for name, text in {**files, **others}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        return folder

    return written


def with_source(source: str, **manifest: str) -> dict[str, str]:
    """The CUDA candidate with another source, its manifest changed by old=new."""
    return {**GOOD, "scale.cu": source}


# -- what comes out


def test_cuda(write: Write, cache: Path) -> None:
    artifact = build(write(GOOD), SCALE, ALL, A100, cache)
    assert (artifact.kernel, artifact.target, artifact.arch) == ("scale", "sm80", "sm_80")
    assert sorted(artifact.plans) == sorted(c.name for c in ALL)
    assert len(artifact.codes) == 1  # FAST=0 and FAST=1 are compiled, and give the same bytes
    for plan in artifact.plans.values():
        assert artifact.codes[plan.code].read_bytes()[:4] == b"\x7fELF"


def test_the_artifact_survives_its_file(write: Write, cache: Path) -> None:
    artifact = build(write(GOOD), SCALE, ALL, A100, cache)
    assert load_artifact(artifact.path) == artifact
    text = json.loads((artifact.path / "artifact.json").read_text(encoding="utf-8"))
    assert text["schema"] == 1


def test_report(write: Write, cache: Path) -> None:
    artifact = build(write(GOOD), SCALE, ALL[:1], A100, cache)
    (report,) = artifact.report.values()
    kernel = report["kernels"]["scale"]
    assert report["macros"] == {"FAST": 0, "THREADS": 256}
    assert kernel["static_shared_bytes"] == 1024
    assert kernel["parameter_bytes"] == [8, 8, 4, 8]
    assert 0 < kernel["registers"] < 64
    assert kernel["sass"]["STG"] == 1
    assert kernel["sass"]["total"] > 10


def test_cpu_code_runs_as_the_device_calls_it(write: Write, cache: Path) -> None:
    artifact = build(write(GOOD_CPU), SCALE, ALL, HOST, cache)
    (path,) = artifact.codes.values()
    x = (ctypes.c_uint16 * 3)(0x3F80, 0x4000, 0xC040)  # 1, 2, -3
    y = (ctypes.c_uint16 * 3)()
    scalars = (ctypes.c_float(0.5), ctypes.c_int64(3), ctypes.c_int32(1))
    pointers = [ctypes.cast(x, ctypes.c_void_p), ctypes.cast(y, ctypes.c_void_p)]
    pointers += [ctypes.cast(ctypes.pointer(s), ctypes.c_void_p) for s in scalars]
    ctypes.CDLL(str(path)).avo_entry((ctypes.c_void_p * 5)(*pointers))
    assert list(y) == [0x4000, 0x4080, 0xC0C0]  # × 0.5 × GAIN = 2, 4, -6


def test_target_and_device(write: Write, cache: Path) -> None:
    folder = write(GOOD)
    assert build(folder, SCALE, ALL[:1], H100, cache).arch == "sm_90"
    sm90 = write(GOOD, **{"kernel.toml": CUDA_TOML.replace("sm80", "sm90")})
    assert build(sm90, SCALE, ALL[:1], H100, cache).arch == "sm_90a"
    with pytest.raises(BuildError, match="target sm90 does not run on sm_80"):
        build(sm90, SCALE, ALL[:1], A100, cache)


def test_specialised_values(write: Write, cache: Path) -> None:
    """A listed value gets its macro, all others one code without it."""
    body = "#ifdef WIDTH\n#define W WIDTH\n#else\n#define W 7\n#endif\n"
    source = body + CUDA.replace("step(tile[threadIdx.x], factor)", "factor * W")
    manifest = CUDA_TOML.replace('["fast"]', "{ width = [256] }")
    artifact = build(
        write(with_source(source), **{"kernel.toml": manifest}), SCALE, ALL, A100, cache
    )
    macros = [r["macros"].get("WIDTH") for r in artifact.report.values()]
    assert sorted(macros, key=str) == [256, None]


# -- identity


def test_hash(write: Write, cache: Path) -> None:
    """A comment, another seed's configurations or a variant's name change nothing; a grid does."""
    first = build(write(GOOD), SCALE, ALL, A100, cache)
    drawn = Configuration("drawn", {"rows": 5, "width": 16, "fast": 0})
    again = build(write(GOOD), SCALE, [*ALL, drawn], A100, cache)
    assert "drawn" in again.plans
    named = CUDA_TOML.replace("[[launch]]", "[[variant]]\nname = 'other'\n[[launch]]")
    renamed = build(write(GOOD, **{"kernel.toml": named}), SCALE, ALL, A100, cache)
    commented = build(write(with_source(CUDA + "// a comment\n")), SCALE, ALL, A100, cache)
    assert {first.hash, again.hash, renamed.hash, commented.hash} == {first.hash}
    other = CUDA_TOML.replace("ceil_div(rows * width, THREADS)", "rows * width // THREADS + 1")
    assert build(write(GOOD, **{"kernel.toml": other}), SCALE, ALL, A100, cache).hash != first.hash


# -- the cache


def test_a_second_build_compiles_nothing(write: Write, tmp_path: Path) -> None:
    folder, cache = write(GOOD), tmp_path / "cache"
    first = build(folder, SCALE, ALL[:1], A100, cache)
    impossible = Limits(build_s=0.0, total_s=0.0)
    assert build(folder, SCALE, ALL[:1], A100, cache, limits=impossible) == first
    grid = CUDA_TOML.replace("ceil_div(rows * width, THREADS)", "rows * width")
    changed = write(GOOD, **{"kernel.toml": grid})
    assert build(changed, SCALE, ALL[:1], A100, cache, limits=impossible).hash != first.hash
    changed = write(GOOD, **{"step.cuh": STEP.replace("factor * x", "factor + x")})
    with pytest.raises(BuildError, match="building took longer than 0 s in all"):
        build(changed, SCALE, ALL[:1], A100, cache, limits=impossible)


def test_damaged_code_is_made_anew(write: Write, tmp_path: Path) -> None:
    folder, cache = write(GOOD_CPU), tmp_path / "cache"
    first = build(folder, SCALE, ALL, HOST, cache)
    (code,) = (cache / "codes").glob("*/code.so")
    code.write_bytes(b"something else")
    assert build(folder, SCALE, ALL, HOST, cache).hash == first.hash
    assert code.read_bytes() != b"something else"
    assert len(list((cache / "codes").iterdir())) == 1


def _build_in_process(folder: Path, cache: Path) -> Artifact:
    return build(folder, load_problem("small_problems.py:SCALE", root=HERE), ALL, HOST, cache)


def test_two_builders_at_once(write: Write, tmp_path: Path) -> None:
    folder, cache = write(GOOD_CPU), tmp_path / "cache"
    script = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=script) as pool:
        first, second = pool.map(_build_in_process, [folder] * 2, [cache] * 2)
    assert first == second
    assert [p.name for p in cache.rglob(".new-*")] == []
    assert len(list((cache / "codes").iterdir())) == 1


# -- what is refused


REFUSED = {
    "a variable": ("__device__ int counter;", "counter++;", "__device__ variables"),
    "a static": ("", "static int last; last++;", "__device__ variables"),
    "a table in global memory": (
        "__device__ const int t[]={1,2,3};",
        "y[0]=t[n];",
        "in __constant__",
    ),
    "printf": ("", 'printf("%d", 1);', "uses vprintf, which the driver would provide"),
    "malloc": ("", "*(void**)y = malloc(n);", "uses malloc"),
}


@pytest.mark.parametrize(("global_", "local", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_state_is_refused(write: Write, cache: Path, global_: str, local: str, said: str) -> None:
    source = f"{global_}\n{CUDA.replace('long long i =', f'{local} long long i =')}"
    with pytest.raises(BuildError, match=said):
        build(write(with_source(source)), SCALE, ALL[:1], A100, cache)


def test_constant_tables_are_allowed(write: Write, cache: Path) -> None:
    source = "__constant__ float t[4] = {1, 2, 3, 4};\n" + CUDA.replace("factor))", "t[i & 3]))")
    assert build(write(with_source(source)), SCALE, ALL[:1], A100, cache).codes


def test_compile_error_shows_the_compilers_words(write: Write, cache: Path) -> None:
    folder = write(with_source(CUDA.replace("threadIdx.x;", "threadIdx.q;", 1)))
    with pytest.raises(BuildError, match=r"with FAST=0 THREADS=256\n") as caught:
        build(folder, SCALE, ALL[:1], A100, cache)
    assert re.search(r'scale.cu\(4\): error: class ".*" has no member "q"', caught.value.log)
    assert "kernel.toml: scale.cu: does not compile" in caught.value.reason

    cpp = CPP.replace("value *=", "volume *=")
    with pytest.raises(BuildError, match="does not compile") as caught:
        build(write({**GOOD_CPU, "scale.cpp": cpp}), SCALE, ALL, HOST, cache)
    assert "scale.cpp:8:9: error: 'volume' was not declared" in caught.value.log


def test_the_cpu_functions_signature_is_checked(write: Write, cache: Path) -> None:
    for wrong in (
        CPP.replace("int64_t n", "int32_t n"),
        CPP.replace("const uint16_t*", "uint16_t*"),
    ):
        with pytest.raises(BuildError, match="conflicting declaration|redeclaration|differ"):
            build(write({**GOOD_CPU, "scale.cpp": wrong}), SCALE, ALL, HOST, cache)
    missing = CPP.replace("void scale(", "void scald(")
    with pytest.raises(BuildError, match="undefined (reference|symbol)"):
        build(write({**GOOD_CPU, "scale.cpp": missing}), SCALE, ALL, HOST, cache)


def test_the_kernels_parameters_are_checked(write: Write, cache: Path) -> None:
    folder = write(GOOD, **{"kernel.toml": CUDA_TOML.replace("{ i64 =", "{ i32 =")})
    with pytest.raises(BuildError, match=r"takes 4 parameters of \[8, 8, 4, 8\] bytes, but .* 4\]"):
        build(folder, SCALE, ALL[:1], A100, cache)
    mangled = CUDA.replace('extern "C" ', "")
    with pytest.raises(BuildError, match=r"no kernel 'scale' \(extern .*there are: _Z5scale"):
        build(write(with_source(mangled)), SCALE, ALL[:1], A100, cache)


def test_static_shared_memory_counts(write: Write, cache: Path) -> None:
    shared = CUDA_TOML.replace("block =", f"shared = {A100.smem_optin - 1000}\nblock =")
    with pytest.raises(
        BuildError, match="1024 bytes of static and 165912 of dynamic shared memory"
    ):
        build(write(GOOD, **{"kernel.toml": shared}), SCALE, ALL[:1], A100, cache)


def test_manifest_errors_are_build_errors(write: Write, cache: Path) -> None:
    folder = write(GOOD, **{"kernel.toml": CUDA_TOML.replace("block =", "blok =")})
    with pytest.raises(BuildError, match="unknown key 'blok'; did you mean 'block'"):
        build(folder, SCALE, ALL[:1], A100, cache)


def test_links_in_the_folder_are_refused(write: Write, cache: Path) -> None:
    folder = write(GOOD)
    (folder / "passwords.h").symlink_to("/etc/passwd")
    with pytest.raises(BuildError, match="only regular files and folders are allowed"):
        build(folder, SCALE, ALL[:1], A100, cache)


def test_limits(write: Write, cache: Path) -> None:
    folder = write(GOOD, **{"step.cuh": STEP + "// limits\n"})
    with pytest.raises(BuildError, match=r"more builds than allowed; .* \(1\)"):
        build(folder, SCALE, ALL, A100, cache, limits=Limits(builds=1))
    with pytest.raises(BuildError, match="bytes of code; at most 100 are allowed"):
        build(write(GOOD_CPU), SCALE, ALL, HOST, cache / "small", limits=Limits(code_bytes=100))


BOMB = """\
template <int D, int S> struct Tree {
    enum { v = Tree<D - 1, 2 * S>::v + Tree<D - 1, 2 * S + 1>::v };
};
template <int S> struct Tree<0, S> { enum { v = 1 }; };
int bomb = Tree<26, 1>::v;
"""


@pytest.mark.parametrize("confine", [True, False])
def test_a_template_bomb_is_stopped(write: Write, cache: Path, confine: bool) -> None:
    folder = write({**GOOD_CPU, "scale.cpp": BOMB + CPP})
    with pytest.raises(BuildError, match="compiling took longer than 1 s"):
        build(folder, SCALE, ALL, HOST, cache, confine=confine, limits=Limits(build_s=1.0))


@pytest.mark.skipif(sandbox.level()[0] != "child", reason=f"no sandbox: {sandbox.level()[1]}")
@pytest.mark.parametrize(("files", "facts"), [(GOOD, A100), (GOOD_CPU, HOST)], ids=["cuda", "cpu"])
def test_files_of_the_host_are_out_of_reach(
    write: Write, cache: Path, tmp_path: Path, files: dict[str, str], facts: DeviceFacts
) -> None:
    secret = tmp_path / "secret.h"
    # A word that no path holds by chance, as pytest's numbered folders may hold a number.
    secret.write_text("#error plugh\n", encoding="utf-8")
    source = next(name for name in files if name.startswith("scale."))
    for path in (str(secret), "../secret.h", "/etc/passwd"):
        changed = {**files, source: f'#include "{path}"\n{files[source]}'}
        with pytest.raises(BuildError) as caught:
            build(write(changed), SCALE, ALL[:1], facts, cache)
        assert "plugh" not in caught.value.log
        assert "root:" not in caught.value.log
        assert path in caught.value.log


# -- occupancy and --strict


def test_occupancy_is_asked_of_the_caller(write: Write, cache: Path) -> None:
    grid = CUDA_TOML.replace("ceil_div(rows * width, THREADS)", "num_sms * max_active_blocks")
    asked: list[tuple[str, bytes, str]] = []

    def ask_driver(kind: str, code: Path, launch: Launch) -> int:
        asked.append((kind, code.read_bytes()[:4], launch.function))
        return 8

    folder = write(GOOD, **{"kernel.toml": grid})
    artifact = build(folder, SCALE, ALL[:1], A100, cache, ask_driver=ask_driver)
    assert artifact.plans[ALL[0].name].launches[0].grid == (864, 1, 1)
    assert asked == [("max_active_blocks", b"\x7fELF", "scale")]
    with pytest.raises(BuildError, match="max_active_blocks needs the driver"):
        build(folder, SCALE, ALL[:1], A100, cache)


WGMMA = """
extern "C" __global__ void __launch_bounds__(128) scale(
    const void*, float* y, float, long long a) {
    float d[4] = {};
    asm volatile("wgmma.fence.sync.aligned;\\n"
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3}, %4, %5, 1, 1, 1, 0, 0;\\n"
        "wgmma.commit_group.sync.aligned;\\nwgmma.wait_group.sync.aligned 0;\\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "l"(a), "l"(a + 64));
    y[threadIdx.x] = d[0] + d[1] + d[2] + d[3];
}
"""
SPILLING = """
extern "C" __global__ void __launch_bounds__(1024) scale(
    const float* x, float* y, float, long long n) {
    float v[96];
    for (int i = 0; i < 96; ++i) v[i] = x[i * n + threadIdx.x];
    for (long long k = 0; k < n; ++k)
#pragma unroll
        for (int i = 0; i < 96; ++i) v[i] = v[i] * v[(i + 7) % 96] + v[(i * 5) % 96];
#pragma unroll
    for (int i = 0; i < 96; ++i) y[i * n + threadIdx.x] = v[i];
}
"""


def test_strict(write: Write, cache: Path) -> None:
    sm90 = {"kernel.toml": CUDA_TOML.replace("sm80", "sm90")}
    plain = build(write(GOOD, **sm90), SCALE, ALL[:1], H100, cache)
    assert [c.partition(": ")[2] for c in complaints("sm90", plain.report)] == [
        "no tensor-core instruction of sm90 (HGMMA, QGMMA)"
    ]
    tensor = build(write(with_source(WGMMA), **sm90), SCALE, ALL[:1], H100, cache)
    assert complaints("sm90", tensor.report) == []
    assert next(iter(tensor.report.values()))["kernels"]["scale"]["sass"]["HGMMA"] == 1
    spilling = build(write(with_source(SPILLING)), SCALE, ALL[:1], A100, cache)
    assert [c for c in complaints("sm80", spilling.report) if "scale spills" in c]
    serialised = {"c": {"warnings": ["ptxas info: (C7510) wgmma serialized"], "kernels": {}}}
    assert complaints("sm80", serialised) == ["c: ptxas info: (C7510) wgmma serialized"]


def test_two_configurations_of_one_name(write: Write, cache: Path) -> None:
    other = replace(ALL[0], symbols={**ALL[0].symbols, "rows": 99})
    with pytest.raises(BuildError, match="two different configurations are called"):
        build(write(GOOD), SCALE, [*ALL, other], A100, cache)
