"""Overview queries of the console. Read-only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text


def last_finished(connection: Connection, *, sync: str) -> datetime | None:
    """Return when a daily run last finished, None if none has."""
    found: datetime | None = connection.execute(
        text("""SELECT finished_at FROM ml_connector.plans
                WHERE sync = :sync AND kind = 'sync' AND state = 'finished'
                ORDER BY id DESC LIMIT 1"""),
        {"sync": sync},
    ).scalar_one_or_none()
    return found


def contacts_over_time(
    connection: Connection, *, sync: str, since: datetime
) -> list[tuple[datetime, dict[str, int]]]:
    """Return (time, contacts by status) of each day's last run, oldest first."""
    rows = connection.execute(
        text("""SELECT DISTINCT ON (date_trunc('day', finished_at)) finished_at,
                       counts -> 'contacts' AS contacts
                FROM ml_connector.plans
                WHERE sync = :sync AND kind = 'sync' AND finished_at >= :since
                  AND counts ? 'contacts'
                ORDER BY date_trunc('day', finished_at), finished_at DESC"""),
        {"sync": sync, "since": since},
    ).all()
    return [(row.finished_at, dict(row.contacts)) for row in rows]


def changes_by_day(
    connection: Connection, *, sync: str, since: datetime, zone: str
) -> list[Row[Any]]:
    """Return (day, kind, changes) of applied changes, days in the sync's time zone."""
    return list(
        connection.execute(
            text("""SELECT (p.created_at AT TIME ZONE :zone)::date AS day, c.kind,
                           sum(c.changes)::int AS changes
                    FROM ml_connector.plans p
                    JOIN ml_connector.change_counts c ON c.plan_id = p.id AND c.state = 'applied'
                    WHERE p.sync = :sync AND p.created_at >= :since
                    GROUP BY 1, 2 ORDER BY 1, 2"""),
            {"sync": sync, "since": since, "zone": zone},
        ).all()
    )


def events_by_hour(
    connection: Connection, *, sync: str, since: datetime, zone: str
) -> list[Row[Any]]:
    """Return (hour, events) of member events by time seen, hours in the sync's time zone."""
    return list(
        connection.execute(
            text("""SELECT date_trunc('hour', seen_at AT TIME ZONE :zone) AS hour,
                           count(*) AS events
                    FROM ml_connector.member_events WHERE sync = :sync AND seen_at >= :since
                    GROUP BY 1 ORDER BY 1"""),
            {"sync": sync, "since": since, "zone": zone},
        ).all()
    )


def open_alerts(connection: Connection) -> list[Row[Any]]:
    """Return the alerts that have not ended, newest first, at most 20."""
    return list(
        connection.execute(
            text("""SELECT cause, message, raised_at FROM ml_connector.alerts
                    WHERE ended_at IS NULL ORDER BY raised_at DESC LIMIT 20""")
        ).all()
    )


def open_alerts_of(connection: Connection, *, causes: Sequence[str]) -> dict[str, str]:
    """Return the messages of alerts that have not ended, by cause."""
    rows = connection.execute(
        text("""SELECT cause, message FROM ml_connector.alerts
                WHERE ended_at IS NULL AND cause = ANY(:causes)"""),
        {"causes": list(causes)},
    )
    return {row.cause: row.message for row in rows}


def unreadable_records(connection: Connection, *, sync: str, limit: int) -> list[Row[Any]]:
    """Return the records that cannot be read, newest first, with the number of all as ``every``."""
    return list(
        connection.execute(
            text("""SELECT u.system, u.record, u.reason, u.first_seen_at, u.last_seen_at,
                           count(*) OVER () AS every, c.customer_id IS NOT NULL AS staged
                    FROM ml_connector.unreadable_records u
                    LEFT JOIN ml_connector.customers c
                      ON u.system = 'quickbooks' AND c.sync = u.sync AND c.customer_id = u.record
                    WHERE u.sync = :sync
                    ORDER BY u.first_seen_at DESC, u.system, u.record LIMIT :limit"""),
            {"sync": sync, "limit": limit},
        ).all()
    )


def usage(connection: Connection, *, accounts: Sequence[str], month: str) -> list[Row[Any]]:
    """Return (account, call, calls) of a month (``2026-11``)."""
    return list(
        connection.execute(
            text("""SELECT account, call, sum(calls)::bigint AS calls
                    FROM ml_connector.api_usage
                    WHERE account = ANY(:accounts) AND starts_with(day, :month)
                    GROUP BY account, call ORDER BY account, call"""),
            {"accounts": list(accounts), "month": month},
        ).all()
    )


def count_unfinished(connection: Connection, *, sync: str) -> dict[str, int]:
    """Return the number of parked contacts, undecided customers, due writes and refused writes."""
    row = connection.execute(
        text("""SELECT
            (SELECT count(*) FROM ml_connector.contacts
             WHERE sync = :sync AND parked_until IS NOT NULL) AS parked,
            (SELECT count(*) FROM ml_connector.customers
             WHERE sync = :sync AND dirty AND NOT gone) AS undecided,
            (SELECT count(*) FROM ml_connector.activity_blocks
             WHERE sync = :sync AND state IN ('due', 'stale')) AS to_show,
            (SELECT count(*) FROM ml_connector.activity_blocks
             WHERE sync = :sync AND state = 'refused') AS not_shown"""),
        {"sync": sync},
    ).one()
    return {name: int(value) for name, value in row._mapping.items()}  # noqa: SLF001 -- public
