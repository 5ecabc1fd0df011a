"""Write-ahead intents: committed before a write is sent, deleted when its outcome is stored.

An intent left behind is a call with an unknown outcome. Its worker died, or the network or the
database failed. The rows that an intent refers to stay locked while the call is in flight. So
intents have tables of their own (as ``archive_intents``).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text


class UnknownOutcome(NamedTuple):
    """A change that a call with an unknown outcome may have written."""

    id: int
    kind: str
    reason: str
    customer_id: str | None
    email_key: bytes
    attempts: int
    origin: str | None


def put_batch(connection: Connection, change_ids: Sequence[int], *, sync: str) -> int:
    """Record which claimed changes are about to be sent; return the intent's id. Commit at once."""
    return int(
        connection.execute(
            text("""INSERT INTO ml_connector.batch_intents (sync, changes)
                    VALUES (:sync, CAST(:changes AS bigint[])) RETURNING id"""),
            {"sync": sync, "changes": "{" + ",".join(map(str, change_ids)) + "}"},
        ).scalar_one()
    )


def end_batch(connection: Connection, intent_id: int) -> None:
    """Delete an intent: its outcome is being stored, or nothing was written."""
    connection.execute(
        text("DELETE FROM ml_connector.batch_intents WHERE id = :id"), {"id": intent_id}
    )


def take_batches(connection: Connection, *, sync: str) -> list[UnknownOutcome]:
    """Delete the intents of ``sync`` whose worker died; return their changes.

    A live worker holds row locks on its changes, so a batch without a lockable change is skipped.
    """
    rows = connection.execute(
        text("""WITH left_behind AS MATERIALIZED (
                    SELECT i.id, i.changes
                    FROM ml_connector.batch_intents i, LATERAL (
                        SELECT c.id FROM ml_connector.changes c WHERE c.id = ANY(i.changes)
                        LIMIT 1 FOR UPDATE SKIP LOCKED) free
                    WHERE i.sync = :sync FOR UPDATE OF i SKIP LOCKED),
                ended AS (
                    DELETE FROM ml_connector.batch_intents
                    WHERE id IN (SELECT id FROM left_behind))
                SELECT c.id, c.kind, c.reason, c.customer_id, c.email_key, c.attempts, c.origin
                FROM left_behind JOIN ml_connector.changes c ON c.id = ANY(left_behind.changes)
                ORDER BY left_behind.id, c.id"""),
        {"sync": sync},
    ).all()
    return [UnknownOutcome(*row) for row in rows]


def put_notes(connection: Connection, digests: Mapping[str, bytes], *, sync: str) -> None:
    """Record by customer the digest of the Notes about to be written. Commit before the call.

    Notes do not show their author. Notes whose digest equals the intent's are our own write.
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


def take_notes(connection: Connection, ids: Collection[str], *, sync: str) -> dict[str, bytes]:
    """Delete and return the intents of customers whose outcome is being stored."""
    rows = connection.execute(
        text("""DELETE FROM ml_connector.write_intents
                WHERE sync = :sync AND customer_id = ANY(:ids) RETURNING customer_id, digest"""),
        {"sync": sync, "ids": list(ids)},
    ).all()
    return {row.customer_id: bytes(row.digest) for row in rows}
