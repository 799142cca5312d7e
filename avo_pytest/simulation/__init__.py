# SPDX-License-Identifier: MIT
"""Streams of simulated candidates before the real rule: how often it errs, what it finds."""
