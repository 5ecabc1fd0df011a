"""Texts as QuickBooks sends them: what is text, and what of it can be shown."""

import unicodedata
from collections.abc import Mapping


def as_text(value: object) -> str:
    """Return a value as text; ``""`` for a list or an object, which has no text of its own."""
    if type(value) is str:  # by far the most common case, and the checks below are slow
        return value
    return "" if value is None or isinstance(value, Mapping | list) else str(value)


def printable(text: str) -> str:
    """Return text without control characters; line ends, page breaks and tabs become blanks."""
    if text.isprintable():
        return text
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp"):
        return character
    return " " if character.isspace() else ""
