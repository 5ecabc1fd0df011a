"""Reading ahead: the next page is on the wire while this one is worked on."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield ``items`` in order; one more than was asked for is fetched by a thread meanwhile.

    What fetching raises is raised where the item would have been yielded. Two items are in memory at
    most. Closing waits for the one under way.
    """
    source = iter(items)

    def fetch() -> list[Item]:
        return list(islice(source, 1))

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming = pool.submit(fetch)
        while fetched := coming.result():
            coming = pool.submit(fetch)
            yield from fetched
