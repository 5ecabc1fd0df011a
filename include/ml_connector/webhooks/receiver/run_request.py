"""Request a run of the webhook task after a commit, in the background.

The response never waits for the request, and a failed request changes nothing: the sensor at the
head of the DAG notices due events by itself, a second or two later.
"""

import asyncio
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ml_connector.errors import ConnectorError

INTERVAL = 0.2
"""Seconds between two attempts, while the next run is not waiting yet."""

ATTEMPTS = 20
"""Attempts until the sensor is left to it. A run that follows another waits within 4 seconds."""

PAUSE = 30.0
"""Seconds without requests after one failed."""

log = structlog.get_logger(__name__)


class RunRequester:
    """Coalescing requester: one request at a time, however many deliveries ask.

    ``request`` runs in a thread. It returns whether it is done: a run starts, or none is needed.
    False means that no run waits at the moment.
    """

    def __init__(
        self,
        request: Callable[[], bool],
        *,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request, self._interval, self._clock = request, interval, clock
        self._wanted = False
        self._not_before = float("-inf")
        self._requesting: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        """Have a run requested soon; return at once."""
        if self._clock() < self._not_before:
            return
        self._wanted = True
        if self._requesting is None:
            self._requesting = asyncio.create_task(self._until_done())
            self._requesting.add_done_callback(self._ended)

    async def _until_done(self) -> None:
        while self._wanted:
            self._wanted = False
            for _ in range(ATTEMPTS):
                if await asyncio.to_thread(self._request):
                    break
                await asyncio.sleep(self._interval)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._requesting = None
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        self._not_before = self._clock() + PAUSE
        if not isinstance(error, ConnectorError | SQLAlchemyError):
            raise error
        # SQLAlchemy's message would show the statement's parameters.
        said = str(error) if isinstance(error, ConnectorError) else type(error).__name__
        log.warning("run_not_requested", error=said)
