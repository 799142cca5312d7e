# SPDX-License-Identifier: MIT
"""The inputs of one configuration on a GPU: written by the host or made anew for each launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from avo_pytest import inputs
from avo_pytest.devices.cuda_driver import Context
from avo_pytest.devices.cuda_memory import Buffer
from avo_pytest.devices.cuda_torch import TorchSide
from avo_pytest.devices.cuda_trusted import Trusted
from avo_pytest.problem import Configuration, Problem, TensorSpec

_NUMPY = {"bf16": np.uint16, "f16": np.float16, "f32": np.float32, "i32": np.int32}


class Inputs:
    """Buffers and contents. The quantile tables that `refresh` reads are checked for changes."""

    def __init__(
        self,
        context: Context,
        trusted: Trusted,
        problem: Problem,
        configuration: Configuration,
        allocate: Callable[[str, int], Buffer],
    ) -> None:
        self._context, self._trusted = context, trusted
        tensors = problem.tensors(configuration)
        self.specs = {spec.name: spec for spec in tensors if spec.role == "input"}
        self.buffers = {name: allocate(name, spec.bytes) for name, spec in self.specs.items()}
        scale = problem.input_scale(configuration)
        self._scales = {name: float(scale.get(name, 1.0)) for name in self.specs}
        self._values = {scale: inputs.table(scale) for scale in set(self._scales.values())}
        self._tables: dict[float, Buffer] = {}
        for scale_, values in self._values.items():
            self._tables[scale_] = allocate("the input table", values.nbytes)
            context.to_device(self._tables[scale_].address, values)

    @property
    def addresses(self) -> dict[str, int]:
        """Where each input is."""
        return {name: buffer.address for name, buffer in self.buffers.items()}

    @property
    def guarded(self) -> list[Buffer]:
        """Everything that has canaries."""
        return [*self.buffers.values(), *self._tables.values()]

    def write(self, contents: Mapping[str, Any]) -> None:
        """Given contents, from the host."""
        for name, spec in self.specs.items():
            array = np.ascontiguousarray(contents[name])
            if array.nbytes != spec.bytes:
                raise ValueError(f"{name}: {array.nbytes} bytes given, the tensor has {spec.bytes}")
            self._context.to_device(self.buffers[name].address, array)

    def refresh(self, seed: bytes, key: int) -> None:
        """Enqueue the contents of `key`; bitwise those of `inputs.fill`."""
        for name, spec in self.specs.items():
            if spec.dtype != "bf16":
                raise ValueError(f"tensor {name}: fast inputs are bf16 only, not {spec.dtype}")
            start = inputs.base(seed, key, name)
            table = self._tables[self._scales[name]].address
            self._trusted.refresh(self.buffers[name].address, spec.elements, start, table)

    def arrays(self, side: TorchSide | None) -> dict[str, Any]:
        """As they stand: torch tensors over the buffers, or host copies without torch."""
        if side is not None:
            return {n: side.view(self.buffers[n].address, s) for n, s in self.specs.items()}
        return {name: self._copy(spec) for name, spec in self.specs.items()}

    def damage(self) -> str | None:
        """None, or that a launch changed what the inputs are made from."""
        for scale, table in self._tables.items():
            found = np.empty_like(self._values[scale])
            self._context.to_host(found, table.address)
            if not np.array_equal(found, self._values[scale]):
                return "changed the table from which the inputs are made"
        return None

    def _copy(self, spec: TensorSpec) -> Any:
        array = np.empty(spec.shape, _NUMPY[spec.dtype])
        self._context.to_host(array, self.buffers[spec.name].address)
        return array
