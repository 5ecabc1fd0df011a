"""Member events: record each transition once, whichever source saw it first."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from ml_connector.model import MemberEvent, Status
from ml_connector.store.database import bytea_array, load_temp_table, lock_sync
from ml_connector.vault import Vault

_COLUMNS = {
    "email_key": "bytea", "kind": "text", "before": "text", "after": "text",
    "happened_at": "timestamptz", "payload": "bytea",
}  # fmt: skip
_STATUSES = [status.value for status in Status]


def identity(sync: str, email_key: bytes, kind: str) -> str:
    """Return the identity that an event's payload is encrypted for."""
    return f"member_events/{sync}/{email_key.hex()}/{kind}"


def record(
    connection: Connection,
    events: Iterable[MemberEvent],
    *,
    sync: str,
    source: str,
    vault: Vault,
) -> int:
    """Record new events; return how many. ``source`` is ``poll`` or ``webhook``."""
    lock_sync(connection, sync=sync)
    rows = (
        (
            event.email_key,
            event.kind,
            event.before,
            event.after,
            event.happened_at,
            vault.encrypt(event.detail, identity(sync, event.email_key, event.kind))
            if event.detail
            else None,
        )
        for event in events
    )
    if not load_temp_table(connection, "seen_events", _COLUMNS, rows):
        return 0
    return record_seen(connection, sync=sync, source=source)


def record_seen(connection: Connection, *, sync: str, source: str) -> int:
    """Record the new events in the temporary table ``seen_events``; return how many.

    Each event raises its contact's ``news``. A change of status also sets ``status_since``.
    """
    return int(
        connection.execute(
            text("""
        WITH fresh AS (
            INSERT INTO ml_connector.member_events
                  (sync, email_key, kind, before, after, happened_at, source, payload)
            SELECT :sync, email_key, kind, before, after, happened_at, :source, payload
            FROM seen_events ORDER BY happened_at, kind
            ON CONFLICT (sync, email_key, kind, happened_at) DO NOTHING
            RETURNING email_key, kind, happened_at
        ), told AS (
            UPDATE ml_connector.contacts k
            SET news = k.news + f.events, status_since = coalesce(f.since, k.status_since)
            FROM (SELECT email_key, count(*) AS events,
                         max(happened_at) FILTER (WHERE kind = ANY(:statuses)) AS since
                  FROM fresh GROUP BY email_key) f
            WHERE k.sync = :sync AND k.email_key = f.email_key
        )
        SELECT count(*) FROM fresh"""),
            {"sync": sync, "source": source, "statuses": _STATUSES},
        ).scalar_one()
    )


def newest(
    connection: Connection, *, sync: str, keys: Sequence[bytes], limit: int, vault: Vault
) -> list[MemberEvent]:
    """Return up to ``limit`` events of several contacts together, newest first."""
    rows = connection.execute(
        text("""SELECT id, email_key, kind, before, after, happened_at, payload
                FROM ml_connector.member_events
                WHERE sync = :sync AND email_key = ANY(:keys)
                ORDER BY happened_at DESC, id DESC LIMIT :limit"""),
        {"sync": sync, "keys": bytea_array(keys), "limit": limit},
    ).all()
    return [
        MemberEvent(
            email_key=bytes(row.email_key),
            kind=row.kind,
            before=row.before,
            after=row.after,
            happened_at=row.happened_at,
            detail=vault.decrypt(row.payload, identity(sync, bytes(row.email_key), row.kind))
            if row.payload
            else None,
            id=row.id,
        )
        for row in rows
    ]


def mark_written(
    connection: Connection, *, sync: str, keys: Collection[bytes], until: datetime
) -> None:
    """Record that events seen up to ``until`` are now written to the QuickBooks customer."""
    connection.execute(
        text("""UPDATE ml_connector.member_events SET written_to_quickbooks_at = clock_timestamp()
                WHERE sync = :sync AND email_key = ANY(:keys) AND seen_at <= :until
                  AND written_to_quickbooks_at IS NULL"""),
        {"sync": sync, "keys": bytea_array(keys), "until": until},
    )


def counts(connection: Connection, *, sync: str, since: datetime) -> dict[str, int]:
    """Return the number of events seen since ``since``, by kind."""
    rows = connection.execute(
        text("""SELECT kind, count(*) AS events FROM ml_connector.member_events
                WHERE sync = :sync AND seen_at >= :since GROUP BY kind ORDER BY kind"""),
        {"sync": sync, "since": since},
    ).all()
    return {row.kind: row.events for row in rows}
