"""Alert causes: one row each. Each recipient gets one message at the start and one at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAlert:
    """An alert to send to a recipient. ``state`` is ``raised`` or ``ended``."""

    cause: str
    state: str
    message: str
    link: str
    raised_at: datetime


def raise_once(connection: Connection, *, cause: str, message: str, link: str = "") -> bool:
    """Record that ``cause`` holds; return whether it is new. ``link`` is the run's URL."""
    times = connection.execute(
        text("""INSERT INTO ml_connector.alerts AS a (cause, message, link)
                    VALUES (:cause, :message, :link)
                    ON CONFLICT (cause) DO UPDATE SET
                        message = excluded.message,
                        link = coalesce(nullif(excluded.link, ''), a.link),
                        last_seen_at = clock_timestamp(),
                        times = CASE WHEN a.ended_at IS NULL THEN a.times + 1 ELSE 1 END,
                        raised_at = CASE WHEN a.ended_at IS NULL THEN a.raised_at
                                         ELSE clock_timestamp() END,
                        told = CASE WHEN a.ended_at IS NULL THEN a.told ELSE '{}' END,
                        told_end = '{}', ended_at = NULL
                    RETURNING times"""),
        {"cause": cause, "message": message, "link": link},
    ).scalar_one()
    return int(times) == 1


def end(connection: Connection, *, cause: str) -> bool:
    """Record that ``cause`` has ended; return whether it had been raised."""
    return (
        connection.execute(
            text("""UPDATE ml_connector.alerts SET ended_at = clock_timestamp()
                    WHERE cause = :cause AND ended_at IS NULL"""),
            {"cause": cause},
        ).rowcount
        > 0
    )


def raised_at(connection: Connection, *, cause: str) -> datetime | None:
    """Return since when ``cause`` holds, None if it does not."""
    found: datetime | None = connection.execute(
        text("SELECT raised_at FROM ml_connector.alerts WHERE cause = :cause AND ended_at IS NULL"),
        {"cause": cause},
    ).scalar_one_or_none()
    return found


def open_causes(connection: Connection, *, kind: str) -> set[str]:
    """Return the causes of a kind that hold."""
    rows = connection.execute(
        text("""SELECT cause FROM ml_connector.alerts
                WHERE ended_at IS NULL AND split_part(cause, ':', 1) = :kind"""),
        {"kind": kind},
    )
    return set(rows.scalars())


def pending_for(connection: Connection, *, recipient: str) -> list[PendingAlert]:
    """Lock and return the alerts still to be sent to ``recipient``, oldest first.

    A recipient that did not get the start of an alert does not get its end. Rows that another task
    is sending are skipped.
    """
    rows = connection.execute(
        text("""SELECT cause, CASE WHEN ended_at IS NULL THEN 'raised' ELSE 'ended' END AS state,
                       message, link, raised_at
                FROM ml_connector.alerts
                WHERE ended_at IS NULL AND :recipient <> ALL(told)
                   OR ended_at IS NOT NULL AND :recipient = ANY(told)
                      AND :recipient <> ALL(told_end)
                ORDER BY raised_at FOR UPDATE SKIP LOCKED"""),
        {"recipient": recipient},
    )
    return [
        PendingAlert(
            cause=row.cause,
            state=row.state,
            message=row.message,
            link=row.link,
            raised_at=row.raised_at,
        )
        for row in rows
    ]


def mark_delivered(connection: Connection, alert: PendingAlert, *, recipient: str) -> None:
    """Record that ``recipient`` got the message."""
    connection.execute(
        text("""UPDATE ml_connector.alerts SET
                    told = CASE WHEN :ended THEN told ELSE array_append(told, :recipient) END,
                    told_end = CASE WHEN :ended THEN array_append(told_end, :recipient)
                                    ELSE told_end END
                WHERE cause = :cause"""),
        {"cause": alert.cause, "ended": alert.state == "ended", "recipient": recipient},
    )


def last_successes(connection: Connection, *, syncs: Sequence[str]) -> dict[str, datetime]:
    """Return when each sync's daily run last succeeded, or since when a new sync is watched."""
    connection.execute(
        text("""INSERT INTO ml_connector.watched_syncs (sync)
                SELECT unnest(CAST(:syncs AS text[])) ON CONFLICT DO NOTHING"""),
        {"syncs": list(syncs)},
    )
    rows = connection.execute(
        text("""SELECT w.sync, coalesce(max(p.finished_at), w.since) AS at
                FROM ml_connector.watched_syncs w LEFT JOIN ml_connector.plans p
                  ON p.sync = w.sync AND p.kind = 'sync' AND p.state IN ('finished', 'rejected')
                WHERE w.sync = ANY(:syncs) GROUP BY w.sync, w.since"""),
        {"syncs": list(syncs)},
    )
    return {row.sync: row.at for row in rows}


def dead_letters(connection: Connection) -> int:
    """Return the number of dead-lettered webhook events."""
    return int(
        connection.execute(
            text("SELECT count(*) FROM ml_connector.webhook_inbox WHERE state = 'dead'")
        ).scalar_one()
    )
