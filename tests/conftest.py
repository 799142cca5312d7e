# SPDX-License-Identifier: MIT
"""What property-based tests draw: the same examples each time, others in `make soak`."""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.register_profile("drawn", deadline=None, print_blob=True)
settings.load_profile("fixed")
