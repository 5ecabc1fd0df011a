"""Write-ahead intents: committed before a write is sent, deleted when its outcome is stored.

An intent left behind is a call with an unknown outcome. Its worker died, or the network or the
database failed. The rows that an intent refers to stay locked while the call is in flight. So
intents have tables of their own (as ``archive_intents``).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text

from ml_connector.store.changes import cause_of


class UnknownOutcome(NamedTuple):
    """A change that a call with an unknown outcome may have written."""

    id: int
    kind: str
    reason: str
    customer_id: str | None
    email_key: bytes
    attempts: int
    origin: str | None

    @property
    def cause(self) -> str:
        """What the audit names as the call's cause."""
        return cause_of(self.id, self.origin)


def put_batch(
    connection: Connection, change_ids: Sequence[int], *, sync: str, batch_id: int | None
) -> int:
    """Record which claimed changes are about to be sent; return the intent's id. Commit at once.

    ``batch_id``: the row of ``change_batches`` that holds them; None if they are rows themselves.
    """
    return int(
        connection.execute(
            text("""INSERT INTO ml_connector.batch_intents (sync, changes, batch_id)
                    VALUES (:sync, CAST(:changes AS bigint[]), :batch_id) RETURNING id"""),
            {
                "sync": sync,
                "changes": "{" + ",".join(map(str, change_ids)) + "}",
                "batch_id": batch_id,
            },
        ).scalar_one()
    )


def end_batch(connection: Connection, intent_id: int) -> None:
    """Delete an intent: its outcome is being stored, or nothing was written."""
    connection.execute(
        text("DELETE FROM ml_connector.batch_intents WHERE id = :id"), {"id": intent_id}
    )


def take_batches(connection: Connection, *, sync: str) -> list[UnknownOutcome]:
    """Delete the intents of ``sync`` whose worker died; return their changes.

    A live worker holds row locks on its changes, or on the batch that holds them. So an intent
    without a lockable one is skipped.
    What was sent keeps a trace in ``attempts``: the next read may find the effect.
    """
    rows = connection.execute(
        text("""WITH single AS MATERIALIZED (
                    SELECT i.id, i.changes, i.batch_id
                    FROM ml_connector.batch_intents i, LATERAL (
                        SELECT c.id FROM ml_connector.changes c WHERE c.id = ANY(i.changes)
                        LIMIT 1 FOR UPDATE SKIP LOCKED) free
                    WHERE i.sync = :sync
                      -- Every change may have left the batch since.
                      AND NOT EXISTS (SELECT 1 FROM ml_connector.change_batches b
                                      WHERE b.id = i.batch_id)
                    FOR UPDATE OF i SKIP LOCKED),
                batched AS MATERIALIZED (
                    SELECT i.id, i.changes, i.batch_id
                    FROM ml_connector.batch_intents i
                    JOIN ml_connector.change_batches b ON b.id = i.batch_id
                    WHERE i.sync = :sync FOR UPDATE SKIP LOCKED),
                left_behind AS (SELECT * FROM single UNION ALL SELECT * FROM batched),
                ended AS (
                    DELETE FROM ml_connector.batch_intents
                    WHERE id IN (SELECT id FROM left_behind)),
                sent AS (
                    SELECT l.id AS intent, c.id, c.kind, c.reason, c.customer_id, c.email_key,
                           c.attempts, c.origin
                    FROM left_behind l JOIN ml_connector.changes c ON c.id = ANY(l.changes)
                    UNION ALL
                    SELECT l.id, u.id, b.kind, b.reason, u.customer_id, u.email_key, b.attempts,
                           b.origin
                    FROM left_behind l JOIN ml_connector.change_batches b ON b.id = l.batch_id,
                         unnest(b.ids, b.email_keys, b.customer_ids)
                             AS u(id, email_key, customer_id)
                    WHERE u.id = ANY(l.changes)),
                tried AS (
                    UPDATE ml_connector.changes c SET attempts = attempts + 1
                    FROM left_behind l WHERE c.id = ANY(l.changes) AND c.state = 'pending'),
                batch_tried AS (
                    UPDATE ml_connector.change_batches b SET attempts = attempts + 1
                    FROM left_behind l WHERE b.id = l.batch_id AND b.state = 'pending')
                SELECT id, kind, reason, customer_id, email_key, attempts, origin
                FROM sent ORDER BY intent, id"""),
        {"sync": sync},
    ).all()
    return [UnknownOutcome(*row) for row in rows]


def put_notes(connection: Connection, digests: Mapping[str, bytes], *, sync: str) -> None:
    """Record by customer the digests of the texts about to be written. Commit before the call.

    Texts do not show their author. What a lost call left and equals its digest is our own write.
    """
    if digests:
        connection.execute(
            text("""INSERT INTO ml_connector.write_intents (sync, customer_id, digest)
                    SELECT :sync, i.* FROM
                        unnest(CAST(:ids AS text[]), CAST(:digests AS bytea[])) AS i
                    ON CONFLICT (sync, customer_id) DO UPDATE
                    SET digest = excluded.digest, started_at = clock_timestamp()"""),
            {"sync": sync, "ids": list(digests), "digests": list(digests.values())},
        )


def left_notes(connection: Connection, ids: Collection[str], *, sync: str) -> dict[str, bytes]:
    """Return the intents that earlier calls about claimed customers left, their outcome unknown."""
    rows = connection.execute(
        text("""SELECT customer_id, digest FROM ml_connector.write_intents
                WHERE sync = :sync AND customer_id = ANY(:ids)"""),
        {"sync": sync, "ids": list(ids)},
    ).all()
    return {row.customer_id: bytes(row.digest) for row in rows}


def end_notes(connection: Connection, ids: Collection[str], *, sync: str) -> None:
    """Delete the intents of customers whose outcome is known."""
    connection.execute(
        text("""DELETE FROM ml_connector.write_intents
                WHERE sync = :sync AND customer_id = ANY(:ids)"""),
        {"sync": sync, "ids": list(ids)},
    )
