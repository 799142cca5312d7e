# SPDX-License-Identifier: MIT
"""A machine that scores: what is set up on it, and how it meets GitHub without holding a token."""
