# SPDX-License-Identifier: MIT
"""The gate: what the jobs of gate.yml do, one module a job, each to be run by hand (`avo ci`)."""
