# SPDX-License-Identifier: MIT
"""Tensor maps with numbers: what the hardware demands of a tiled descriptor; the view's bounds."""

from __future__ import annotations

import itertools

from avo_pytest.evaluation import Point
from avo_pytest.plan import TensorMap
from avo_pytest.problem import BYTES_OF_DTYPE
from avo_pytest.specification import TensorMapSpec

_ALIGNMENT = 16  # bytes: of strides, of the view's start, of the inner box
_DIMENSION = range(1, 2**32 + 1)
_BOX = range(1, 257)
_ELEMENT_STRIDE = range(1, 9)
_STRIDE_BYTES = 2**40


def resolve(point: Point, name: str, spec: TensorMapSpec) -> TensorMap:
    """The descriptor of one configuration. Raises ManifestError with key, value and limit."""
    source, dtype, capacity = _source(point, spec)
    size = BYTES_OF_DTYPE[dtype]
    dims = _integers(point, f"{spec.key}.dims", spec.dims, _DIMENSION)
    strides = _strides(point, spec, dims)
    tensor_map = TensorMap(
        name=name,
        source=source,
        dtype=dtype,
        offset_bytes=size * point.integer(f"{spec.key}.offset", spec.offset, range(capacity)),
        dims=dims,
        strides_bytes=tuple(size * stride for stride in strides),
        box=_integers(point, f"{spec.key}.box", spec.box, _BOX),
        element_strides=_integers(
            point,
            f"{spec.key}.element_strides",
            spec.element_strides or (1,) * len(dims),
            _ELEMENT_STRIDE,
        ),
        swizzle=spec.swizzle,
        interleave=0,
        l2_promotion=spec.l2_promotion,
        oob_fill=spec.oob_fill,
    )
    _check_alignment(point, spec, tensor_map)
    _check_box(point, spec, tensor_map, size)
    _check_bounds(point, spec, tensor_map, capacity * size, size)
    return tensor_map


def _source(point: Point, spec: TensorMapSpec) -> tuple[str, str, int]:
    """Name, dtype and capacity in elements of what the map lies over."""
    if spec.tensor is not None:
        tensor = point.tensors[spec.tensor]
        return tensor.name, tensor.dtype, tensor.elements
    assert spec.workspace is not None and spec.dtype is not None  # by the rules
    workspace = point.variant.workspaces[spec.workspace]
    size = point.integer(f"{workspace.key}.bytes", workspace.bytes, range(1, 2**40))
    return spec.workspace, spec.dtype, size // BYTES_OF_DTYPE[spec.dtype]


def _integers(
    point: Point, key: str, expressions: tuple[int | str, ...], within: range
) -> tuple[int, ...]:
    return tuple(point.integer(f"{key}[{i}]", e, within) for i, e in enumerate(expressions))


def _strides(point: Point, spec: TensorMapSpec, dims: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of dimensions 1 and up, in elements; dense by default."""
    if spec.strides is None:
        return tuple(itertools.accumulate(dims[:-1], lambda a, b: a * b))
    return _integers(point, f"{spec.key}.strides", spec.strides, range(1, _STRIDE_BYTES))


def _check_alignment(point: Point, spec: TensorMapSpec, tensor_map: TensorMap) -> None:
    for i, stride in enumerate(tensor_map.strides_bytes):
        if stride % _ALIGNMENT or stride >= _STRIDE_BYTES:
            reason = f"{stride} bytes: a stride is a multiple of {_ALIGNMENT} bytes below 2^40"
            raise point.error(f"{spec.key}.strides[{i}]", reason)
    if tensor_map.offset_bytes % _ALIGNMENT:
        reason = f"{tensor_map.offset_bytes} bytes: an offset is a multiple of {_ALIGNMENT} bytes"
        raise point.error(f"{spec.key}.offset", reason)


def _check_box(point: Point, spec: TensorMapSpec, tensor_map: TensorMap, size: int) -> None:
    key, inner = f"{spec.key}.box[0]", tensor_map.box[0] * size
    if inner % _ALIGNMENT:
        raise point.error(key, f"{inner} bytes: the inner box is a multiple of {_ALIGNMENT} bytes")
    if tensor_map.swizzle and inner > tensor_map.swizzle:
        most = tensor_map.swizzle // size
        reason = f"{inner} bytes: with swizzle {tensor_map.swizzle} at most {most} elements fit"
        raise point.error(key, reason)
    if tensor_map.oob_fill == "nan" and tensor_map.dtype not in ("bf16", "f16", "f32"):
        raise point.error(
            f"{spec.key}.oob_fill", f"nan needs a floating dtype, not {tensor_map.dtype}"
        )


def _check_bounds(
    point: Point, spec: TensorMapSpec, tensor_map: TensorMap, capacity: int, size: int
) -> None:
    """The last byte that the view can touch must lie inside the tensor or workspace."""
    strides = (size, *tensor_map.strides_bytes)
    steps = sum((d - 1) * s for d, s in zip(tensor_map.dims, strides, strict=True))
    end = tensor_map.offset_bytes + steps + size
    if end > capacity:
        reason = f"the view ends at byte {end}, but {tensor_map.source} has {capacity}"
        raise point.error(f"{spec.key}.dims", reason)
