"""Python's search for reference cycles, while many records pass through."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS = 100_000
"""How many more objects may be made than were freed before a search; Python's own is 700 (3.11)."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Have cycles searched for less often for the length of the block, or of the function.

    A page or a batch is tens of thousands of dictionaries that live until the next one, and have
    no cycles: searching them for some takes longer than most of what is done with them. References
    are counted as ever, so memory stays as it is (docs/performance.md).
    """
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
