"""Batches whose call to Mailchimp was about to leave.

Committed before the call, ended together with its outcome: what is left behind was a call whose
answer nobody stored (the worker was killed, the network or the database went away). In a table of
its own, since the changes are locked while their call is on the wire (as ``archive_intents``).
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text


class Unheard(NamedTuple):
    """A change that a call nobody heard of may have made."""

    id: int
    kind: str
    reason: str
    customer_id: str | None
    email_key: bytes
    attempts: int
    origin: str | None


def put(connection: Connection, change_ids: Sequence[int], *, sync: str) -> int:
    """Note which claimed changes are about to be sent; return the intent's id. Commit it at once."""
    return int(
        connection.execute(
            text("""INSERT INTO ml_connector.batch_intents (sync, changes)
                    VALUES (:sync, CAST(:changes AS bigint[])) RETURNING id"""),
            {"sync": sync, "changes": "{" + ",".join(map(str, change_ids)) + "}"},
        ).scalar_one()
    )


def end(connection: Connection, intent_id: int) -> None:
    """End an intent: its outcome is being stored, or nothing was written."""
    connection.execute(
        text("DELETE FROM ml_connector.batch_intents WHERE id = :id"), {"id": intent_id}
    )


def take_unheard(connection: Connection, *, sync: str) -> list[Unheard]:
    """End the intents of ``sync`` that nobody is at work on; return their changes.

    Who is at work holds the changes: a batch of which none can be locked is left alone.
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
    return [Unheard(*row) for row in rows]
