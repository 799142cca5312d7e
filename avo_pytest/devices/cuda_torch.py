# SPDX-License-Identifier: MIT
"""Torch on the worker's stream: baselines, the oracle's view of the inputs, the ceiling probe.

Imports torch when it is first asked for something; everything else in `cuda` works without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
from collections.abc import Mapping
from typing import Any

from avo_pytest.devices.cuda_driver import Context, LaunchRefused
from avo_pytest.problem import Baseline, Configuration, TensorSpec

CEILING_SIZE = 8192
CEILING_LAUNCHES = 5
_TYPESTR = {"bf16": "<i2", "f16": "<f2", "f32": "<f4", "i32": "<i4"}


class TorchSide:
    """Torch set to the worker's device and stream."""

    def __init__(self, context: Context) -> None:
        torch: Any = importlib.import_module("torch")
        self._torch = torch
        self._device = torch.device("cuda", context.ordinal)
        torch.cuda.set_device(self._device)
        stream = torch.cuda.ExternalStream(context.stream_address, device=self._device)
        torch.cuda.set_stream(stream)
        self._matrices: Any = None
        self.emptied = 0

    @staticmethod
    def available() -> bool:
        """Is there a torch that reaches this device?"""
        if importlib.util.find_spec("torch") is None:
            return False
        import torch

        return bool(torch.cuda.is_available())

    def view(self, address: int, spec: TensorSpec) -> Any:
        """The buffer at `address` as a tensor, without a copy."""
        span = _Span(address, spec.shape, _TYPESTR[spec.dtype])
        tensor = self._torch.as_tensor(span, device=self._device)
        return tensor.view(self._torch.bfloat16) if spec.dtype == "bf16" else tensor

    def forget(self) -> None:
        """Give back torch's cached memory: an oracle may have left its results there."""
        self._torch.cuda.synchronize()
        self._torch.cuda.empty_cache()
        self.emptied += 1

    def close(self) -> None:
        """Leave torch on its own stream, without our memory."""
        self._matrices = None
        self._torch.cuda.set_stream(self._torch.cuda.default_stream(self._device))
        self.forget()

    def ceiling(self) -> float:
        """TFLOPS of one BF16 8192-cubed product, median of a few."""
        torch, n = self._torch, CEILING_SIZE
        if self._matrices is None:
            shape = {"dtype": torch.bfloat16, "device": self._device}
            self._matrices = [torch.randn(n, n, **shape) for _ in range(3)]
        a, b, c = self._matrices
        events = [torch.cuda.Event(enable_timing=True) for _ in range(CEILING_LAUNCHES + 2)]
        for event in events:
            torch.mm(a, b, out=c)
            event.record()
        events[-1].synchronize()
        spans = [one.elapsed_time(two) for one, two in zip(events[1:], events[2:], strict=False)]
        return float(2 * n**3 / statistics.median(spans) / 1e9)

    def versions(self) -> dict[str, Any]:
        """Versions for the record."""
        torch = self._torch
        return {
            "torch": torch.__version__,
            "torch_cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }


class BaselineArm:
    """A baseline as a stage's arm: its result is copied to the arm's output once timed."""

    def __init__(
        self,
        side: TorchSide,
        context: Context,
        baseline: Baseline,
        configuration: Configuration,
        inputs: Mapping[str, Any],
        output: Any,
    ) -> None:
        self._side, self._context, self._output = side, context, output
        self.facts: dict[str, float] = {}
        self._poison = 0
        self._result: Any = None
        self._emptied = -1
        try:
            self._calls = baseline.prepare(configuration, inputs)
        except Exception as error:
            raise LaunchRefused(f"cannot prepare: {type(error).__name__}: {error}") from error

    def scrub(self, poison: int) -> None:
        pass

    def prepare(self, poison: int) -> None:
        self._poison = poison
        if self._calls.refresh is not None:
            self._calls.refresh()
        if self._emptied != self._side.emptied:  # else the clock would see torch allocate
            self._wipe(self._call())
            self._emptied = self._side.emptied

    def enqueue(self) -> None:
        self._result = self._call()

    def finish(self) -> None:
        result, self._result = self._result, None
        if tuple(result.shape) != tuple(self._output.shape):
            raise LaunchRefused(
                f"result has shape {tuple(result.shape)}, expected {tuple(self._output.shape)}"
            )
        self._output.copy_(result)
        self._wipe(result)

    def damage(self) -> str | None:
        return None

    def _call(self) -> Any:
        try:
            return self._calls.launch()
        except Exception as error:
            raise LaunchRefused(f"{type(error).__name__}: {error}") from error

    def _wipe(self, result: Any) -> None:
        """Leave no copy of the result in torch's cache for the next arm to find."""
        storage = result.untyped_storage()
        self._context.fill(storage.data_ptr(), storage.nbytes(), self._poison)


class _Span:
    """What torch.as_tensor needs to know of memory that it does not own."""

    def __init__(self, address: int, shape: tuple[int, ...], typestr: str) -> None:
        self.__cuda_array_interface__ = {
            "data": (address, False),
            "shape": shape,
            "typestr": typestr,
            "strides": None,
            "version": 3,
        }
