"""Fill templates such as ``"{BillAddr.Line1}, {BillAddr.PostalCode} {BillAddr.City}"``.

A part without a value takes the text that belongs to it along: words and opening brackets before
it, closing brackets after it. Brackets around several parts stay while one of these has a value.
One separator stays between two parts that have a value. Letters directly after a part, as in
``{A}'s {B}``, appear only if both sides have a value. So nothing dangles, whichever parts are
empty.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from ml_connector.customer_paths import pieces

_BETWEEN = re.compile(
    r"""(['\u2019]?\w+|)((?:[)\]»”"']|>(?!\Z))*)((?:[^\w(\[«„“"'<]|<(?=\s))*)(.*)""", re.DOTALL
)
"""What is joined to the part before, closes it, separates, and opens the part after."""
_CLOSING = {"(": ")", "[": "]", "<": ">", "«": "»", "„": "“”", "“": "”", '"': '"'}
"""Each opening bracket or quotation mark with what can close it."""


class _Part(NamedTuple):
    """A path, the separator before it, and the text that appears only with its value.

    ``joined``: letters before the separator. They appear only between the values of both sides.
    """

    path: str
    joined: str
    separator: str
    before: str
    after: str


class _Pair(NamedTuple):
    """A pair of brackets around several parts, and the indices of the first and the last of them."""

    first: int
    last: int
    opening: str
    closing: str


def filled(template: str, value_of: Callable[[str], str]) -> str:
    """Return a template with the values of its paths; ``""`` if none has a value.

    Of several separators between two parts the first that is more than blanks stays.
    """
    parts, pairs = _parts(template), _pairs(template)
    values = [value_of(part.path).strip() for part in parts]
    there = [n for n, value in enumerate(values) if value]
    opened, closed = [""] * len(parts), [""] * len(parts)
    for pair in pairs:
        inside = [n for n in there if pair.first <= n <= pair.last]
        if inside and inside[0] != pair.first:
            opened[inside[0]] = pair.opening + opened[inside[0]]
        if inside and inside[-1] != pair.last:
            closed[inside[-1]] += pair.closing
    text = ""
    for former, n in zip([-1, *there], there, strict=False):
        between = _separator(parts, pairs, former, n) if text else ""
        text += between + opened[n] + parts[n].before + values[n] + parts[n].after + closed[n]
    return text.strip()


def _separator(
    parts: tuple[_Part, ...], pairs: tuple[_Pair, ...], former: int, following: int
) -> str:
    """Return what separates two parts. Inside brackets only text within them separates."""
    found = ""
    for n in range(former + 1, following + 1):
        around = [pair for pair in pairs if pair.first < n <= pair.last]
        if all(pair.first <= former and following <= pair.last for pair in around):
            found = _stronger(found, parts[n].separator)
    if former + 1 == following:
        found = parts[following].joined + found
    return found


def _stronger(first: str, second: str) -> str:
    return second if not first or bool(second.strip()) > bool(first.strip()) else first


@lru_cache(maxsize=256)
def _parts(template: str) -> tuple[_Part, ...]:
    texts, paths = pieces(template)[::2], pieces(template)[1::2]
    found: list[_Part] = []
    joined, separator, before = "", "", texts[0]
    for path, text in zip(paths, texts[1:], strict=True):
        last = len(found) == len(paths) - 1
        after, *further = (text, "", "", "") if last else _split(text)
        found.append(_Part(path, joined, separator, before, after))
        joined, separator, before = further
    return tuple(found)


@lru_cache(maxsize=256)
def _pairs(template: str) -> tuple[_Pair, ...]:
    """Return the pairs of brackets around several parts, inner ones first."""
    found: list[_Pair] = []
    open_: list[tuple[int, str]] = []
    for n, part in enumerate(_parts(template)):
        for mark in part.before + part.after:
            if open_ and mark in _CLOSING[open_[-1][1]]:
                first, opening = open_.pop()
                if first < n:
                    found.append(_Pair(first, n, opening, mark))
            elif mark in _CLOSING:
                open_.append((n, mark))
    return tuple(found)


def _split(text: str) -> tuple[str, str, str, str]:
    match = _BETWEEN.fullmatch(text)
    return (match[2], match[1], match[3], match[4]) if match else ("", "", text, "")
