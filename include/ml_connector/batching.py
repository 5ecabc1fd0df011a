"""Process many records: prefetch pages, drain a queue on threads, relax the collector."""

import gc
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

GC_THRESHOLD = 100_000
"""Objects allocated but not freed before Python searches for cycles. Python 3.11's default is
700."""

Item = TypeVar("Item")


def prefetch(items: Iterable[Item], *, threads: bool = True) -> Iterator[Item]:
    """Yield ``items`` in order while a thread fetches the next one; without ``threads``, in turn.

    At most two items are in memory. An error of ``items`` is raised where the item would have been
    yielded. Closing the iterator waits for the fetch in flight, then closes ``items``.
    """
    source = iter(items)

    def fetch() -> list[Item]:
        return list(islice(source, 1))

    try:
        if not threads:
            yield from source
            return
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
            coming = pool.submit(fetch)
            while fetched := coming.result():
                coming = pool.submit(fetch)
                yield from fetched
    finally:
        if isinstance(source, Generator):
            source.close()


def drain(step: Callable[[], bool], threads: int) -> None:
    """Call ``step`` on ``threads`` threads until it returns False on each; raise the first error.

    A thread that finds nothing stops alone: another thread may still release what it holds.
    """
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set() and step():
            pass

    with ThreadPoolExecutor(threads) as pool:
        working = [pool.submit(work) for _ in range(threads)]
        try:
            ended, _ = wait(working, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
        for each in ended:
            each.result()


@contextmanager
def relaxed_gc() -> Iterator[None]:
    """Search for reference cycles less often while the block or the decorated function runs.

    A page holds tens of thousands of dictionaries without cycles, so searching them costs more than
    the work itself. Reference counting still frees them (bench/diary.md).
    """
    before = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
