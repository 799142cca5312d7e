# SPDX-License-Identifier: MIT
"""An exception as one sentence for people; beside `printable`, which the judge needs too."""

from __future__ import annotations


def sentence(error: Exception) -> str:
    """What went wrong; of a file its name and why, without the number of the error."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    return str(error)
