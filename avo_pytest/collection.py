# SPDX-License-Identifier: MIT
"""Which tests a scoring run holds, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pytest

Kind = Literal["correctness", "throughput"]
KINDS: tuple[Kind, ...] = ("correctness", "throughput")


def _option(name: str, harmless: tuple[object, ...] = ()) -> Callable[[pytest.Config], bool]:
    return lambda config: config.getoption(name, None) not in (None, False, 0, "", [], *harmless)


# A score is the whole set, in one process, in the judge's order, each check once.
REFUSED: tuple[tuple[str, Callable[[pytest.Config], bool]], ...] = (
    ("-n (pytest-xdist)", _option("numprocesses")),
    ("--dist (pytest-xdist)", _option("dist", ("no",))),
    ("--lf", _option("lf")),
    ("--ff", _option("failedfirst")),
    ("--nf", _option("newfirst")),
    ("--sw", _option("stepwise")),
    ("--reruns (pytest-rerunfailures)", _option("reruns")),
    ("--force-flaky (flaky)", _option("force_flaky")),
    ("--random-order (pytest-random-order)", _option("random_order_bucket", ("none",))),
    ("--codspeed (pytest-codspeed)", _option("codspeed")),
    ("-p no:terminal", lambda config: config.pluginmanager.is_blocked("terminal")),
    ("--benchmark-only (pytest-benchmark)", _option("benchmark_only")),
    ("--benchmark-skip (pytest-benchmark)", _option("benchmark_skip")),
)


def refuse(config: pytest.Config) -> None:
    """Raise UsageError for what would shrink, re-roll or reorder the set."""
    for name, is_on in REFUSED:
        if is_on(config):
            raise pytest.UsageError(f"--avo-score cannot be combined with {name}")
    if config.getoption("randomly_reorganize", False):
        raise pytest.UsageError(
            "--avo-score cannot be combined with pytest-randomly: add -p no:randomly"
        )


def kernels(root: Path) -> list[str]:
    """Kernels that have a problem under `root`."""
    return sorted(path.parent.name for path in root.glob("bench/*/problem.py"))


def refuse_a_strange_root(config: pytest.Config) -> None:
    """pytest takes the value of an option that it does not know yet for a path, if there is one."""
    here = config.invocation_params.dir
    if not kernels(config.rootpath) and kernels(here):
        raise pytest.UsageError(
            f"pytest took {config.rootpath} for the root, not {here}: write options whose value is "
            "a path as --avo-json=PATH, with an equals sign, or give --rootdir"
        )


def choose_kernel(root: Path, wanted: str | None) -> str:
    """The wanted kernel, or the only one. Raises UsageError naming those that exist."""
    found = kernels(root)
    if wanted is not None:
        return wanted
    if len(found) == 1:
        return found[0]
    if not found:
        raise pytest.UsageError(
            f"no kernel to judge: {root / 'bench'} holds no <kernel>/problem.py "
            "(`avo new kernel NAME` writes one)"
        )
    raise pytest.UsageError(f"--avo-kernel: one of {', '.join(found)}")


def default_paths(config: pytest.Config, kernel: str) -> None:
    """Without paths on the command line a scoring run collects the kernel's folder."""
    if config.args_source is not config.ArgsSource.ARGS:
        config.args[:] = [str(config.rootpath / "bench" / kernel)]


def is_judged(item: pytest.Item) -> bool:
    """Whether the item asks the judge."""
    return "judged" in getattr(item, "fixturenames", ())


def kernel_of(path: Path) -> str:
    """`bench/<kernel>/test_*.py` → kernel."""
    return path.parent.name


def kind_of(function: str) -> Kind:
    """Which configurations a test function is run on, from its name."""
    for kind in KINDS:
        if kind in function:
            return kind
    raise pytest.Collector.CollectError(
        f"{function} uses the fixture `configuration`: "
        "its name must contain `correctness` or `throughput`"
    )


def configuration_of(item: pytest.Item) -> str | None:
    """The configuration that a judged item was parametrised with."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("configuration") if callspec else None


def arrange(items: list[pytest.Item]) -> None:
    """Kernel by kernel, correctness first; items that are not judged keep their place."""
    places = [place for place, item in enumerate(items) if is_judged(item)]
    order = sorted((items[place] for place in places), key=_order)
    for place, item in zip(places, order, strict=True):
        items[place] = item


def _order(item: pytest.Item) -> tuple[str, bool]:
    return kernel_of(item.path), "throughput" in item.name.partition("[")[0]


def keep_only(
    items: list[pytest.Item], config: pytest.Config, wanted: Callable[[pytest.Item], bool]
) -> None:
    """Deselect all other items."""
    dropped = [item for item in items if not wanted(item)]
    if dropped:
        items[:] = [item for item in items if wanted(item)]
        config.hook.pytest_deselected(items=dropped)


def selected(items: Sequence[pytest.Item], kernel: str, kind: Kind) -> list[str]:
    """Configurations of a kernel's selected items, in order."""
    return [
        name
        for item in items
        if is_judged(item)
        and kernel_of(item.path) == kernel
        and kind in item.name.partition("[")[0]
        if (name := configuration_of(item)) is not None
    ]
