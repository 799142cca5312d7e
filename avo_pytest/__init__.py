# SPDX-License-Identifier: MIT
"""avo-pytest: kernels judged by pytest, evolved by commits."""

__version__ = "0.1.0"
