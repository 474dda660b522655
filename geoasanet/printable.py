"""Text from anywhere, such as names of files and classes, made fit for terminals, pages and messages."""

from __future__ import annotations

import html
import unicodedata

_UNPRINTABLE = {"Cc", "Cf", "Cs"}
"""Unicode's control characters, marks without a glyph, and halves of characters."""
_HARMLESS = "\n\t\u200c\u200d\u00ad"
"""Those of them that belong into text: line breaks, tabs, joiners of letters, soft hyphens."""


def printable(text: str) -> str:
    """Return text without what would act on a terminal.

    Control characters, marks that turn the direction of writing, and bytes that are no text become "?".
    """
    return "".join("?" if unicodedata.category(c) in _UNPRINTABLE and c not in _HARMLESS else c for c in text)


def escape(text: str) -> str:
    """Return text as it is written in HTML, between tags or in a quoted attribute."""
    return html.escape(printable(text))


def one_line(error: Exception, most: int = 200) -> str:
    """Return what an error of a library says, in one line of at most ``most`` characters."""
    return printable(" ".join(str(error).split()))[:most] or type(error).__name__
