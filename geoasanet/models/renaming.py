"""Names of weights, from one code's to another's."""

from __future__ import annotations

import re
from collections.abc import Sequence

Rules = Sequence[tuple[str, str]]
"""Regular expressions and what replaces their matches, in order."""


def rename(rules: Rules, key: str) -> str:
    """Return ``key`` after every replacement in order."""
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key
