# SPDX-License-Identifier: MIT
"""The process of a torch baseline on the CPU: trusted, but frozen and timed like a candidate's.

    python -m avo_pytest.devices.torch_arm CHANNEL ROOT PROBLEM BASELINE THREADS

Messages are a letter and a number, answered by the letter: s N (a stage: N bytes of JSON follow,
the tensors' descriptors ride along), f S (refresh stage S, untimed), g S (launch, timed), w S
(write the result out, untimed), x S (forget it).
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avo_pytest import confine
from avo_pytest.problem import BaselineCalls, Configuration, TensorSpec

HEADER = struct.Struct("<cI")
_MAX_TENSORS = 64


def environment(threads: int) -> dict[str, str]:
    """For the process: OpenMP that waits passively, the threads the judge allows, our package."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "0",
        "KMP_BLOCKTIME": "0",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }


def stage_message(number: int, configuration: Configuration, specs: Sequence[TensorSpec]) -> bytes:
    """The message that opens stage `number`; descriptors follow the order of `specs`."""
    fields = asdict(configuration) | {"symbols": dict(configuration.symbols)}
    body = {"number": number, "configuration": fields, "tensors": [asdict(spec) for spec in specs]}
    text = json.dumps(body).encode()
    return HEADER.pack(b"s", len(text)) + text


class _Stage:
    """One configuration: the baseline's calls on tensors over shared memory."""

    def __init__(self, baseline: Any, body: Mapping[str, Any], descriptors: list[int]) -> None:
        tensors, self.output = {}, None
        for raw, fd in zip(body["tensors"], descriptors, strict=True):
            spec = TensorSpec(**{**raw, "shape": tuple(raw["shape"])})
            tensor = _map(spec, fd)
            if spec.role == "input":
                tensors[spec.name] = tensor
            else:
                self.output = tensor
        self.calls: BaselineCalls = baseline.prepare(
            Configuration(**body["configuration"]), tensors
        )
        self.result: Any = None

    def refresh(self) -> None:
        self.result = None
        if self.calls.refresh is not None:
            self.calls.refresh()

    def launch(self) -> None:
        self.result = self.calls.launch()

    def write(self) -> None:
        assert self.output is not None
        self.output.copy_(self.result.reshape(self.output.shape))


def _map(spec: TensorSpec, fd: int) -> Any:
    import torch

    dtypes = {
        "bf16": torch.bfloat16,
        "f16": torch.float16,
        "f32": torch.float32,
        "i32": torch.int32,
    }
    protection = mmap.PROT_READ if spec.role == "input" else mmap.PROT_READ | mmap.PROT_WRITE
    flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    memory = mmap.mmap(fd, max(spec.bytes, 1), flags=flags, prot=protection)
    os.close(fd)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # "the given buffer is not writable": on purpose
        flat = torch.frombuffer(memory, dtype=dtypes[spec.dtype], count=spec.elements)
    return flat.reshape(spec.shape)


def _serve(channel: socket.socket, baseline: Any) -> None:
    stages: dict[int, _Stage] = {}
    while True:
        header, descriptors, _, _ = socket.recv_fds(channel, HEADER.size, _MAX_TENSORS)
        if len(header) < HEADER.size:
            return
        letter, number = HEADER.unpack(header)
        if letter == b"s":
            body = json.loads(_read(channel, number))
            stages[body["number"]] = _Stage(baseline, body, descriptors)
        elif letter == b"f":
            stages[number].refresh()
        elif letter == b"g":
            stages[number].launch()
        elif letter == b"w":
            stages[number].write()
        elif letter == b"x":
            del stages[number]
        channel.sendall(letter)


def _read(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        parts += channel.recv(size - len(parts))
    return bytes(parts)


def main(arguments: list[str]) -> None:
    """Serve one baseline until the channel closes."""
    import torch

    from avo_pytest.loading import load_problem

    confine.die_with_parent()
    fd, root, problem_ref, name, threads = arguments
    torch.set_num_threads(int(threads))
    torch.set_grad_enabled(False)
    problem = load_problem(problem_ref, root=Path(root))
    baseline = next(b for b in problem.baselines if b.name == name)
    if (absent := baseline.absent()) is not None:
        raise RuntimeError(f"baseline {name} is absent: {absent}")
    channel = socket.socket(fileno=int(fd))
    channel.sendall(b"r")
    _serve(channel, baseline)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception:
        traceback.print_exc()
        os._exit(1)  # at once: torch takes its time to take itself down
