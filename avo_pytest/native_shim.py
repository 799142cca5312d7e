# SPDX-License-Identifier: MIT
"""The C++ around a CPU candidate's function, generated from the manifest.

The device calls `avo_entry(void* const* arguments)`: for a tensor or workspace the argument is its
address, for anything else the address of its value. The function is declared as the manifest says
before its source is included, so that another signature does not compile.
"""

from __future__ import annotations

from collections.abc import Mapping

from avo_pytest.plan import Argument, Launch
from avo_pytest.problem import TensorSpec

ENTRY = "avo_entry"
_ELEMENT = {"bf16": "uint16_t", "f16": "uint16_t", "f32": "float", "i32": "int32_t"}
_SCALAR = {"i32": "int32_t", "u32": "uint32_t", "i64": "int64_t", "f32": "float"}


def shim(source: str, launch: Launch, tensors: Mapping[str, TensorSpec]) -> str:
    """The translation unit: the candidate's source and avo_entry. The source itself may export
    `avo_parallel`, nothing else (devices/native/team.h)."""
    types = [_type(argument, tensors) for argument in launch.arguments]
    values = [
        f"({type_})arguments[{i}]" if type_.endswith("*") else f"*(const {type_}*)arguments[{i}]"
        for i, type_ in enumerate(types)
    ]
    return (
        "#include <stdint.h>\n"
        f'extern "C" void {launch.function}({", ".join(types)});\n'
        f'#include "{source}"\n'
        'extern "C" __attribute__((visibility("default")))\n'
        f"void {ENTRY}(void* const* arguments) {{\n"
        f"    {launch.function}({', '.join(values)});\n"
        "}\n"
    )


def _type(argument: Argument, tensors: Mapping[str, TensorSpec]) -> str:
    if argument.kind == "tensor":
        spec = tensors[argument.name]
        return f"{'const ' if spec.role == 'input' else ''}{_ELEMENT[spec.dtype]}*"
    return "void*" if argument.kind == "workspace" else _SCALAR[argument.type or ""]
