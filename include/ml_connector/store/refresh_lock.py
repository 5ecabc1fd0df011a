"""The row lock under which a QuickBooks refresh token is redeemed, one process at a time.

The lock and the intent are two transactions on purpose: the lock goes with the process that held
it, the intent stays and tells the next one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from ml_connector.store.database import Database

WAIT_SECONDS = 90
"""Longer than the token call's own time-out, so a waiter outlasts a slow holder."""


@contextmanager
def refresh_lock(
    database: Database, conn_id: str, *, wait_seconds: int = WAIT_SECONDS
) -> Iterator[bool]:
    """Hold the connection's row; yield True if an earlier holder never came to a clean end.

    Raises ``StorageError`` if the row is not free within ``wait_seconds``.
    """
    with database.begin() as connection:
        connection.execute(
            text("""INSERT INTO ml_connector.token_refreshes (conn_id) VALUES (:conn_id)
                    ON CONFLICT DO NOTHING"""),
            {"conn_id": conn_id},
        )
    with database.begin() as lock:
        lock.execute(text(f"SET LOCAL lock_timeout = '{int(wait_seconds)}s'"))
        lock.execute(
            text("""SELECT 1 FROM ml_connector.token_refreshes
                    WHERE conn_id = :conn_id FOR UPDATE"""),
            {"conn_id": conn_id},
        )
        with database.begin() as connection:
            interrupted = connection.execute(
                text("""SELECT count(*) FROM ml_connector.token_intents
                        WHERE conn_id = :conn_id AND finished_at IS NULL"""),
                {"conn_id": conn_id},
            ).scalar_one()
            connection.execute(
                text("INSERT INTO ml_connector.token_intents (conn_id) VALUES (:conn_id)"),
                {"conn_id": conn_id},
            )
        yield interrupted > 0
        with database.begin() as connection:
            connection.execute(
                text("""UPDATE ml_connector.token_intents SET finished_at = clock_timestamp()
                        WHERE conn_id = :conn_id AND finished_at IS NULL"""),
                {"conn_id": conn_id},
            )
        lock.execute(
            text("""UPDATE ml_connector.token_refreshes
                    SET state = 'ok', refreshed_at = clock_timestamp() WHERE conn_id = :conn_id"""),
            {"conn_id": conn_id},
        )
