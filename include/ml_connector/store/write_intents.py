"""Notes whose write to QuickBooks was about to leave.

Notes do not say who wrote them: whoever finds them as they should be, with an intent of just this
text, knows that it was a call of ours that nobody heard of. In a table of its own, since the
customer's row is locked while its call is on the wire (as ``archive_intents``).
"""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, text


def put(connection: Connection, digests: Mapping[str, bytes], *, sync: str) -> None:
    """Note by customer which text is about to be written. To be committed before the call."""
    if digests:
        connection.execute(
            text("""INSERT INTO ml_connector.write_intents (sync, customer_id, digest)
                    SELECT :sync, i.* FROM
                        unnest(CAST(:ids AS text[]), CAST(:digests AS bytea[])) AS i
                    ON CONFLICT (sync, customer_id) DO UPDATE
                    SET digest = excluded.digest, started_at = clock_timestamp()"""),
            {"sync": sync, "ids": list(digests), "digests": list(digests.values())},
        )


def take(connection: Connection, ids: Collection[str], *, sync: str) -> dict[str, bytes]:
    """Return and end the intents of customers whose outcome is being stored."""
    rows = connection.execute(
        text("""DELETE FROM ml_connector.write_intents
                WHERE sync = :sync AND customer_id = ANY(:ids) RETURNING customer_id, digest"""),
        {"sync": sync, "ids": list(ids)},
    ).all()
    return {row.customer_id: bytes(row.digest) for row in rows}
