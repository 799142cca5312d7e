# SPDX-License-Identifier: MIT
"""`avo doctor`: what this machine can do, what is missing, and the fix of each."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avo_pytest.commands import doctor_github

if TYPE_CHECKING:
    from avo_pytest.calibration import Calibration

EXAMPLES = """\
examples:
  avo doctor                 everything, with the baselines of the kernels here
  avo doctor --root ../repo  of another repository
  avo doctor --github        what the repository on GitHub lacks to run the gate
  avo doctor --github OWNER/NAME --script > fix.sh

--github reads with GITHUB_TOKEN (administration, actions, environments, variables: read), changes
nothing, and names each fix as a line for the shell with `gh`; 2: GitHub could not be asked.

exit status: 0 when CPU kernels can be scored here (or the gate can run there), else 1.
"""
CUDA_PACKAGES = (
    "cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc", "nvidia-nvjitlink", "nvidia-cuda-runtime",
    "nvidia-cuda-cuobjdump", "nvidia-cuda-nvdisasm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `fix` is empty where nothing needs mending."""

    what: str
    detail: str
    ok: bool = True
    fix: str = ""
    needed: bool = False


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="what this machine can do, what is missing, and the fix of each",
        description="What this machine can do, what is missing, and the fix of each.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--root", type=Path, default=Path(), metavar="DIR", help="repository (default: here)"
    )
    doctor_github.add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings."""
    if arguments.github is not None:
        return doctor_github.run(arguments)
    lacks = False
    for finding in examine(arguments.root):
        print(f"{'ok     ' if finding.ok else 'missing'} {finding.what:<20} {finding.detail}")
        if finding.fix:
            print(f"{'':8}{'':<20} fix: {finding.fix}")
        lacks |= finding.needed and not finding.ok
    return int(lacks)


def examine(root: Path) -> Iterator[Finding]:
    """All findings, the most basic first."""
    yield _python()
    yield _compiler()
    yield from _cpu(root)
    yield _git()
    yield _cuda_packages()
    yield from _gpu()
    yield _sandbox()
    yield _torch()
    yield from _kernels(root)
    yield from _calibrations(root)


def _python() -> Finding:
    version = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    ok = sys.version_info >= (3, 11)
    return Finding("python", version, ok, "" if ok else "install Python 3.11 or newer", needed=True)


def _compiler() -> Finding:
    from avo_pytest.devices import native

    try:
        return Finding("C++ compiler", native.compiler_version(), needed=True)
    except native.NoCompiler as error:
        fix = "xcode-select --install" if sys.platform == "darwin" else "apt-get install g++"
        return Finding("C++ compiler", str(error), False, fix, needed=True)


def _cpu(root: Path) -> Iterator[Finding]:
    """What all cores can do at most, by unit: kernels take the fastest that the machine has."""
    from avo_pytest.devices import native
    from avo_pytest.devices.cpu import ceilings
    from avo_pytest.devices.disturbance import available_cpus

    cpus = available_cpus()
    try:
        rates = ceilings(native.Trusted(root / ".avo" / "cache", 1), cpus)
    except native.NoCompiler:
        return  # a finding already
    except OSError as error:
        yield Finding("CPU ceiling", f"not measured: {error}", False)
        return
    fastest = max(rates, key=lambda unit: rates[unit])
    told = ", ".join(f"{unit} {1e3 * rate:.0f} GFLOPS" for unit, rate in rates.items())
    yield Finding("CPU ceiling", f"{len(cpus)} cores: {told}; fastest: {fastest}")


def _git() -> Finding:
    path = shutil.which("git")
    if path is None:
        return Finding("git", "not found: no incumbent", False, "apt-get install git")
    return Finding("git", path)


def _cuda_packages() -> Finding:
    lacking = [name for name in CUDA_PACKAGES if _version(name) is None]
    if not lacking:
        return Finding("CUDA compiler", f"NVRTC {_version('nvidia-cuda-nvrtc')}, no driver needed")
    if sys.platform != "linux":
        return Finding("CUDA compiler", "exists for Linux only", False)
    return Finding(
        "CUDA compiler", f"without {', '.join(lacking)}", False, "pip install 'avo-pytest[cuda]'"
    )


def _gpu() -> Iterator[Finding]:
    from avo_pytest.devices.probe import find_cuda

    facts, identity, reason = find_cuda()
    if facts is None:
        yield Finding("GPU", f"{reason} (CPU targets only)", False)
        return
    named = ", ".join(f"{key} {value}" for key, value in identity.items() if value is not None)
    yield Finding("GPU", f"{facts.arch}, {facts.num_sms} SMs: {named}")


def _sandbox() -> Finding:
    from avo_pytest import sandbox
    from avo_pytest.devices.cpu import isolation

    level, explanation = isolation()  # of a running candidate, which asks for more than a compiler
    if level == "child":
        return Finding("sandbox", f"{level}: {explanation}")
    loose = "CPU candidates" if sandbox.level()[0] == "child" else "compilers and CPU candidates"
    return Finding("sandbox", f"{level}: {loose} run unconfined, no promotion", False, explanation)


def _torch() -> Finding:
    version = _version("torch")
    if version is None:
        return Finding("torch", "not installed: no torch baselines", False, "make score TORCH=cpu")
    return Finding("torch", version)


def _kernels(root: Path) -> Iterator[Finding]:
    from avo_pytest.assignment import existing_targets
    from avo_pytest.collection import kernels

    found = kernels(root)
    if not found:
        yield Finding("kernels", f"none under {root.resolve()}", False, "avo new kernel NAME")
    for kernel in found:
        targets = existing_targets(root, kernel)
        yield Finding(f"kernel {kernel}", f"targets {', '.join(targets) or 'none'}", bool(targets))
        yield from _baselines(root, kernel)


def _baselines(root: Path, kernel: str) -> Iterator[Finding]:
    from avo_pytest.loading import load_problem, problem_reference

    try:
        problem = load_problem(problem_reference(kernel, root), root=root)
    except Exception as error:  # a problem is somebody's code: any failure is a finding
        yield Finding(f"problem {kernel}", f"{type(error).__name__}: {error}", False)
        return
    for baseline in problem.baselines:
        reason = baseline.absent()
        yield Finding(
            f"  {baseline.name}",
            f"on {baseline.device}" + (f": {reason}" if reason else ""),
            not reason,
        )


def _calibrations(root: Path) -> Iterator[Finding]:
    """The newest of each kernel, target and set, with its age."""
    from avo_pytest.calibration import Calibration
    from avo_pytest.calibrations import stored

    seen: set[tuple[str, str, str]] = set()
    for path, found in stored(root / ".avo"):
        if not isinstance(found, Calibration):
            yield Finding("calibration", f"{path.name}: {found}", False, f"rm {path}")
            continue
        held = found.conditions
        place = (held.kernel, held.target, held.set)
        if place not in seen:
            seen.add(place)
            yield _calibration(found, root)
    if not seen:
        yield Finding("calibration", "none, so that nothing is promoted", False, "avo calibrate")


def _calibration(found: Calibration, root: Path) -> Finding:
    import datetime

    from avo_pytest.policy import PolicyError, load

    held = found.conditions
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(found.created)
    days = age.total_seconds() / 86400
    try:
        allowed = load(root, "cpu" if held.target == "cpu" else "cuda").calibration_days
    except PolicyError as error:
        return Finding("policy", str(error), False)
    renew = f"avo calibrate {held.kernel} --target {held.target} --set {held.set}"
    return Finding(
        "calibration",
        f"{held.kernel}/{held.target}, set {held.set}: {days:.1f} days old, {held.device}, "
        f"process sd {found.process_sd:.3%}",
        days <= allowed,
        "" if days <= allowed else renew,
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
