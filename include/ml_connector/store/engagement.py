"""Engagement: merge what campaign reports say of contacts, and classify them (``Engagement``)."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, text

from ml_connector.model import Engagement
from ml_connector.store import member_events
from ml_connector.store.database import load_temp_table, lock_sync

STATE = f"coalesce(engagement, '{Engagement.NEVER_MAILED}')"
"""SQL: a contact's engagement. NULL saves an update of each contact of a first load."""


class Reported(NamedTuple):
    """The latest of each kind that a report lists for one address.

    ``mailed_at``: when the campaign was sent.
    """

    email_key: bytes
    mailed_at: datetime
    engaged_at: datetime | None
    clicked_at: datetime | None
    soft_bounce_at: datetime | None
    hard_bounce_at: datetime | None


def merge(connection: Connection, rows: Iterable[Reported], *, sync: str) -> int:
    """Keep the latest of stored and reported times; return how many contacts changed.

    Idempotent: merging the same report twice changes nothing. Addresses without a contact are
    ignored. A campaign counts as sent to a contact unless one sent as late or later was counted, so
    reports are merged in the order of their campaigns.
    """
    lock_sync(connection, sync=sync)
    types = ("bytea", *["timestamptz"] * 5)
    load_temp_table(connection, "reported", dict(zip(Reported._fields, types, strict=True)), rows)
    return connection.execute(
        text("""
        WITH latest AS (
            SELECT email_key, max(mailed_at) AS mailed_at, max(engaged_at) AS engaged_at,
                   max(clicked_at) AS clicked_at, max(soft_bounce_at) AS soft_bounce_at, max(hard_bounce_at) AS hard_bounce_at
            FROM reported GROUP BY email_key)
        UPDATE ml_connector.contacts k
        SET mailed = k.mailed + CASE WHEN k.last_mailed_at >= r.mailed_at THEN 0 ELSE 1 END,
            last_mailed_at = greatest(k.last_mailed_at, r.mailed_at),
            last_engaged_at = greatest(k.last_engaged_at, r.engaged_at),
            last_clicked_at = greatest(k.last_clicked_at, r.clicked_at),
            last_soft_bounce_at = greatest(k.last_soft_bounce_at, r.soft_bounce_at),
            last_hard_bounce_at = greatest(k.last_hard_bounce_at, r.hard_bounce_at)
        FROM latest r WHERE k.sync = :sync AND k.email_key = r.email_key
          AND (greatest(k.last_mailed_at, r.mailed_at),
               greatest(k.last_engaged_at, r.engaged_at),
               greatest(k.last_clicked_at, r.clicked_at),
               greatest(k.last_soft_bounce_at, r.soft_bounce_at),
               greatest(k.last_hard_bounce_at, r.hard_bounce_at))
              IS DISTINCT FROM (k.last_mailed_at, k.last_engaged_at, k.last_clicked_at,
                                k.last_soft_bounce_at, k.last_hard_bounce_at)"""),
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
               WHEN 'never_opened' THEN last_soft_bounce_at + CAST(:window AS interval)
               WHEN 'quiet' THEN last_engaged_at + CAST(:window AS interval) END, :now) AS happened_at,
           CAST(NULL AS bytea) AS payload
    FROM (
        SELECT email_key, status, engagement AS was,
               CASE WHEN status = 'cleaned' AND complained THEN 'complained'
                    WHEN status = 'cleaned'
                         OR last_hard_bounce_at >= coalesce(last_engaged_at, '-infinity')
                         THEN 'bounced'
                    WHEN last_soft_bounce_at > coalesce(last_engaged_at, '-infinity')
                         AND last_soft_bounce_at > :since THEN 'bouncing'
                    WHEN last_engaged_at > :since THEN 'engaged'
                    WHEN last_engaged_at IS NOT NULL OR open_rate > 0 OR click_rate > 0
                         OR engagement = 'quiet' THEN 'quiet'
                    WHEN mailed > 0 OR last_soft_bounce_at IS NOT NULL THEN 'never_opened'
               END AS becomes,
               last_engaged_at, last_soft_bounce_at, last_hard_bounce_at
        FROM ml_connector.contacts
        WHERE sync = :sync AND (engagement IS NOT NULL OR mailed > 0 OR open_rate > 0
               OR click_rate > 0 OR last_engaged_at IS NOT NULL OR last_soft_bounce_at IS NOT NULL
               OR last_hard_bounce_at IS NOT NULL OR status = 'cleaned')) judged
    WHERE becomes IS DISTINCT FROM was
""")


def classify(connection: Connection, *, sync: str, now: datetime, window: timedelta) -> int:
    """Store each contact's current engagement, and each change as an event; return how many.

    ``engaged``: opened or clicked within ``window``. ``quiet``: did so before, or Mailchimp's rates
    say so. ``bouncing``: soft bounces since. ``bounced``: a hard bounce since, or Mailchimp cleaned
    the address. That is an event of its own, like a complaint. A contact that was only sent mail
    did nothing: no event. Neither does one whose rates alone say that it opened some.
    """
    lock_sync(connection, sync=sync)
    connection.execute(_JUDGE, {"sync": sync, "now": now, "since": now - window, "window": window})
    connection.execute(
        text("""UPDATE ml_connector.contacts k SET engagement = j.kind FROM seen_events j
                WHERE k.sync = :sync AND k.email_key = j.email_key"""),
        {"sync": sync},
    )
    connection.execute(
        text("""DELETE FROM seen_events
                WHERE status = 'cleaned' OR kind IS NULL
                   OR kind IN ('quiet', 'never_opened')
                      AND coalesce(before, 'never_opened') IN ('quiet', 'never_opened')""")
    )
    changed = connection.execute(text("SELECT count(*) FROM seen_events")).scalar_one()
    member_events.record_seen(connection, sync=sync, source="poll")
    return int(changed)
