"""Wait for the inbox until an event is due, without busy polling.

NOTIFY is best-effort: notifications can be lost or arrive before LISTEN. The listener therefore
queries the table after each connect, after each notification, and when the next retry is due. It
also polls slowly.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import psycopg
import structlog
from psycopg import sql

from ml_connector.errors import ConnectorError
from ml_connector.webhooks.inbox import CHANNEL, NEXT_DUE

POLL = 15.0
"""Seconds: the longest wait of an event whose notification was lost."""

QUERY_TIMEOUT = 10.0
"""Seconds the database may take to respond. After that the connection counts as dead."""

MAX_BACKOFF = 15.0
"""Seconds: the longest pause between two connection attempts. Pauses double up to this."""

log = structlog.get_logger(__name__)


async def until_due(address: Callable[[], Awaitable[str]], *, poll: float = POLL) -> None:
    """Return as soon as an event is due; wait out a database outage.

    ``address`` is called before each connect, because passwords and hosts change.
    """
    pause = 0.5
    while True:
        try:
            url = await address()
            async with asyncio.timeout(QUERY_TIMEOUT):
                connection = await _listening(url)
            async with connection:
                pause = 0.5
                await _due(connection, poll)
                return
        except (psycopg.Error, TimeoutError, ConnectorError) as error:
            log.warning("inbox_cannot_be_watched", reason=_said(error), again_in=pause)
        await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 -- no secret
        pause = min(2 * pause, MAX_BACKOFF)


def due_within(url: str, seconds: float) -> bool:
    """Wait up to ``seconds`` for an event to be due; return whether one is."""

    async def address() -> str:
        return url

    async def waited() -> bool:
        try:
            async with asyncio.timeout(seconds):
                await until_due(address)
        except TimeoutError:
            return False
        return True

    return asyncio.run(waited())


async def _listening(url: str) -> psycopg.AsyncConnection:
    connection = await psycopg.AsyncConnection.connect(
        url, autocommit=True, connect_timeout=5, application_name="ml-connector-inbox"
    )
    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
    return connection


async def _due(connection: psycopg.AsyncConnection, poll: float) -> None:
    # The database's clock, not ours: the claim uses it too.
    question = sql.SQL("SELECT extract(epoch FROM ({}) - clock_timestamp())").format(
        sql.SQL(NEXT_DUE)
    )
    while True:
        async with asyncio.timeout(QUERY_TIMEOUT):
            row = await (await connection.execute(question)).fetchone()
        seconds = poll if row is None or row[0] is None else float(row[0])
        if seconds <= 0:
            return
        async for _ in connection.notifies(timeout=min(seconds, poll), stop_after=1):
            pass


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
