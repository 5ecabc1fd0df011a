"""Member events for other programs, newest first. Read-only."""

from typing import Any

from sqlalchemy import Connection, Row, text


def page(connection: Connection, *, sync: str, before: int, limit: int) -> list[Row[Any]]:
    """Return up to ``limit`` events with an id below ``before`` (0: from the newest)."""
    return list(
        connection.execute(
            text("""SELECT e.id, k.owner AS customer_id, e.kind, e.before, e.after, e.happened_at,
                           e.seen_at, e.source, e.written_to_quickbooks_at
                    FROM (SELECT * FROM ml_connector.member_events
                          WHERE sync = :sync AND (:before = 0 OR id < :before)
                          ORDER BY id DESC LIMIT :limit) e
                    LEFT JOIN ml_connector.contacts k
                      ON k.sync = e.sync AND k.email_key = e.email_key
                    ORDER BY e.id DESC"""),
            {"sync": sync, "before": before, "limit": limit},
        ).all()
    )
