"""Read a listing's pages in parallel: ask for those that follow before the first one is there."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from types import TracebackType
from typing import Self

from ml_connector.mailchimp.listing import Listed

STRETCH = 20
"""Pages that are read by offset in a row. The further the offset, the slower the response."""

Place = tuple[datetime | None, int]
Found = tuple[list[Listed], int]


class ReadAhead:
    """Reader of pages of ``size`` rows that overlap by one row.

    ``fetch`` receives ``since`` and an offset, and returns the page and the number of rows in the
    listing. Up to ``pages`` calls are in flight. The number of rows limits them, so a listing costs
    no more calls than page by page. The caller compares the overlapping rows: if they differ, a row
    left the list between two calls, and the pages do not join.
    """

    def __init__(
        self, fetch: Callable[[datetime | None, int], Found], *, size: int, pages: int
    ) -> None:
        self._fetch, self._size, self._pages = fetch, size, pages
        self._pool = ThreadPoolExecutor(pages, thread_name_prefix="pages") if pages > 1 else None
        self._coming: deque[tuple[Place, Future[Found]]] = deque()
        self._next = self._end = self._beyond = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            # After an error, calls in flight may be at their retries for a long time.
            self._pool.shutdown(wait=error is None, cancel_futures=True)

    @property
    def in_flight(self) -> bool:
        """Whether pages that follow the last one by offset were already asked for."""
        return bool(self._coming)

    def page(self, since: datetime | None, offset: int) -> list[Listed]:
        """Return the page at ``offset``, and ask for those that follow it."""
        if self._pool is None:
            return self._fetch(since, offset)[0]
        if not self._coming or self._coming[0][0] != (since, offset):
            self._start(since, offset)
        _, coming = self._coming.popleft()
        page, total = coming.result()
        self._beyond = total - offset - len(page)
        self._top_up(since, total)
        return page

    def _start(self, since: datetime | None, offset: int) -> None:
        """Ask for a page that was not expected next, and for what is known to follow it."""
        for _, coming in self._coming:
            coming.cancel()
        self._coming.clear()
        self._next, self._end = offset, offset + STRETCH * (self._size - 1)
        self._ask(since)
        self._top_up(since, offset + self._beyond)

    def _top_up(self, since: datetime | None, total: int) -> None:
        """Ask for further pages of the stretch; the first row of each was there before."""
        while len(self._coming) < self._pages and self._next + 1 < total and self._next < self._end:
            self._ask(since)

    def _ask(self, since: datetime | None) -> None:
        if self._pool is not None:
            asked = self._pool.submit(self._fetch, since, self._next)
            self._coming.append(((since, self._next), asked))
            self._next += self._size - 1
