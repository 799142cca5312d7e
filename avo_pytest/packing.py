# SPDX-License-Identifier: MIT
"""Text compressed so that nothing that it says can change unnoticed, nor a bit that says nothing.

A gzip file ends with a checksum of what was compressed. That says nothing about its own header
(date, system, flags), nor about the bits that fill the last byte of the compressed data: here they
have one value each. The same bytes also have the same header whatever version of Python packs them.
What does not compress, as no text of ours, would be stored with filling bits in between. One thing
is left: a reference to an earlier place may come to point at another copy of the same text.
"""

from __future__ import annotations

import gzip
import zlib

HEADER = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"  # no date, no name, thorough, no system
_SYSTEMS = (3, 255)  # as Python 3.11 wrote it: Unix
_END = 8  # checksum and length


def pack(content: bytes) -> bytes:
    """Compress. The same bytes for the same contents, by one version of zlib."""
    return HEADER + gzip.compress(content, mtime=0)[len(HEADER) :]


def unpack(packed: bytes) -> bytes:
    """What was packed. Raises ValueError for anything that is not as `pack` makes it."""
    head = packed[: len(HEADER)]
    if head[:-1] != HEADER[:-1] or head[-1] not in _SYSTEMS:
        raise ValueError("its gzip header is not as avo writes it")
    content = _inflated(packed)
    last = packed[-_END - 1]
    without = last & ~(1 << (last.bit_length() - 1)) if last else last
    if last and _same(packed[: -_END - 1] + bytes([without]) + packed[-_END:], content):
        raise ValueError("its last bits are not as they were written")
    return content


def _inflated(packed: bytes) -> bytes:
    """Of one member and nothing behind it. Raises ValueError."""
    reader = zlib.decompressobj(wbits=31)
    try:
        content = reader.decompress(packed)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not reader.eof or reader.unused_data:
        raise ValueError("it is cut, or something follows it")
    return content


def _same(packed: bytes, content: bytes) -> bool:
    """Whether a bit that was cleared meant nothing: then it filled the last byte, and was set."""
    try:
        return _inflated(packed) == content
    except ValueError:
        return False
