# SPDX-License-Identifier: MIT
"""What property-based tests draw: the same examples each time, others in `make soak`.

A score reads this file too, where what the tests need is not installed.
"""

from importlib.util import find_spec

if find_spec("hypothesis") is not None:
    from hypothesis import settings

    settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
    settings.register_profile("drawn", deadline=None, print_blob=True)
    settings.load_profile("fixed")
