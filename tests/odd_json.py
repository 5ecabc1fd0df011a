"""Responses with odd records, for Hypothesis: any value of them missing, null, blank or of any type.

Hypothesis draws a number for each record, and the number decides what is odd about it: many records
for the price of one. Zero leaves a record as it is, so what fails shrinks to few odd records.
"""

import copy
import json
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

FEW = settings().max_examples < 300
EXAMPLES = settings().max_examples if FEW else 500
AT_ONCE = 2 if FEW else 20
"""Odd records of a kind in one example: 10,000 of each kind in CI's long part."""

LETTERS = (
    "\x00\t\n\x7f\x85\xa0\xad\u200b\u202e\ufeff\ud83d\udc00äßİ한😀&<>\"'\\/%+=;:.,@#{}[]() -_ABZ059"
)
TEXTS = ("", " ", "\x00", "\ud83d", "NaN", "9999-12-31T23:59:59Z", "0001-01-01", "@")
VALUES = (
    *(None, True, False, 0, -1, 700_007, 2**63, 2**70, -(2**70), 0.0, 1.5, -1e308),
    *([], [None], [""], ["\x00", None], [[]], {}, {"Id": "\x00"}, {"value": " "}),
    *({"name": "\ud83d"}, {"": "@"}, {"value": None, "name": []}),
)


def value_of(chance: Random) -> Any:
    """Any value: one of those that break things most often, or a short text of odd characters."""
    kind = chance.random()
    if kind < 0.5:
        return copy.deepcopy(chance.choice(VALUES))
    if kind < 0.75:
        return chance.choice(TEXTS)
    return "".join(chance.choices(LETTERS, k=chance.randint(1, 12)))


def paths_of(found: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places in a document, the whole of it first."""
    inner = found.items() if isinstance(found, dict) else []
    if isinstance(found, list):
        inner = list(enumerate(found))
    return [path, *(each for key, value in inner for each in paths_of(value, (*path, key)))]


def odd_one(record: Any, number: int) -> Any:
    """A record with up to three of its values removed or replaced by any other; 0: as it is."""
    found = copy.deepcopy(record)
    chance = Random(number)
    for _ in range(chance.randint(1, 3) if number else 0):
        path = chance.choice(paths_of(found))
        if not path:
            if chance.randrange(10) == 0:
                return value_of(chance)
            continue
        *way, last = path
        place = found
        for key in way:
            place = place[key]
        if isinstance(place, dict) and chance.randrange(2):
            del place[last]
        else:
            place[last] = value_of(chance)
    return found


def mutated(record: Any, *, at_once: int = AT_ONCE) -> st.SearchStrategy[list[Any]]:
    """Some odd records like this one."""
    numbers = st.lists(st.integers(0, 2**32), min_size=at_once, max_size=at_once)
    return numbers.map(lambda drawn: [odd_one(record, number) for number in drawn])


def body(document: Any) -> bytes:
    """A document as a careless server writes it: with lone surrogates."""
    return json.dumps(document).encode()
