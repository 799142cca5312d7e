# SPDX-License-Identifier: MIT
"""One planned arm on the device: code, workspaces, tensor maps and launches, ready to enqueue."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from avo_pytest.devices.cuda_driver import Context, LaunchRefused
from avo_pytest.devices.cuda_launch import Code, PreparedLaunch
from avo_pytest.devices.cuda_memory import Buffer
from avo_pytest.devices.cuda_tensor_map import encode
from avo_pytest.plan import LaunchPlan

SETUP_TIMEOUT_S = 30.0


class PlannedArm:
    """A candidate or incumbent: code and plan. `set_up` must run once before the first launch."""

    def __init__(
        self,
        *,
        context: Context,
        code: Code,
        plan: LaunchPlan,
        tensors: Mapping[str, int],
        allocate: Callable[[str, int], Buffer],
    ) -> None:
        self._context, self._plan = context, plan
        self.buffers = {w.name: allocate(w.name, w.bytes) for w in plan.workspaces}
        addresses = dict(tensors) | {name: b.address for name, b in self.buffers.items()}
        maps = {m.name: encode(m, addresses[m.source]) for m in plan.tensor_maps}
        self._refuse_bad_phases(frozenset(tensors))
        prepared = [
            (launch.phase, PreparedLaunch(context, code, launch, addresses, maps))
            for launch in plan.launches
        ]
        self._setup = [one for phase, one in prepared if phase == "setup"]
        self._run = [one for phase, one in prepared if phase == "run"]
        self._kept: dict[str, NDArray[np.uint8]] = {}  # here, where no launch can reach it
        self.facts: dict[str, float] = {}

    def set_up(self) -> None:
        """Zero the workspaces, run the setup launches, note what `restored` ones then hold."""
        begun = time.perf_counter()
        for buffer in self.buffers.values():
            self._context.fill(buffer.address, buffer.bytes, 0)
        for launch in self._setup:
            launch.enqueue()
        self._context.wait(timeout_s=SETUP_TIMEOUT_S)
        if self._setup:
            self.facts["setup_ms"] = (time.perf_counter() - begun) * 1e3
        self._kept = {name: self._contents(name) for name in self._names("restored")}

    def scrub(self, poison: int) -> None:
        for name in self._names("scratch") + self._names("zeroed"):
            self._context.fill(self.buffers[name].address, self.buffers[name].bytes, poison)

    def prepare(self, poison: int) -> None:
        pass

    def enqueue(self) -> None:
        for name in self._names("zeroed"):
            self._context.fill(self.buffers[name].address, self.buffers[name].bytes, 0)
        for launch in self._run:
            launch.enqueue()

    def finish(self) -> None:
        pass

    def damage(self) -> str | None:
        for name, kept in self._kept.items():
            if not np.array_equal(self._contents(name), kept):
                return f"changed the restored workspace {name!r} after setup"
        return None

    def _names(self, kind: str) -> list[str]:
        return [w.name for w in self._plan.workspaces if w.kind == kind]

    def _contents(self, name: str) -> NDArray[np.uint8]:
        contents = np.empty(self.buffers[name].bytes, np.uint8)
        self._context.to_host(contents, self.buffers[name].address)
        return contents

    def _refuse_bad_phases(self, tensors: frozenset[str]) -> None:
        """A setup launch that saw a tensor could keep its contents; an early launch could start
        before the clock."""
        sources = {m.name: m.source for m in self._plan.tensor_maps}
        run = [launch for launch in self._plan.launches if launch.phase == "run"]
        if not run:
            raise LaunchRefused("the plan has no run launch")
        if run[0].programmatic:
            raise LaunchRefused(f"{run[0].function}: the first run launch cannot be programmatic")
        for launch in self._plan.launches:
            for argument in launch.arguments if launch.phase == "setup" else ():
                if sources.get(argument.name, argument.name) in tensors:
                    raise LaunchRefused(
                        f"{launch.function}: a setup launch takes no tensor ({argument.name})"
                    )
