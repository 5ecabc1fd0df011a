"""Alerts: once for a cause, not once a retry, and once more when it is over."""

from sqlalchemy import Connection, text


def raise_once(connection: Connection, *, cause: str, message: str) -> bool:
    """Record that ``cause`` holds; return whether that is news."""
    return (
        connection.execute(
            text("""INSERT INTO ml_connector.alerts AS a (cause, message)
                    VALUES (:cause, :message)
                    ON CONFLICT (cause) DO UPDATE SET message = excluded.message,
                        raised_at = clock_timestamp(), ended_at = NULL
                    WHERE a.ended_at IS NOT NULL"""),
            {"cause": cause, "message": message},
        ).rowcount
        > 0
    )


def end(connection: Connection, *, cause: str) -> bool:
    """Record that ``cause`` is over; return whether it had been raised."""
    return (
        connection.execute(
            text("""UPDATE ml_connector.alerts SET ended_at = clock_timestamp()
                    WHERE cause = :cause AND ended_at IS NULL"""),
            {"cause": cause},
        ).rowcount
        > 0
    )
