"""Group commit: one transaction for all concurrent deliveries.

A commit costs a disk flush, whatever its size. During one commit the next deliveries gather. A
hundred concurrent deliveries cost two flushes instead of a hundred. No delivery gets its response
before the commit that contains its events.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ml_connector.errors import StorageError, Unavailable
from ml_connector.wire.webhook_event import WebhookEvent

PATIENCE = 2.0
"""Seconds until a delivery fails. QuickBooks wants a response within 3."""

MAX_WAITING = 1000
"""Deliveries that may wait. At 800 a second the last one waits a little over a second."""

MAX_AT_ONCE = 2000
"""Events in one transaction."""

Waiting = tuple[Sequence[WebhookEvent], asyncio.Future[None]]


class GroupCommit:
    """Batching writer. ``write`` commits events or raises; it runs in one thread."""

    def __init__(
        self,
        write: Callable[[Sequence[WebhookEvent]], None],
        *,
        patience: float = PATIENCE,
        most_waiting: int = MAX_WAITING,
    ) -> None:
        self._write, self._patience, self._most_waiting = write, patience, most_waiting
        self._waiting: deque[Waiting] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inbox")
        self._writer: asyncio.Task[None] | None = None

    async def store(self, events: Sequence[WebhookEvent]) -> None:
        """Return when ``events`` are committed; with no events, when the database responds.

        Raises:
            Unavailable: Too many deliveries are waiting already.
            StorageError: The events are not stored, or the outcome is not known in time.
        """
        if len(self._waiting) >= self._most_waiting:
            raise Unavailable("too many deliveries are waiting for the database")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((events, done))
        if self._writer is None:  # no task outlives its work: a mounted app has no shutdown
            self._writer = asyncio.create_task(self._write_all())
        try:
            async with asyncio.timeout(self._patience):
                await done
        except TimeoutError:
            raise StorageError(
                f"the connector's database did not commit within {self._patience:.0f} s"
            ) from None

    async def _write_all(self) -> None:
        while batch := self._next_batch():
            error = await self._attempt(batch)
            if len(batch) > 1 and error is not None and not isinstance(error, StorageError):
                for one in batch:  # one of them is to blame; retry each alone
                    _answer([one], await self._attempt([one]))
            else:
                _answer(batch, error)
        self._writer = None

    def _next_batch(self) -> list[Waiting]:
        batch: list[Waiting] = []
        size = 0
        while self._waiting and size < MAX_AT_ONCE:
            events, done = self._waiting.popleft()
            if not done.done():  # else its sender got a 503, or hung up
                batch.append((events, done))
                size += len(events)
        return batch

    async def _attempt(self, batch: Sequence[Waiting]) -> BaseException | None:
        events = [event for events, _ in batch for event in events]
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(self._thread, self._write, events)
        await asyncio.wait([writing])
        return writing.exception()


def _answer(batch: Sequence[Waiting], error: BaseException | None) -> None:
    for _, done in batch:
        if not done.done():
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
