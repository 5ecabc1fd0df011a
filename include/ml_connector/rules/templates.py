"""Fill templates such as ``"{BillAddr.Line1}, {BillAddr.PostalCode} {BillAddr.City}"``.

A part without a value takes the text that belongs to it along: words and opening brackets before
it, closing brackets after it. One separator stays between two parts that have a value. So nothing
dangles, whichever parts are empty.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from ml_connector.customer_paths import pieces

_BETWEEN = re.compile(r"""([)\]»”"']*)([^\w(\[«„“"']*)(.*)""", re.DOTALL)
"""What closes the part before, what separates, and what opens the part after."""


class _Part(NamedTuple):
    """A path, the separator before it, and the text that stands only beside its value."""

    path: str
    separator: str
    before: str
    after: str


def filled(template: str, value_of: Callable[[str], str]) -> str:
    """Return a template with the values of its paths; ``""`` if none has a value.

    Of several separators between two parts the first that is more than blanks stays.
    """
    text, waiting = "", ""
    for part in _parts(template):
        waiting = _stronger(waiting, part.separator)
        if value := value_of(part.path).strip():
            text += f"{waiting if text else ''}{part.before}{value}{part.after}"
            waiting = ""
    return text.strip()


def _stronger(first: str, second: str) -> str:
    return second if not first or bool(second.strip()) > bool(first.strip()) else first


@lru_cache(maxsize=256)
def _parts(template: str) -> tuple[_Part, ...]:
    texts, paths = pieces(template)[::2], pieces(template)[1::2]
    found: list[_Part] = []
    separator, before = "", texts[0]
    for path, text in zip(paths, texts[1:], strict=True):
        last = len(found) == len(paths) - 1
        after, following, opening = (text, "", "") if last else _split(text)
        found.append(_Part(path, separator, before, after))
        separator, before = following, opening
    return tuple(found)


def _split(text: str) -> tuple[str, str, str]:
    match = _BETWEEN.fullmatch(text)
    return (match[1], match[2], match[3]) if match else ("", text, "")
