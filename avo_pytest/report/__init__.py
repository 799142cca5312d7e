# SPDX-License-Identifier: MIT
"""Records made readable."""
