# SPDX-License-Identifier: MIT
"""Secrets are taken out of a text before it is sent, kept or shown.

What looks like a key by its form, and the values of environment variables named like one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

MARK = "[redacted]"
_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|COOKIE|AUTHORIZATION", re.IGNORECASE)
_SHORTEST = 8  # shorter values are words that occur by themselves
_FORMS = re.compile(
    r"""(?<![\w-])sk-[A-Za-z0-9_-]{16,}                     # Anthropic and alike
    | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{20,}       # GitHub
    | glpat-[\w-]{16,} | xox[abprs]-[\w-]{10,} | hf_[A-Za-z0-9]{20,}
    | (?:AKIA|ASIA)[A-Z0-9]{16}
    | eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}              # a JSON web token
    | -----BEGIN[ A-Z]*PRIVATE\ KEY-----[\s\S]*?(?:-----END[ A-Z]*PRIVATE\ KEY-----|\Z)
    | (?<=://)[^\s/:@]+:[^\s/@]+(?=@)                       # user:password@ of an address
    | (?i:(?<=bearer\ )|(?<=basic\ ))[\w.~+/=-]{8,}
    | (?i:(?<=x-api-key:)|(?<=authorization:))\s*[^\s'"]{8,}
    """,
    re.VERBOSE,
)


class Redactor:
    """Replaces secrets by `[redacted]` in texts and in whatever is made of them."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        longest_first = sorted({v for v in values if len(v) >= _SHORTEST}, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] | None = None) -> Redactor:
        """One that knows the values of variables whose name says that they are secret."""
        found = os.environ if environment is None else environment
        return cls(value for name, value in found.items() if _NAMES.search(name))

    def text(self, text: str) -> str:
        """The text without secrets."""
        return _FORMS.sub(MARK, self._values.sub(MARK, text))

    def value(self, value: Any) -> Any:
        """The same of every text inside a JSON value, but for a thinking block's signature."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {k: v if k == "signature" else self.value(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value
