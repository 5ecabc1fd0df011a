"""Responses with one odd record, for Hypothesis: any value of it missing, null, blank or of any type."""

import copy
import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

EXAMPLES = 10_000 if settings().max_examples >= 300 else settings().max_examples
"""Of tests without I/O: 10,000 in CI's long part."""

texts = st.one_of(
    st.sampled_from(["", " ", "\x00", "\ud83d", "NaN", "9999-12-31T23:59:59Z", "0001-01-01", "@"]),
    st.text(max_size=12),
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.lists(st.one_of(st.none(), texts), max_size=2),
    st.dictionaries(st.sampled_from(["Id", "value", "name", ""]), texts, max_size=2),
)


def paths_of(found: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places in a document, the whole of it first."""
    inner = found.items() if isinstance(found, dict) else []
    if isinstance(found, list):
        inner = list(enumerate(found))
    return [path, *(each for key, value in inner for each in paths_of(value, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn, record: Any) -> Any:
    """A record with up to three of its values removed or replaced by any other."""
    found = copy.deepcopy(record)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths_of(found)))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(values)
            continue
        *way, last = path
        place = found
        for key in way:
            place = place[key]
        if isinstance(place, dict) and draw(st.booleans()):
            del place[last]
        else:
            place[last] = draw(values)
    return found


def body(document: Any) -> bytes:
    """A document as a careless server writes it: with lone surrogates."""
    return json.dumps(document).encode()
