# SPDX-License-Identifier: MIT
"""kernel.toml: what a record-setting kernel needs can be said; every mistake gets its sentence."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from avo_pytest.architectures import TYPICAL
from avo_pytest.loading import load_problem
from avo_pytest.manifest import Manifest, ManifestError, load, variant_of
from avo_pytest.plan import DeviceFacts, Launch, LaunchPlan
from avo_pytest.problem import Configuration, Problem
from avo_pytest.resolution import resolve

HERE = Path(__file__).parent
H100 = TYPICAL["sm_90"]
SCALE: Problem = load_problem("small_problems.py:SCALE", root=HERE)
ATTENTION: Problem = load_problem("small_problems.py:ATTENTION", root=HERE)
FA3 = HERE / "manifests" / "fa3.toml"

SIMPLE = """\
schema = 1
target = "sm80"
[compile]
source = "scale.cu"
[constants]
THREADS = { value = 256, min = 64, max = 1024, step = 64 }
[[launch]]
function = "scale"
grid = ["ceil_div(rows * width, THREADS)"]
block = ["THREADS"]
arguments = ["x", "y", "factor", { i64 = "rows * width" }]
"""
MAPPED = """\
schema = 1
target = "sm90"
[compile]
source = "scale.cu"
[workspace.partial]
kind = "scratch"
bytes = 65536
[tensor_map.x]
tensor = "x"
dims = ["width", "rows"]
box = [64, 64]
swizzle = 128
[[launch]]
function = "scale"
grid = [4]
block = [128]
arguments = ["map.x", "y", "partial"]
"""
CPU = """\
schema = 1
target = "cpu"
[compile]
source = "scale.cpp"
flags = ["-O3", "-march=native"]
[[launch]]
function = "scale"
arguments = ["x", "y", "factor", { i64 = "rows" }, "threads"]
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a manifest with replacements, beside its empty sources."""

    def written(text: str, *changes: tuple[str, str]) -> Path:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        for name in ("scale.cu", "scale.cpp", "attention.cu"):
            (tmp_path / name).touch()
        (tmp_path / "kernel.toml").write_text(text, encoding="utf-8")
        return tmp_path / "kernel.toml"

    return written


def plan_of(path: Path, facts: DeviceFacts = H100, **symbols: int) -> LaunchPlan:
    """The plan of SCALE at given symbols."""
    named = {"rows": 64, "width": 256, "fast": 0} | symbols
    return resolve(load(path, SCALE), SCALE, Configuration("c", named), facts)


# -- what a good manifest gives


def test_simple(write: Write) -> None:
    (launch,) = plan_of(write(SIMPLE), rows=3).launches
    assert (launch.grid, launch.block) == ((3, 1, 1), (256, 1, 1))
    values = [(a.kind, a.name, a.type, a.value) for a in launch.arguments]
    assert values == [
        ("tensor", "x", None, 0),
        ("tensor", "y", None, 0),
        ("scalar", "factor", "f32", 0.5),
        ("scalar", "", "i64", 768),
    ]


def test_cpu(write: Write) -> None:
    plan = plan_of(write(CPU), DeviceFacts("x86_64"))
    assert [a.kind for a in plan.launches[0].arguments][-1] == "threads"


@pytest.mark.parametrize("kind", ["scratch", "zeroed"])
def test_a_cpu_function_may_have_a_workspace(write: Write, kind: str) -> None:
    table = f'[workspace.sums]\nkind = "{kind}"\nbytes = "4 * rows + 1"\n[[launch]]'
    changes = ("[[launch]]", table), ('"factor"', '"sums", "factor"')
    plan = plan_of(write(CPU, *changes), DeviceFacts("x86_64"))
    (workspace,) = plan.workspaces
    assert (workspace.name, workspace.kind, workspace.bytes % 16) == ("sums", kind, 0)
    assert [a.kind for a in plan.launches[0].arguments][2] == "workspace"


@pytest.fixture
def fa3(write: Write) -> Manifest:
    """TMA, persistent, longest-first by a setup table, stream-K tail; three variants."""
    return load(write(FA3.read_text(encoding="utf-8")), ATTENTION)


def attention(seq: int, causal: int = 0, kv_heads: int = 16) -> Configuration:
    symbols = {"seq": seq, "causal": causal, "batch": 32768 // seq, "heads": 16, "head_dim": 128}
    symbols |= {"kv_heads": kv_heads, "group": 16 // kv_heads}
    return Configuration(f"s{seq}-c{causal}", symbols)


def test_fa3_causal(fa3: Manifest) -> None:
    plan = resolve(fa3, ATTENTION, attention(8192, 1), H100)
    setup, run = plan.launches
    assert (setup.function, setup.phase) == ("longest_first", "setup")
    assert (run.grid, run.shared_bytes) == ((131, 1, 1), 1024 + 256 * (128 + 4 * 128))
    assert {w.name: (w.kind, w.bytes) for w in plan.workspaces} == {
        "order": ("restored", 8 * 4096),
        "next": ("restored", 16),
    }


def test_fa3_tail(fa3: Manifest) -> None:
    """4096 tiles on 132 SMs leave 4; each is cut along the keys into 33 parts."""
    plan = resolve(fa3, ATTENTION, attention(32768), H100)
    attend, combine = plan.launches
    assert plan.variant == "full"
    assert attend.shared_bytes == 214016 <= H100.smem_optin
    assert [a.value for a in attend.arguments if a.type == "i32"] == [32768, 4096, 4, 33]
    assert (combine.function, combine.programmatic) == ("combine", True)
    assert {w.name: w.bytes for w in plan.workspaces}["partial_o"] == 4 * 4 * 33 * 128 * 128


def test_fa3_without_tail_has_no_combine(fa3: Manifest) -> None:
    plan = resolve(fa3, ATTENTION, attention(32768), replace(H100, num_sms=128))
    assert [launch.function for launch in plan.launches] == ["attention_stream_k"]


def test_fa3_variants(fa3: Manifest) -> None:
    chosen = [
        variant_of(fa3, ATTENTION, attention(*c), H100) for c in ((4096, 1), (4096,), (8192,))
    ]
    assert chosen == ["causal", "short", "full"]


def test_fa3_map_covers_both_halves_of_a_row(fa3: Manifest) -> None:
    plan = resolve(fa3, ATTENTION, attention(8192, kv_heads=4), H100)
    k = next(m for m in plan.tensor_maps if m.name == "k")
    assert k.dims == (64, 8192, 4, 2, 4)
    assert k.strides_bytes == (4 * 128 * 2, 256, 128, 8192 * 4 * 128 * 2)
    assert (k.box, k.swizzle, k.l2_promotion) == ((64, 176, 1, 2, 1), 128, 256)


def test_programmatic_is_dropped_where_the_device_knows_it_not(write: Write) -> None:
    launch = SIMPLE[SIMPLE.index("[[launch]]") :]
    path = write(SIMPLE + launch + "programmatic = true\n")
    assert [x.programmatic for x in plan_of(path).launches] == [False, True]
    assert [x.programmatic for x in plan_of(path, TYPICAL["sm_80"]).launches] == [False, False]


def test_unused_workspaces_are_left_out_and_sizes_rounded(write: Write) -> None:
    unused = "[workspace.unused]\nkind = 'zeroed'\nbytes = 4\n[[launch]]"
    path = write(MAPPED, ("65536", "65537"), ("[[launch]]", unused))
    assert [(w.name, w.bytes) for w in plan_of(path).workspaces] == [("partial", 65552)]


def test_occupancy_comes_from_the_caller(write: Write) -> None:
    manifest = load(
        write(SIMPLE, ('"ceil_div(rows * width, THREADS)"', '"num_sms * max_active_blocks"')), SCALE
    )
    asked: list[tuple[str, Launch]] = []

    def occupancy(kind: str, launch: Launch) -> int:
        asked.append((kind, launch))
        return 3

    configuration = SCALE.throughput["cuda"]["small"][0]
    plan = resolve(manifest, SCALE, configuration, H100, occupancy=occupancy)
    assert plan.launches[0].grid == (396, 1, 1)
    assert [(kind, launch.block) for kind, launch in asked] == [("max_active_blocks", (256, 1, 1))]
    with pytest.raises(ManifestError, match="max_active_blocks needs the driver"):
        resolve(manifest, SCALE, configuration, H100)


# -- what a bad manifest is told

CASES = tomllib.loads((HERE / "manifests" / "refused.toml").read_text(encoding="utf-8"))["case"]
BASES = {"simple": SIMPLE, "mapped": MAPPED, "cpu": CPU}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_refused(write: Write, case: dict[str, str]) -> None:
    path = write(BASES[case["base"]], (case["old"], case["new"]))
    if case["stage"] == "resolution":
        load(path, SCALE)
    with pytest.raises(ManifestError, match=case["said"]) as caught:
        plan_of(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert ("configuration c" in str(caught.value)) is (case["stage"] == "resolution")


def test_links_are_refused(write: Write, tmp_path: Path) -> None:
    path = write(SIMPLE)
    secret = tmp_path.parent / "secret.cu"
    secret.touch()
    (tmp_path / "scale.cu").unlink()
    (tmp_path / "scale.cu").symlink_to(secret)
    with pytest.raises(ManifestError, match="must be a regular file, not a link"):
        load(path, SCALE)
    moved = tmp_path.parent / "moved.toml"
    shutil.move(path, moved)
    path.symlink_to(moved)
    with pytest.raises(ManifestError, match="links are not followed"):
        load(path, SCALE)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="kernel.toml: no such regular file"):
        load(tmp_path / "kernel.toml", SCALE)
