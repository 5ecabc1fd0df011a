"""Row lock for redeeming a QuickBooks refresh token, one process at a time.

Lock and intent are two transactions on purpose. The lock ends with the process that holds it. The
intent stays and informs the next process. Waiting ends when the holder ends. The holder's own call
has a time-out, so ``WAITS`` waits in a row indicate another fault.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from ml_connector.errors import StorageError
from ml_connector.store.database import Database, lift_timeouts

WAIT_SECONDS = 90.0
"""Seconds of one wait for the lock, longer than the token call's own time-out."""

WAITS = 10
"""A process fails after this many waits in a row."""


class RowLockHolder:
    """Operations of the process that holds the lock (``quickbooks.tokens.RefreshLockHolder``)."""

    def __init__(self, database: Database, conn_id: str) -> None:
        self._database, self._conn_id = database, conn_id
        self.intended = False

    def refused(self) -> str:
        """Return the mark of a permanently refused token, ``""`` if the last one worked."""
        with self._database.begin() as connection:
            last = connection.execute(
                text("""SELECT refused FROM ml_connector.token_intents
                        WHERE conn_id = :conn_id AND finished_at IS NOT NULL
                        ORDER BY id DESC LIMIT 1"""),
                {"conn_id": self._conn_id},
            ).scalar_one_or_none()
        return last or ""

    def intend(self) -> bool:
        """Record that a redemption is about to be sent.

        Returns True if an earlier redemption did not end cleanly: the token pair it got may be
        lost.
        """
        with self._database.begin() as connection:
            unfinished = connection.execute(
                text("""SELECT count(*) FROM ml_connector.token_intents
                        WHERE conn_id = :conn_id AND finished_at IS NULL"""),
                {"conn_id": self._conn_id},
            ).scalar_one()
            connection.execute(
                text("INSERT INTO ml_connector.token_intents (conn_id) VALUES (:conn_id)"),
                {"conn_id": self._conn_id},
            )
        self.intended = True
        return bool(unfinished)

    def refuse(self, mark: str) -> None:
        """Record that this token is permanently refused: no process redeems it again."""
        self.finish(refused=mark)

    def finish(self, *, refused: str | None = None) -> None:
        """End every open intent."""
        with self._database.begin() as connection:
            connection.execute(
                text("""UPDATE ml_connector.token_intents
                        SET finished_at = clock_timestamp(), refused = :refused
                        WHERE conn_id = :conn_id AND finished_at IS NULL"""),
                {"conn_id": self._conn_id, "refused": refused},
            )


@contextmanager
def refresh_lock(
    database: Database, conn_id: str, *, wait_seconds: float = WAIT_SECONDS
) -> Iterator[RowLockHolder]:
    """Hold the connection's row lock for the block.

    Raises ``StorageError`` if the row is still locked after ``WAITS`` waits of ``wait_seconds``.
    """
    with database.begin() as connection:
        connection.execute(
            text("""INSERT INTO ml_connector.token_refreshes (conn_id) VALUES (:conn_id)
                    ON CONFLICT DO NOTHING"""),
            {"conn_id": conn_id},
        )
    hold = RowLockHolder(database, conn_id)
    with database.begin() as connection:
        # The transaction is idle during the QuickBooks call. A server's time limits would end it
        # midway.
        lift_timeouts(connection)
        connection.execute(text(f"SET LOCAL lock_timeout = {round(wait_seconds * 1000)}"))
        _lock(connection, conn_id, wait_seconds)
        yield hold
        if hold.intended:
            hold.finish()


def _lock(connection: Connection, conn_id: str, wait_seconds: float) -> None:
    for _ in range(WAITS):
        try:
            with connection.begin_nested():
                connection.execute(
                    text("""SELECT 1 FROM ml_connector.token_refreshes
                            WHERE conn_id = :conn_id FOR UPDATE"""),
                    {"conn_id": conn_id},
                )
        except OperationalError as error:
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise
        else:
            return
    raise StorageError(
        f"another process has been renewing the token of {conn_id} for {WAITS * wait_seconds:.0f} s;"
        " end the task that hangs, then run again"
    )
