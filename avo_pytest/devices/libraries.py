# SPDX-License-Identifier: MIT
"""What a C++ program is loaded from, file by file: a candidate may read these and no others.

A folder of libraries would also hold somebody else's kernels, ready to be opened at run time.
"""

from __future__ import annotations

import functools
from pathlib import Path

FOLDERS = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib64")
CACHE = "/etc/ld.so.cache"
_PLACES = ("", "*-linux-gnu*/", "*-linux-musl*/")
_NAMES = (
    *(
        "ld-linux*.so.*",
        "ld64.so.*",
        "ld-musl-*.so.1",
        "libc.so.6",
        "libc.musl-*.so.1",
        "libm.so.6",
    ),
    *("libmvec.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libgcc_s.so.1"),
    *("libstdc++.so.6", "libc++.so.1", "libc++abi.so.1", "libunwind.so.1", "libatomic.so.1"),
)


@functools.cache
def standard_libraries() -> tuple[Path, ...]:
    """The loader, the C and C++ libraries; whole folders where they cannot be told apart."""
    folders = [Path(folder) for folder in (*FOLDERS, "/usr/local/lib", "/usr/local/lib64")]
    found = {
        path.resolve()
        for folder in folders
        if folder.is_dir()
        for place in _PLACES
        for name in _NAMES
        for path in folder.glob(f"{place}{name}")
    }
    if not any(path.name.startswith("libc.") for path in found):
        return (*map(Path, FOLDERS), Path(CACHE))
    return (*sorted(found), Path(CACHE))
