# SPDX-License-Identifier: MIT
"""As much of the ELF format as judging a cubin needs: sections, symbols, kernel parameters."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SYMBOL_TABLE = 2
_NOBITS = 8
_FUNCTION = 2
_ENTRY = 0x10  # st_other of a __global__ function
_PARAMETER = (4, 0x17)  # format and number of .nv.info's KPARAM_INFO


class ElfError(ValueError):
    """Not a 64-bit little-endian ELF file, or one whose tables point outside it."""


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    size: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Symbol:
    name: str
    defined: bool
    entry: bool


@dataclass(frozen=True, slots=True)
class Elf:
    """A parsed file. `parameters` maps a kernel to the sizes of its parameters in bytes."""

    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]

    @property
    def entries(self) -> frozenset[str]:
        """The kernels that can be launched."""
        return frozenset(s.name for s in self.symbols if s.entry and s.defined)

    @property
    def undefined(self) -> tuple[str, ...]:
        """Names that the driver would have to provide, but for its own bookkeeping."""
        missing = (s.name for s in self.symbols if not s.defined and s.name)
        return tuple(name for name in missing if not name.startswith(".nv."))

    def section(self, name: str) -> Section | None:
        return next((s for s in self.sections if s.name == name), None)

    def parameters(self, kernel: str) -> list[int]:
        """The sizes of a kernel's parameters, in order."""
        section = self.section(f".nv.info.{kernel}")
        sizes = dict(_parameters(section.content)) if section else {}
        return [sizes[i] for i in sorted(sizes)]


def parse(image: bytes) -> Elf:
    """Read the tables of a cubin. Raises ElfError."""
    if image[:6] != b"\x7fELF\x02\x01":
        raise ElfError("not a 64-bit little-endian ELF file")
    try:
        (table,) = struct.unpack_from("<Q", image, 0x28)
        size, count, names = struct.unpack_from("<HHH", image, 0x3A)
        headers = [struct.unpack_from("<IIQQQQIIQQ", image, table + i * size) for i in range(count)]
        text = headers[names][4]
        sections = tuple(
            Section(_string(image, text + h[0]), h[5], b"" if h[1] == _NOBITS else _slice(image, h))
            for h in headers
        )
        symbols = tuple(
            s for h in headers if h[1] == _SYMBOL_TABLE for s in _symbols(image, h, headers)
        )
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise ElfError(f"damaged ELF file: {error}") from None
    return Elf(sections, symbols)


def _symbols(
    image: bytes, header: tuple[int, ...], headers: list[tuple[int, ...]]
) -> Iterator[Symbol]:
    text = headers[header[6]][4]
    for offset in range(header[4], header[4] + header[5], 24):
        name, kind, other, section = struct.unpack_from("<IBBH", image, offset)
        entry = kind & 15 == _FUNCTION and bool(other & _ENTRY)
        yield Symbol(_string(image, text + name), section != 0, entry)


def _parameters(content: bytes) -> Iterator[tuple[int, int]]:
    """(ordinal, bytes) of each KPARAM_INFO record of an .nv.info section."""
    at = 0
    while at + 4 <= len(content):
        form, attribute, size = struct.unpack_from("<BBH", content, at)
        at += 4
        if (form, attribute) == _PARAMETER:
            _, ordinal, _, packed = struct.unpack_from("<IHHI", content, at)
            yield ordinal, packed >> 18
        if form == 4:  # the value follows
            at += size


def _slice(image: bytes, header: tuple[int, ...]) -> bytes:
    offset, size = header[4], header[5]
    if offset + size > len(image):
        raise ValueError("a section ends after the file")
    return image[offset : offset + size]


def _string(image: bytes, at: int) -> str:
    return image[at : image.index(b"\0", at)].decode()
