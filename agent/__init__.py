# SPDX-License-Identifier: MIT
"""The variation operator: `Vary(P_t) = Agent(P_t, K, f)` as a loop that proposes commits."""
