# SPDX-License-Identifier: MIT
"""Who takes part: builds candidate and incumbent, lists the baselines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from avo_pytest.assignment import Assignment, RequestError
from avo_pytest.build import Artifact, AskDriver, BuildError, MachineError, build
from avo_pytest.devices import scenarios, scripts
from avo_pytest.draw import Point
from avo_pytest.identity import tree_hash
from avo_pytest.manifest import ManifestError
from avo_pytest.run import Run
from avo_pytest.score import NO_INCUMBENT, ArmRecord
from avo_pytest.source import GitFault, Source, SourceError, find_candidate, find_incumbent


def candidate_source(run: Run, scratch: Path) -> Source:
    """The candidate's folder. Raises RequestError."""
    assignment, request = run.assignment, run.assignment.request
    try:
        return find_candidate(
            request.root, request.kernel, assignment.target, request.candidate, scratch
        )
    except SourceError as error:
        raise RequestError(f"candidate: {error}") from error


def incumbent_source(run: Run, scratch: Path) -> Source | None:
    """The incumbent's folder; None, with a note, where there is none. Raises RequestError, also
    where a verdict is asked for and there is nothing to compare with."""
    assignment, request = run.assignment, run.assignment.request
    source, why = None, ""
    try:
        source = find_incumbent(
            request.root, request.kernel, assignment.target, request.incumbent, scratch
        )
    except SourceError as error:
        if request.incumbent is not None or not isinstance(error, GitFault):
            raise RequestError(f"incumbent: {error}") from error
        why = f" ({error})"
    if source is None and request.mode in ("screen", "confirm"):
        raise RequestError(
            f"--avo-mode {request.mode} needs an incumbent, and there is none{why}: commit "
            f"kernels/{request.kernel}/{assignment.target} to main, or name a folder or git "
            "reference with --avo-incumbent"
        )
    if source is None:
        calibrating = request.mode == "calibrate"
        done = "the working tree is calibrated" if calibrating else "measuring against baselines"
        run.note(f"{NO_INCUMBENT}{why}: {done}")
    return source


def assemble(run: Run, candidate: Source, incumbent: Source | None, points: list[Point]) -> None:
    """Build the judged arms and append all arms to the run. A candidate that does not build sets
    `run.failure`; an incumbent that does not is left out with a note. Raises RequestError."""
    try:
        with _building(run, candidate, incumbent, points):
            _add_candidate(run, candidate, points)
        if run.assignment.decides:
            _add_opponents(run, incumbent or candidate, points)
        elif incumbent is not None:
            _add_incumbent(run, candidate, incumbent, points)
    except MachineError as error:
        raise RequestError(str(error)) from error
    _add_twin(run)
    for baseline in run.assignment.baselines:
        run.arms.append({"name": baseline.name, "role": "baseline"})
        run.arm_records.append(ArmRecord(name=baseline.name, role="baseline", dtype=baseline.dtype))


@contextlib.contextmanager
def _building(
    run: Run, candidate: Source, incumbent: Source | None, points: list[Point]
) -> Iterator[None]:
    """The incumbent's code, if it is another, is compiled beside the candidate's, into the cache;
    what is wrong with it is said when its turn comes."""
    scripted = run.assignment.target == scenarios.DEVICE
    with ThreadPoolExecutor(1) as pool:
        if incumbent and not scripted and _identity(incumbent) != _identity(candidate):
            pool.submit(_built, run, incumbent, points)
        yield


def _add_candidate(run: Run, source: Source, points: list[Point]) -> None:
    try:
        _append(run, "candidate", source, _build(run, "candidate", source, points))
    except MachineError:
        raise
    except (BuildError, ManifestError, OSError) as error:
        run.failure = str(error)
        _append(run, "candidate", source, None)


def _add_incumbent(run: Run, candidate: Source, source: Source, points: list[Point]) -> None:
    try:
        if tree_hash(source.path) == tree_hash(candidate.path):
            run.note(f"the candidate is what {source.label} has: measuring against baselines")
            return
        _append(run, "incumbent", source, _build(run, "incumbent", source, points))
    except MachineError:
        raise
    except (BuildError, ManifestError, OSError) as error:
        run.note(f"the incumbent ({source.label}) does not build and is left out: {error}")


def _add_opponents(run: Run, source: Source, points: list[Point]) -> None:
    """Incumbent and null twin: the incumbent's code, loaded twice. Raises RequestError."""
    try:
        artifact = _build(run, "incumbent", source, points)
    except MachineError:
        raise
    except (BuildError, ManifestError, OSError) as error:
        raise RequestError(f"the incumbent ({source.label}) does not build: {error}") from error
    for role in ("incumbent", "null"):
        _append(run, role, source, artifact)


def _add_twin(run: Run) -> None:
    """The candidate's own code loaded a second time: any difference between the two is noise."""
    if run.assignment.request.twin and run.arms:
        first = run.arm_records[0]
        run.arms.append({**run.arms[0], "name": "twin", "role": "null"})
        run.arm_records.append(replace(first, name="twin", role="null"))


def _append(run: Run, role: str, source: Source, artifact: Artifact | None) -> None:
    run.arm_records.append(
        ArmRecord(
            name=role,
            role=role,
            dtype=run.output_dtype,
            identity=_identity(source),
            artifact=artifact.hash if artifact else "",
        )
    )
    if artifact is not None:
        run.build_report[role] = dict(artifact.report)
        run.arms.append({"name": role, "role": role, "artifact": str(artifact.path)})


def _identity(source: Source) -> str:
    """Of the folder, built or not: a verdict on what does not compile is about that folder, too."""
    try:
        return tree_hash(source.path)
    except OSError:  # links, special files, too many or too large ones
        return ""


def _build(run: Run, role: str, source: Source, points: list[Point]) -> Artifact:
    run.stage(f"building the {role} ({source.label})")
    return _built(run, source, points)


def _built(run: Run, source: Source, points: list[Point]) -> Artifact:
    assignment = run.assignment
    if assignment.target == scenarios.DEVICE:
        return scripts.build(source.path, assignment.problem.name, run.home / "cache")
    configurations = [p.configuration for p in points] + list(assignment.throughput)
    artifact = build(
        source.path,
        assignment.problem,
        configurations,
        assignment.facts,
        run.home / "cache",
        ask_driver=_occupancy(assignment),
    )
    if artifact.target != assignment.target:
        wrong = f"target {artifact.target!r}, but {assignment.target!r} is judged"
        raise BuildError(f"{source.path / 'kernel.toml'}: {wrong}")
    return artifact


def _occupancy(assignment: Assignment) -> AskDriver | None:
    """Who answers `max_active_blocks`: a child with a driver, for the judge has no context."""
    if assignment.kind == "cpu":
        return None
    from avo_pytest.devices.cuda_occupancy import ask_driver

    return ask_driver(assignment.index)
