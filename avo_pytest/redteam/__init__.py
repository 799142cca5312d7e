# SPDX-License-Identifier: MIT
"""The red team: cheating candidates that the judge must catch, honest ones it must not refuse."""
