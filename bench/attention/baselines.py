# SPDX-License-Identifier: MIT
"""Outside implementations of attention to compare with, and why one may be absent."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from avo_pytest.problem import Baseline, BaselineCalls, Configuration, DeviceKind


def _sdpa(backend: str | None, *, single: bool = False) -> Callable[..., BaselineCalls]:
    """torch's scaled_dot_product_attention on (batch, heads, seq, head_dim) views."""

    def prepare(c: Configuration, given: Mapping[str, Any]) -> BaselineCalls:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        own = {n: given[n].float() if single else given[n] for n in "qkv"}
        q, k, v = (own[n].transpose(1, 2) for n in "qkv")
        chosen = None if backend is None else getattr(SDPBackend, backend)
        options = {
            "is_causal": bool(c["causal"]),
            "scale": c["head_dim"] ** -0.5,
            "enable_gqa": c["group"] > 1,
        }

        def launch() -> Any:
            with nullcontext() if chosen is None else sdpa_kernel(chosen):
                return torch.nn.functional.scaled_dot_product_attention(
                    q, k, v, **options
                ).transpose(1, 2)

        def refresh() -> None:
            for name in "qkv":
                own[name].copy_(given[name])

        return BaselineCalls(launch, refresh if single else None)

    return prepare


def _flash_attention(module: str) -> Callable[..., BaselineCalls]:
    """`flash_attn_func` of FlashAttention-3 or -4: our layout as it is."""

    def prepare(c: Configuration, given: Mapping[str, Any]) -> BaselineCalls:
        function = importlib.import_module(module).flash_attn_func
        q, k, v = (given[n] for n in "qkv")

        def launch() -> Any:
            result = function(
                q, k, v, softmax_scale=c["head_dim"] ** -0.5, causal=bool(c["causal"])
            )
            return result[0] if isinstance(result, tuple) else result

        return BaselineCalls(launch)

    return prepare


def _absent(
    device: DeviceKind, module: str = "torch", majors: tuple[int, ...] = ()
) -> Callable[[], str | None]:
    """None, or why a baseline cannot run here."""

    def absent() -> str | None:
        for needed in ("torch", module):
            try:
                found = importlib.util.find_spec(needed)
            except ImportError:
                found = None  # a parent package is missing
            if found is None:
                return f"{needed} is not installed"
        if device == "cpu":
            return None
        import torch

        if not torch.cuda.is_available():
            return "torch sees no CUDA device"
        major, minor = torch.cuda.get_device_capability()
        if majors and major not in majors:
            return f"{module} has no code for compute capability {major}.{minor}"
        return None

    return absent


_FA3, _FA4 = "fa3_fwd_interface", "flash_attn.cute"
BASELINES = (
    Baseline("torch-sdpa-bf16", "bf16", "cpu", _absent("cpu"), _sdpa(None)),
    Baseline("torch-sdpa-fp32", "f32", "cpu", _absent("cpu"), _sdpa(None, single=True)),
    Baseline("torch-flash", "bf16", "cuda", _absent("cuda"), _sdpa("FLASH_ATTENTION")),
    Baseline("torch-cudnn", "bf16", "cuda", _absent("cuda"), _sdpa("CUDNN_ATTENTION")),
    Baseline("fa3", "bf16", "cuda", _absent("cuda", _FA3, (8, 9)), _flash_attention(_FA3)),
    Baseline("fa4", "bf16", "cuda", _absent("cuda", _FA4, (9, 10, 11)), _flash_attention(_FA4)),
)
