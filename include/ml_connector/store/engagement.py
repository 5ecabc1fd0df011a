"""Engagement: merge opens, clicks and bounces from campaign reports, and classify contacts."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, text

from ml_connector.store import member_events
from ml_connector.store.database import load_temp_table, lock_sync


class Reported(NamedTuple):
    """The latest of each kind that a report lists for one address."""

    email_key: bytes
    engaged_at: datetime | None
    soft_bounce_at: datetime | None
    hard_bounce_at: datetime | None


def merge(connection: Connection, rows: Iterable[Reported], *, sync: str) -> int:
    """Keep the latest of stored and reported times; return how many contacts changed.

    Idempotent: merging the same report twice changes nothing. Addresses without a contact are
    ignored.
    """
    lock_sync(connection, sync=sync)
    types = ("bytea", *["timestamptz"] * 3)
    load_temp_table(connection, "reported", dict(zip(Reported._fields, types, strict=True)), rows)
    return connection.execute(
        text("""
        WITH latest AS (
            SELECT email_key, max(engaged_at) AS engaged_at,
                   max(soft_bounce_at) AS soft_bounce_at, max(hard_bounce_at) AS hard_bounce_at
            FROM reported GROUP BY email_key)
        UPDATE ml_connector.contacts k
        SET last_engaged_at = greatest(k.last_engaged_at, r.engaged_at),
            last_soft_bounce_at = greatest(k.last_soft_bounce_at, r.soft_bounce_at),
            last_hard_bounce_at = greatest(k.last_hard_bounce_at, r.hard_bounce_at)
        FROM latest r WHERE k.sync = :sync AND k.email_key = r.email_key
          AND (greatest(k.last_engaged_at, r.engaged_at),
               greatest(k.last_soft_bounce_at, r.soft_bounce_at),
               greatest(k.last_hard_bounce_at, r.hard_bounce_at))
              IS DISTINCT FROM (k.last_engaged_at, k.last_soft_bounce_at, k.last_hard_bounce_at)"""),
        {"sync": sync},
    ).rowcount


# Creates the columns that member_events.keep_seen reads.
_JUDGE = text("""
    CREATE TEMP TABLE seen_events ON COMMIT DROP AS
    SELECT email_key, becomes AS kind, was AS before, becomes AS after, status,
           coalesce(CASE becomes
               WHEN 'engaged' THEN last_engaged_at
               WHEN 'bouncing' THEN last_soft_bounce_at
               WHEN 'bounced' THEN last_hard_bounce_at
               WHEN 'quiet' THEN last_engaged_at + CAST(:window AS interval) END, :now) AS happened_at,
           CAST(NULL AS bytea) AS payload
    FROM (
        SELECT email_key, status, engagement AS was,
               CASE WHEN status = 'cleaned'
                         OR last_hard_bounce_at >= coalesce(last_engaged_at, '-infinity')
                         THEN 'bounced'
                    WHEN last_soft_bounce_at > coalesce(last_engaged_at, '-infinity')
                         AND last_soft_bounce_at > :since THEN 'bouncing'
                    WHEN last_engaged_at > :since THEN 'engaged'
                    WHEN last_engaged_at IS NOT NULL OR engagement IS NOT NULL THEN 'quiet'
               END AS becomes,
               last_engaged_at, last_soft_bounce_at, last_hard_bounce_at
        FROM ml_connector.contacts
        WHERE sync = :sync AND (engagement IS NOT NULL OR last_engaged_at IS NOT NULL
               OR last_soft_bounce_at IS NOT NULL OR last_hard_bounce_at IS NOT NULL)) judged
    WHERE becomes IS DISTINCT FROM was
""")


def classify(connection: Connection, *, sync: str, now: datetime, window: timedelta) -> int:
    """Store each contact's current engagement, and each change as an event; return how many.

    ``engaged``: opened or clicked within ``window``. ``quiet``: did so before. ``bouncing``: soft
    bounces since. ``bounced``: a hard bounce since, or Mailchimp cleaned the address, which is an
    event of its own.
    """
    lock_sync(connection, sync=sync)
    connection.execute(_JUDGE, {"sync": sync, "now": now, "since": now - window, "window": window})
    connection.execute(
        text("""UPDATE ml_connector.contacts k SET engagement = j.kind FROM seen_events j
                WHERE k.sync = :sync AND k.email_key = j.email_key"""),
        {"sync": sync},
    )
    connection.execute(text("DELETE FROM seen_events WHERE status = 'cleaned' OR kind IS NULL"))
    changed = connection.execute(text("SELECT count(*) FROM seen_events")).scalar_one()
    member_events.record_seen(connection, sync=sync, source="poll")
    return int(changed)
