# SPDX-License-Identifier: MIT
"""A repository whose kernels nobody runs, and records of them by a machine that never was: what
the recorder sees of a GPU team, in milliseconds. Load it by path.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from avo_pytest import branches, ledger
from avo_pytest import policy as policies
from avo_pytest.branches import Remote
from avo_pytest.entries import Entry
from avo_pytest.harness import harness_hash
from avo_pytest.landing import folder_hash
from avo_pytest.loading import _module
from avo_pytest.policy import Policy
from avo_pytest.promote import Outcome, promote
from avo_pytest.promotion import derive
from avo_pytest.score import Record

HERE = Path(__file__).parent
synthetic = _module(HERE / "synthetic.py")
git = _module(HERE / "promotion_repository.py").git

JUDGE, WITNESS = "NVIDIA H100", "NVIDIA B200"
NONCE = "asked-once"
SMALL = "replicates = 8\nscreen_blocks = 24\nconfirm_blocks = 2"
PROBLEM = """\
from avo_pytest.problem import Configuration, Problem

PAIR = tuple(Configuration(n, {{"s": 1}}, group=n[3:]) for n in ("s1-full", "s2-causal"))
PROBLEM = Problem(
    name="{kernel}", symbols=("s",), specialisable=(), tensors=lambda c: (),
    scalars=lambda c: {{}}, flops=lambda c: 1e12, throughput={{"cuda": {{"mha": PAIR}}}},
    correctness=lambda kind: (Configuration("b1-odd", {{"s": 1}}),),
    draw=lambda generator, base: base, inputs=lambda c, seed: {{}}, oracle=lambda c, g, r: None,
)
"""
GATE = """
[[tool.avo.gates]]
kernel = "{kernel}"
target = "sm80"
device = "{device}"
role = "{role}"
"""


@dataclass(frozen=True)
class Team:
    """A bare repository with `main` and a ledger, and a clone to work in."""

    bare: Path
    desk: Path
    remote: Remote

    def main(self) -> str:
        return git(self.bare, "rev-parse", "main")

    def entries(self) -> list[Entry]:
        return ledger.load(self.bare)

    def proposed(self, kernel: str = "toy", idea: str = "wider tiles", text: str = "") -> str:
        """A commit on top of main that changes the kernel."""
        git(self.desk, "fetch", "-q", "origin", "main")
        git(self.desk, "checkout", "-q", "-f", "--detach", "origin/main")
        source = self.desk / "kernels" / kernel / "sm80" / "kernel.cu"
        source.write_text(text or f"// {secrets.token_hex(8)}\n")
        git(self.desk, "add", "-A")
        git(self.desk, "commit", "-qm", idea)
        return git(self.desk, "rev-parse", "HEAD")

    def promote(self, record: Record, proposal: str | None, **asked: Any) -> Outcome:
        asked = {"role": "judge", "nonce": NONCE, **asked}
        return promote(self.remote, self.desk, record, proposal=proposal, **asked)

    def record(
        self, commit: str, *, kernel: str = "toy", device: str = JUDGE, **changes: Any
    ) -> Record:
        """The verdict of a confirm of a commit against main, begun now."""
        gain, seed = changes.pop("gain", 0.01), changes.pop("seed", 1)
        mode = changes.pop("mode", "confirm")
        rules = self._policy(kernel)
        made = _record(rules, gain, seed, mode)
        repository = self.remote.repository
        trees = {
            "candidate": folder_hash(repository, commit, kernel, "sm80"),
            "incumbent": folder_hash(repository, self.main(), kernel, "sm80"),
        }
        trees["null"] = trees["incumbent"]
        now = datetime.now(UTC).replace(microsecond=0)
        here = {"device": f"{device} 80GB", "uuid": f"GPU-{device}"}
        found = {
            "run": f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}",
            "created": now.isoformat(),
            "kernel": kernel,
            "environment": {**made.environment, **here},
            "replicates": tuple(
                dataclasses.replace(r, environment={**r.environment, **here})
                for r in made.replicates
            ),
            "arms": tuple(dataclasses.replace(a, identity=trees[a.name]) for a in made.arms),
            "calibration": _moved(made.calibration, kernel, f"{device} 80GB", now),
            "nonce": NONCE,
            **changes,
        }
        changed = dataclasses.replace(made, **found)
        key = policies.canonical(rules), kernel, device, gain, seed, mode, *sorted(changes)
        if changes.keys() - {"nonce"} or key not in _derived:
            _derived[key] = derive(changed, rules)
        return dataclasses.replace(changed, derived=_derived[key])

    def _policy(self, kernel: str) -> Policy:
        harness = _harness(self.desk, kernel)
        return dataclasses.replace(
            policies.load(self.desk, "cuda"), set="mha", harness=harness,
            configurations=("s1-full", "s2-causal"),
        )  # fmt: skip

    def seed(self, kernel: str = "toy") -> Record:
        """What main has, measured."""
        made = self.record(self.main(), kernel=kernel)
        arms = tuple(a for a in made.arms if a.role == "candidate")
        samples = tuple(s for s in made.samples if s.arm == "candidate")
        checks = tuple(c for c in made.checks if c.arm == "candidate")
        return dataclasses.replace(
            made, mode="measure", arms=arms, samples=samples, checks=checks, derived={}, plan={},
            policy={}, calibration={}, attempts={},
        )  # fmt: skip


@contextmanager
def team(
    folder: Path, *, kernels: Sequence[str] = ("toy",), witness: bool = False, policy: str = SMALL
) -> Iterator[Team]:
    """`folder/bare.git` with a clone beside it; each kernel has a judge, H100."""
    bare, desk = folder / "bare.git", folder / "desk"
    git(folder, "init", "-q", "--bare", "-b", "main", str(bare))
    git(bare, "config", "receive.denyNonFastForwards", "true")
    git(folder, "clone", "-q", str(bare), str(desk))
    git(desk, "checkout", "-q", "-b", "main")
    for path, text in _files(kernels, witness, policy).items():
        (desk / path).parent.mkdir(parents=True, exist_ok=True)
        (desk / path).write_text(text)
    git(desk, "add", "-A")
    git(desk, "commit", "-qm", "the beginning")
    git(desk, "push", "-q", "origin", "main")
    with branches.opened(desk) as repository:
        remote = Remote(repository, "origin")
        ledger.create(remote, {"README.md": b"results\n"}, [])
        yield Team(bare, desk, remote)


def _files(kernels: Sequence[str], witness: bool, policy: str) -> dict[str, str]:
    files = {"README.md": "a team\n", "pyproject.toml": f"[tool.avo.policy]\n{policy}\n"}
    for kernel in kernels:
        files[f"bench/{kernel}/problem.py"] = PROBLEM.format(kernel=kernel)
        files[f"kernels/{kernel}/sm80/kernel.toml"] = 'target = "sm80"\n'
        files[f"kernels/{kernel}/sm80/kernel.cu"] = "// version 0\n"
        roles = {JUDGE: "judge"} | ({WITNESS: "witness"} if witness else {})
        for device, role in roles.items():
            files["pyproject.toml"] += GATE.format(kernel=kernel, device=device, role=role)
    return files


def _harness(root: Path, kernel: str) -> str:
    key = kernel, (root / "bench" / kernel / "problem.py").read_bytes()
    if key not in _harnesses:
        _harnesses[key] = harness_hash(root, f"bench/{kernel}/problem.py:PROBLEM")
    return _harnesses[key]


_harnesses: dict[tuple[str, bytes], str] = {}
_made: dict[tuple[str, float, int, str], Record] = {}
_derived: dict[tuple[Any, ...], Any] = {}  # which no hash and no date has a part in


def _record(policy: Policy, gain: float, seed: int, mode: str) -> Record:
    key = policies.canonical(policy), gain, seed, mode
    if key not in _made:
        _made[key] = synthetic.record(gain, seed=seed, policy=policy, mode=mode)
    return _made[key]


def _moved(
    calibration: Mapping[str, Any], kernel: str, device: str, now: datetime
) -> dict[str, Any]:
    conditions = {**calibration["conditions"], "kernel": kernel, "device": device}
    return {**calibration, "created": now.isoformat(), "conditions": conditions}
