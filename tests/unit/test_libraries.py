# SPDX-License-Identifier: MIT
"""What a CPU candidate's process may load is enough for C++ and not much more."""

from __future__ import annotations

import sys

import pytest

from avo_pytest.devices.libraries import FOLDERS, standard_libraries

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


def test_files_or_where_they_cannot_be_told_apart_folders() -> None:
    found = standard_libraries()
    files = [path for path in found if path.is_file()]
    if {str(path) for path in found} >= set(FOLDERS):
        pytest.skip("no C library by a usual name here")
    assert any(path.name.startswith("libc.") for path in files)
    assert not [path for path in found if path.is_dir()] and len(found) < 60
